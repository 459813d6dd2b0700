//! Puts the points of chunks that overlap in steps into one order: by step, then as logged.
//!
//! Invariant: only points that a later chunk could still come before are held back. Pure.

use std::ops::RangeInclusive;

use super::points::Points;

#[derive(Debug, Clone, Copy)]
struct Point {
    step: i64,
    chunk: i64,
    timestamp_us: i64,
    value: f64,
}

/// Points on their way into order. Chunks are added by rising lowest step.
#[derive(Debug, Default)]
pub(crate) struct StepMerge {
    held: Vec<Point>,
}

impl StepMerge {
    /// How many points wait.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Adds the next chunk, and moves what is final to the end of `ready`: points with steps below `bound`, the lowest step of
    /// the chunk after it.
    pub(crate) fn pass(
        &mut self,
        chunk: i64,
        mut points: Points,
        range: &RangeInclusive<i64>,
        bound: Option<i64>,
        ready: &mut Points,
    ) {
        let whole = match (points.steps.first(), points.steps.last()) {
            (Some(first), Some(last)) => {
                range.contains(first)
                    && range.contains(last)
                    && bound.is_none_or(|bound| *last < bound)
            }
            _ => true,
        };
        // Nothing comes between: what was logged in order, which is the rule.
        if self.held.is_empty() && whole && points.steps.is_sorted() {
            ready.append(&mut points);
            return;
        }
        self.add(chunk, &points, range);
        ready.append(&mut self.take(bound));
    }

    /// Adds the points of a whole chunk that are in the range of steps.
    fn add(&mut self, chunk: i64, points: &Points, range: &RangeInclusive<i64>) {
        let inside = points.iter().filter(|(step, ..)| range.contains(step));
        self.held
            .extend(inside.map(|(step, timestamp_us, value)| Point {
                step,
                chunk,
                timestamp_us,
                value,
            }));
    }

    /// Takes the points with steps below `bound` (all of them when there is none), in order.
    fn take(&mut self, bound: Option<i64>) -> Points {
        // Stable, so points of one step and chunk stay as they were logged.
        self.held.sort_by_key(|point| (point.step, point.chunk));
        let ready = bound.map_or(self.held.len(), |bound| {
            self.held.partition_point(|point| point.step < bound)
        });
        let mut points = Points::default();
        for point in self.held.drain(..ready) {
            points.push(point.step, point.timestamp_us, point.value);
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain meaning: all points in logged order, sorted by step with a stable sort.
        #[test]
        fn equals_a_stable_sort(
            chunks in prop::collection::vec(prop::collection::vec(-20i64..20, 1..12), 0..10),
            range in (-25i64..25, -25i64..25),
        ) {
            let range = range.0..=range.1;
            let mut logged = 0i64;
            let mut all = Vec::new();
            let mut stored = Vec::new();
            for (number, steps) in (0i64..).zip(&chunks) {
                let mut points = Points::default();
                for step in steps {
                    points.push(*step, logged, logged as f64);
                    all.push((*step, logged));
                    logged += 1;
                }
                stored.push((*steps.iter().min().expect("not empty"), number, points));
            }
            all.retain(|(step, _)| range.contains(step));
            all.sort_by_key(|(step, _)| *step);

            stored.sort_by_key(|(min, number, _)| (*min, *number));
            let mut merge = StepMerge::default();
            let mut merged = Vec::new();
            for (index, (_, number, points)) in stored.iter().enumerate() {
                let bound = stored.get(index + 1).map(|(min, ..)| *min);
                let mut ready = Points::default();
                merge.pass(*number, points.clone(), &range, bound, &mut ready);
                merged.extend(ready.iter().map(|(step, at, _)| (step, at)));
            }
            prop_assert_eq!(merged, all);
        }
    }
}
