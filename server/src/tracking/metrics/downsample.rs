//! Downsampling: what a chart needs of many points.
//!
//! Invariant: the range of steps is cut into buckets of equal width; of each bucket its first, least, greatest and last point
//! stay, and the first NaN, so that a gap stays visible; each once, by step, then as logged. The result does not depend on how
//! the points were cut into parts or in which order the parts are added. Pure.

use super::points::Points;

/// A point, with its place among all points of the series as they were logged.
#[derive(Debug, Clone, Copy)]
struct Kept {
    step: i64,
    place: u64,
    timestamp_us: i64,
    value: f64,
}

impl Kept {
    fn order(&self) -> (i64, u64) {
        (self.step, self.place)
    }
}

/// What stays of one bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    first: Kept,
    last: Kept,
    /// NaN only when there is nothing else.
    least: Kept,
    greatest: Kept,
    nan: Option<Kept>,
}

impl Bucket {
    fn of(point: Kept) -> Self {
        Self {
            first: point,
            last: point,
            least: point,
            greatest: point,
            nan: Some(point).filter(|point| point.value.is_nan()),
        }
    }

    fn add(&mut self, other: &Self) {
        if other.first.order() < self.first.order() {
            self.first = other.first;
        }
        if other.last.order() > self.last.order() {
            self.last = other.last;
        }
        self.least = better(self.least, other.least, |new, old| new < old);
        self.greatest = better(self.greatest, other.greatest, |new, old| new > old);
        self.nan = match (self.nan, other.nan) {
            (Some(old), Some(new)) if new.order() < old.order() => Some(new),
            (old, new) => old.or(new),
        };
    }

    /// Adds a point that comes behind all others.
    fn push(&mut self, point: Kept) {
        self.last = point;
        if point.value < self.least.value || (self.least.value.is_nan() && !point.value.is_nan()) {
            self.least = point;
        }
        if point.value > self.greatest.value
            || (self.greatest.value.is_nan() && !point.value.is_nan())
        {
            self.greatest = point;
        }
        if self.nan.is_none() && point.value.is_nan() {
            self.nan = Some(point);
        }
    }
}

/// The better of two by value; a number is better than NaN, and of equals the earlier one.
fn better(old: Kept, new: Kept, wins: impl Fn(f64, f64) -> bool) -> Kept {
    let earlier = new.order() < old.order();
    let take = match (old.value.is_nan(), new.value.is_nan()) {
        (true, true) => earlier,
        (true, false) => true,
        (false, true) => false,
        (false, false) => wins(new.value, old.value) || (earlier && !wins(old.value, new.value)),
    };
    if take { new } else { old }
}

/// How a range of steps is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    first_step: i64,
    /// Steps in the range.
    width: u128,
    buckets: u32,
}

impl Cut {
    /// Cuts the steps from `first` to `last`, both inclusive, into at most `buckets`.
    pub(super) fn new(first: i64, last: i64, buckets: u32) -> Self {
        let width = i128::from(last) - i128::from(first) + 1;
        Self {
            first_step: first,
            width: u128::try_from(width).unwrap_or(1).max(1),
            buckets: buckets.max(1),
        }
    }

    fn bucket(&self, step: i64) -> usize {
        let at = step.abs_diff(self.first_step);
        let number = match u64::try_from(self.width) {
            // The usual case, without wide division.
            Ok(width) if at < u64::MAX / u64::from(self.buckets) => {
                at * u64::from(self.buckets) / width
            }
            _ => u64::try_from(u128::from(at) * u128::from(self.buckets) / self.width)
                .unwrap_or(u64::MAX),
        };
        usize::try_from(number.min(u64::from(self.buckets) - 1)).unwrap_or_default()
    }

    /// The last step of a bucket.
    fn end_step(&self, bucket: usize) -> i64 {
        let behind = (bucket as u128 + 1) * self.width;
        let at = (behind - 1) / u128::from(self.buckets);
        let end = i128::from(self.first_step) + i128::try_from(at).unwrap_or(i128::MAX >> 1);
        i64::try_from(end).unwrap_or(i64::MAX)
    }
}

/// What stays of the points so far.
#[derive(Debug, Default)]
pub(super) struct Downsample {
    /// By number of the bucket; those without points are left out.
    buckets: Vec<(usize, Bucket)>,
}

impl Downsample {
    /// Reduces points that stand as they were logged; `place` is that of the first of them. Only steps of the range count.
    pub(super) fn reduce(
        cut: Cut,
        place: u64,
        points: &Points,
        steps: &std::ops::RangeInclusive<i64>,
    ) -> Self {
        let mut this = Self::default();
        let rising = points.steps.is_sorted();
        // While steps rise, a division is needed only where a bucket begins.
        let mut end_step = None;
        for (place, (step, timestamp_us, value)) in (place..).zip(points.iter()) {
            if !steps.contains(&step) {
                continue;
            }
            let point = Kept {
                step,
                place,
                timestamp_us,
                value,
            };
            if let Some((_, kept)) = this.buckets.last_mut()
                && end_step.is_some_and(|end_step| step <= end_step)
            {
                kept.push(point);
                continue;
            }
            let bucket = cut.bucket(step);
            end_step = rising.then(|| cut.end_step(bucket));
            match this.buckets.last_mut() {
                Some((last, kept)) if *last == bucket => kept.add(&Bucket::of(point)),
                _ => this.buckets.push((bucket, Bucket::of(point))),
            }
        }
        if !rising {
            this.buckets.sort_by_key(|(number, _)| *number);
            this.join_equal();
        }
        this
    }

    /// Buckets of one number stand beside each other; makes them one.
    fn join_equal(&mut self) {
        self.buckets
            .dedup_by(|(number, next), (kept_number, kept)| {
                let equal = number == kept_number;
                if equal {
                    kept.add(next);
                }
                equal
            });
    }

    /// Adds other points of the same cut.
    pub(super) fn add(&mut self, mut other: Self) {
        let behind = match (self.buckets.last(), other.buckets.first()) {
            (Some((last, _)), Some((first, _))) => last <= first,
            _ => true,
        };
        self.buckets.append(&mut other.buckets);
        if !behind {
            self.buckets.sort_by_key(|(number, _)| *number);
        }
        self.join_equal();
    }

    /// What stays, by step, then as logged.
    pub(super) fn finish(self) -> Points {
        let mut kept: Vec<Kept> = Vec::with_capacity(self.buckets.len() * 4);
        for (_, bucket) in self.buckets {
            let from = kept.len();
            kept.extend([bucket.first, bucket.least, bucket.greatest, bucket.last]);
            kept.extend(bucket.nan);
            kept[from..].sort_by_key(Kept::order);
        }
        kept.dedup_by_key(|point| point.order());
        let mut points = Points::default();
        for point in kept {
            points.push(point.step, point.timestamp_us, point.value);
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain meaning, point by point.
    fn oracle(points: &[(i64, f64)], first: i64, last: i64, buckets: u32) -> Vec<usize> {
        let width = i128::from(last) - i128::from(first) + 1;
        let mut order: Vec<usize> = (0..points.len())
            .filter(|index| (first..=last).contains(&points[*index].0))
            .collect();
        order.sort_by_key(|index| points[*index].0);
        let mut kept = Vec::new();
        for number in 0..i128::from(buckets) {
            let inside: Vec<usize> = order
                .iter()
                .copied()
                .filter(|index| {
                    let at = i128::from(points[*index].0) - i128::from(first);
                    at * i128::from(buckets) / width == number
                })
                .collect();
            let value = |index: &usize| points[*index].1;
            let mut of_bucket: Vec<usize> = Vec::new();
            of_bucket.extend(inside.first());
            of_bucket.extend(inside.last());
            of_bucket.extend(inside.iter().find(|index| value(index).is_nan()));
            let numbers = || inside.iter().filter(|index| !value(index).is_nan());
            let least = numbers().map(value).reduce(f64::min);
            let greatest = numbers().map(value).reduce(f64::max);
            of_bucket.extend(least.and_then(|least| numbers().find(|i| value(i) == least)));
            of_bucket.extend(greatest.and_then(|most| numbers().find(|i| value(i) == most)));
            kept.extend(inside.into_iter().filter(|index| of_bucket.contains(index)));
        }
        kept
    }

    fn some_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (0i32..6).prop_map(f64::from),
            1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]),
        ]
    }

    proptest! {
        #[test]
        fn equals_the_oracle(
            points in prop::collection::vec((-30i64..30, some_value()), 0..80),
            sorted in any::<bool>(),
            cuts in prop::collection::vec(1usize..9, 1..10),
            bounds in (-35i64..35, 0i64..60),
            buckets in 1u32..12,
            turn in any::<bool>(),
        ) {
            let mut points = points;
            if sorted {
                points.sort_by_key(|(step, _)| *step);
            }
            let (first, last) = (bounds.0, bounds.0 + bounds.1);
            let cut = Cut::new(first, last, buckets);
            let mut parts = Vec::new();
            let mut start = 0;
            for count in cuts.iter().cycle() {
                if start >= points.len() {
                    break;
                }
                let end = points.len().min(start + count);
                let mut part = Points::default();
                for (index, (step, value)) in points.iter().enumerate().take(end).skip(start) {
                    part.push(*step, index as i64, *value);
                }
                parts.push(Downsample::reduce(cut, start as u64, &part, &(first..=last)));
                start = end;
            }
            if turn {
                parts.reverse();
            }
            let mut all = Downsample::default();
            for part in parts {
                all.add(part);
            }
            let kept: Vec<usize> = all.finish().timestamps_us.iter().map(|at| *at as usize).collect();
            prop_assert_eq!(kept, oracle(&points, first, last, buckets));
        }
    }

    #[test]
    fn the_widest_range_is_cut() {
        let cut = Cut::new(i64::MIN, i64::MAX, 10);
        assert_eq!((cut.bucket(i64::MIN), cut.bucket(i64::MAX)), (0, 9));
        assert_eq!(cut.bucket(0), 5);
        assert_eq!(cut.end_step(9), i64::MAX);
        for cut in [cut, Cut::new(-7, 40, 5), Cut::new(0, 3, 100)] {
            for bucket in 0..4 {
                let end = cut.end_step(bucket);
                assert!(cut.bucket(end) <= bucket && cut.bucket(end + 1) > bucket);
            }
        }
        assert_eq!(Cut::new(7, 7, 100).bucket(7), 0);
    }
}
