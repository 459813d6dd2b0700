//! What batches do to one series: which chunks they write and how the summary changes.
//!
//! Invariant: points stand in the order in which they were logged, within a chunk and from chunk to chunk; a chunk only ever
//! grows at its end, so the first n points of a chunk stay what they were. Pure: it knows neither database nor contract.

use uuid::Uuid;

use super::{
    branch::first_number,
    codec::{self, Corrupt, Effort, MAX_POINTS},
    pieces::{Piece, Ready, Segment, Steps},
    points::Points,
    summary,
};
use crate::tracking::entity::{metric_chunk, metric_series};

/// A chunk with at most this many points takes the next ones too, so that single points do not become chunks of their own. So
/// few are stored as they are, which makes taking more cheap.
pub(crate) const OPEN_TAIL: i64 = 256;

/// A series as the batches find it.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) series: Option<metric_series::Model>,
    /// The last chunk, where it takes more points and belongs to the branch that is logged to.
    pub(crate) tail: Option<Vec<u8>>,
}

/// Why points cannot be appended.
#[derive(Debug, thiserror::Error)]
#[error("the last step of this series is the greatest there is; give the steps")]
pub(crate) struct StepsUsedUp;

/// A series that is being appended to.
#[derive(Debug)]
pub(crate) struct Appender {
    series: metric_series::Model,
    /// The number of the next chunk.
    next: i64,
    /// The last chunk as it is stored, until it is needed.
    tail: Option<Vec<u8>>,
    /// Points that are not in a chunk yet.
    open: Points,
    /// Chunks to write; the first may replace the tail.
    chunks: Vec<metric_chunk::Model>,
    /// Something of the row of the series has changed.
    changed: bool,
}

impl Appender {
    /// Begins to append to a branch.
    pub(crate) fn new(run_id: Uuid, key: &str, branch: i32, base: Base) -> Self {
        let series = base
            .series
            .unwrap_or_else(|| summary::empty_series(run_id, key));
        let next = match base.tail {
            Some(_) => series.tail_number,
            None => first_number(branch).max(series.tail_number + 1),
        };
        Self {
            series,
            next,
            tail: base.tail,
            open: Points::default(),
            chunks: Vec::new(),
            changed: false,
        }
    }

    /// Id of the series.
    pub(crate) fn series_id(&self) -> Uuid {
        self.series.id
    }

    /// Number of the chunk that was written last, before this.
    pub(crate) fn tail_number(&self) -> i64 {
        self.series.tail_number
    }

    fn last_step(&self) -> Option<i64> {
        (self.series.count > 0).then_some(self.series.last_step)
    }

    /// Asks whether counting on stays in range; nothing is changed.
    pub(crate) fn check(&self, pieces: &[Piece]) -> Result<(), StepsUsedUp> {
        let mut last_step = self.last_step();
        for piece in pieces {
            let (given, count) = match piece {
                Piece::Few(segment) => (segment.steps.iter().copied().max(), segment.values.len()),
                Piece::Many(ready) => match &ready.steps {
                    Steps::Given { max, .. } => (Some(*max), ready.count),
                    Steps::CountedOn => (None, ready.count),
                },
            };
            last_step = match given {
                Some(max) => last_step.max(Some(max)),
                None => {
                    let count = i64::try_from(count).map_err(|_| StepsUsedUp)?;
                    let before = last_step.unwrap_or(-1);
                    Some(before.checked_add(count).ok_or(StepsUsedUp)?)
                }
            };
        }
        Ok(())
    }

    /// Appends pieces that were checked.
    pub(crate) fn push(&mut self, pieces: &[Piece]) -> Result<(), Corrupt> {
        for piece in pieces {
            match piece {
                Piece::Few(segment) => self.push_few(segment)?,
                Piece::Many(ready) => {
                    self.close();
                    self.push_many(ready);
                }
            }
        }
        Ok(())
    }

    /// Takes points into the summary that are stored elsewhere.
    pub(crate) fn note(&mut self, points: impl Iterator<Item = (i64, i64, f64)>) {
        summary::add(&mut self.series, points);
        self.changed = true;
    }

    /// Whether the row of the series is to be written though no chunk is.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    fn push_few(&mut self, segment: &Segment) -> Result<(), Corrupt> {
        if let Some(tail) = self.tail.take() {
            self.open = codec::decode(&tail)?;
        }
        let from = self.open.len();
        let mut last_step = self.last_step();
        for (index, value) in segment.values.iter().enumerate() {
            let step = match (segment.steps.get(index), last_step) {
                (Some(step), _) => *step,
                (None, Some(last)) => last.saturating_add(1),
                (None, None) => 0,
            };
            last_step = last_step.max(Some(step));
            let timestamp_us = segment.timestamps_us.get(index).copied();
            self.open
                .push(step, timestamp_us.unwrap_or_default(), *value);
        }
        summary::add(&mut self.series, self.open.iter().skip(from));
        Ok(())
    }

    fn push_many(&mut self, ready: &Ready) {
        let count = i64::try_from(ready.count).unwrap_or(i64::MAX);
        let first = self
            .last_step()
            .map_or(0, |last_step| last_step.saturating_add(1));
        let (min_step, max_step, data) = match &ready.steps {
            Steps::Given { column, min, max } => (*min, *max, ready.assemble(column)),
            Steps::CountedOn => {
                let column = codec::Column::sequence(first, 1);
                let last = first.saturating_add(count - 1);
                (first, last, ready.assemble(&column))
            }
        };
        let mut summary = ready.summary;
        if matches!(ready.steps, Steps::CountedOn) {
            summary.last_step = max_step;
        }
        summary.add_to(&mut self.series);
        self.chunks.push(metric_chunk::Model {
            series_id: self.series.id,
            number: self.next,
            min_step,
            max_step,
            count,
            data,
        });
        self.next += 1;
    }

    /// Puts the open points into chunks; the next ones come behind.
    fn close(&mut self) {
        if self.tail.take().is_some() {
            // It stays as it is.
            self.next += 1;
        }
        for start in (0..self.open.len()).step_by(MAX_POINTS) {
            let part = self
                .open
                .slice(start..self.open.len().min(start + MAX_POINTS));
            self.chunks
                .push(chunk(self.series.id, self.next, &part, Effort::Fast));
            self.next += 1;
        }
        self.open = Points::default();
    }

    /// The row of the series, and the chunks to write.
    pub(crate) fn finish(mut self) -> (metric_series::Model, Vec<metric_chunk::Model>) {
        self.close();
        if let Some(tail) = self.chunks.last() {
            self.series.tail_number = tail.number;
            self.series.tail_count = tail.count;
        }
        (self.series, self.chunks)
    }
}

/// A chunk of these points.
pub(super) fn chunk(
    series_id: Uuid,
    number: i64,
    points: &Points,
    effort: Effort,
) -> metric_chunk::Model {
    metric_chunk::Model {
        series_id,
        number,
        min_step: points.steps.iter().copied().min().unwrap_or_default(),
        max_step: points.steps.iter().copied().max().unwrap_or_default(),
        count: i64::try_from(points.len()).unwrap_or(i64::MAX),
        data: codec::encode(points, effort),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tracking::metrics::pieces::{MANY, prepare};

    fn segment(steps: &[i64], timestamps_us: &[i64], values: &[f64]) -> Segment {
        Segment {
            steps: steps.to_vec(),
            timestamps_us: timestamps_us.to_vec(),
            values: values.to_vec(),
        }
    }

    /// A series with its chunks, as a database would hold them.
    #[derive(Default)]
    struct Stored {
        series: Option<metric_series::Model>,
        chunks: std::collections::BTreeMap<i64, metric_chunk::Model>,
    }

    impl Stored {
        fn append(&mut self, branch: i32, batches: Vec<Vec<Segment>>) {
            let tail = self.series.as_ref().and_then(|series| {
                let open = series.tail_count <= OPEN_TAIL
                    && super::super::branch::of_chunk(series.tail_number) == Some(branch);
                open.then(|| self.chunks[&series.tail_number].data.clone())
            });
            let base = Base {
                series: self.series.clone(),
                tail,
            };
            let mut appender = Appender::new(Uuid::nil(), "m", branch, base);
            for batch in batches {
                let pieces = prepare(batch);
                appender.check(&pieces).expect("fits");
                appender.push(&pieces).expect("readable");
            }
            let (series, chunks) = appender.finish();
            self.series = Some(series);
            for chunk in chunks {
                self.chunks.insert(chunk.number, chunk);
            }
        }

        fn points(&self) -> Points {
            let mut all = Points::default();
            for chunk in self.chunks.values() {
                let points = codec::decode(&chunk.data).expect("decodes");
                assert_eq!(points.len() as i64, chunk.count);
                assert_eq!(points.steps.iter().min(), Some(&chunk.min_step));
                assert_eq!(points.steps.iter().max(), Some(&chunk.max_step));
                for (step, timestamp_us, value) in points.iter() {
                    all.push(step, timestamp_us, value);
                }
            }
            all
        }

        fn summary(&self) -> &metric_series::Model {
            self.series.as_ref().expect("a series")
        }
    }

    fn stored(batches: Vec<Vec<Segment>>) -> Stored {
        let mut stored = Stored::default();
        for batch in batches {
            stored.append(0, vec![batch]);
        }
        stored
    }

    #[test]
    fn steps_count_on_from_the_greatest() {
        let stored = stored(vec![
            vec![segment(&[], &[1, 2], &[0.1, 0.2])],
            vec![
                segment(&[7, 3], &[3, 4], &[0.7, 0.3]),
                segment(&[], &[5], &[0.8]),
            ],
        ]);
        assert_eq!(stored.points().steps, [0, 1, 7, 3, 8]);
        assert_eq!(stored.chunks.len(), 1, "the open tail takes them");
        assert_eq!(stored.summary().count, 5);
        assert_eq!(
            (stored.chunks[&0].min_step, stored.chunks[&0].max_step),
            (0, 8)
        );
    }

    #[test]
    fn last_is_by_step_then_time_then_order() {
        let last = |segments: Vec<Segment>| {
            f64::from_bits(stored(vec![segments]).summary().last_bits.cast_unsigned())
        };
        assert_eq!(last(vec![segment(&[2, 1], &[0, 9], &[1.0, 2.0])]), 1.0);
        assert_eq!(last(vec![segment(&[1, 1], &[9, 5], &[1.0, 2.0])]), 1.0);
        assert_eq!(last(vec![segment(&[1, 1], &[5, 5], &[1.0, 2.0])]), 2.0);
        assert_eq!(last(vec![segment(&[i64::MIN], &[i64::MIN], &[3.0])]), 3.0);
        assert!(last(vec![segment(&[1, 2], &[5, 5], &[1.0, f64::NAN])]).is_nan());
    }

    #[test]
    fn nan_counts_but_is_no_extreme() {
        let some = stored(vec![
            vec![segment(&[], &[0, 0, 0], &[f64::NAN, 2.0, -1.0])],
            vec![segment(&[], &[0], &[f64::NAN])],
        ]);
        let series = some.summary();
        assert_eq!(
            (
                series.min_value,
                series.max_value,
                series.count,
                series.last_value
            ),
            (Some(-1.0), Some(2.0), 4, None)
        );
        let only_nan = stored(vec![vec![segment(&[], &[0], &[f64::NAN])]]);
        assert_eq!(
            (only_nan.summary().min_value, only_nan.summary().max_value),
            (None, None)
        );
    }

    #[test]
    fn a_new_branch_begins_new_chunks() {
        let mut stored = stored(vec![vec![segment(&[], &[1], &[0.1])]]);
        stored.append(2, vec![vec![segment(&[], &[1], &[0.2])]]);
        stored.append(2, vec![vec![segment(&[], &[1], &[0.3])]]);
        let numbers: Vec<i64> = stored.chunks.keys().copied().collect();
        assert_eq!(numbers, [0, first_number(2)]);
    }

    #[test]
    fn counting_past_the_end_is_refused() {
        let mut appender = Appender::new(Uuid::nil(), "m", 0, Base::default());
        let pieces = prepare(vec![segment(&[i64::MAX], &[0], &[1.0])]);
        appender.check(&pieces).expect("given");
        appender.push(&pieces).expect("fresh");
        let next = prepare(vec![segment(&[], &[0], &[1.0])]);
        assert!(appender.check(&next).is_err());
        let many = prepare(vec![segment(&[], &[0; MANY], &[1.0; MANY])]);
        assert!(appender.check(&many).is_err());
        let given = prepare(vec![segment(&[3], &[0], &[1.0])]);
        assert!(appender.check(&given).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against the plain meaning: a list of points and what is said of it, for any cut into groups and batches.
        #[test]
        fn equals_a_list(
            groups in prop::collection::vec(
                prop::collection::vec(
                    (prop::sample::select(vec![1usize, 3, 200, MANY, MANY + 1, 70_000]), any::<bool>(), -50i64..50),
                    1..4,
                ),
                1..4,
            ),
        ) {
            let mut stored = Stored::default();
            let mut all = Points::default();
            let mut logged = 0i64;
            let mut greatest: Option<i64> = None;
            for group in groups {
                let mut batches = Vec::new();
                for (count, given, start) in group {
                    let mut segment = Segment::default();
                    for index in 0..count as i64 {
                        let step = if given {
                            start + index * 3 % 101
                        } else {
                            greatest.map_or(0, |greatest| greatest + 1)
                        };
                        greatest = greatest.max(Some(step));
                        if given {
                            segment.steps.push(step);
                        }
                        let value = if logged % 7 == 3 { f64::NAN } else { (logged % 13) as f64 };
                        segment.timestamps_us.push(logged);
                        segment.values.push(value);
                        all.push(step, logged, value);
                        logged += 1;
                    }
                    batches.push(vec![segment]);
                }
                stored.append(0, batches);
            }
            let bits = |points: &Points| points.iter().map(|(s, t, v)| (s, t, v.to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(bits(&stored.points()), bits(&all));
            let series = stored.summary();
            let last = all.iter().max_by_key(|(step, at, _)| (*step, *at)).expect("points");
            prop_assert_eq!((series.last_step, series.last_timestamp_us), (last.0, last.1));
            prop_assert_eq!(series.last_bits.cast_unsigned(), last.2.to_bits());
            let least = all.values.iter().copied().filter(|v| !v.is_nan()).reduce(f64::min);
            let greatest = all.values.iter().copied().filter(|v| !v.is_nan()).reduce(f64::max);
            prop_assert_eq!((series.min_value, series.max_value), (least, greatest));
            prop_assert_eq!(series.count, all.len() as i64);
        }
    }
}
