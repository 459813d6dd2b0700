//! What a batch does to one series: which chunks it writes and how the summary changes.
//!
//! Invariant: points stand in the order in which they were logged, within a chunk and from chunk to chunk; a chunk only ever
//! grows at its end, so the first n points of a chunk stay what they were. Pure: it knows neither database nor contract.

use uuid::Uuid;

use super::{
    branch::first_number,
    codec::{self, Corrupt, MAX_POINTS},
    points::Points,
};
use crate::tracking::entity::{metric_chunk, metric_series};

/// A chunk with at most this many points takes the next ones too; so single points do not become chunks of their own, and
/// little is written twice.
pub(crate) const OPEN_TAIL: i64 = 512;

/// Points of one entry of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Empty: to be counted on from the last step of the series.
    pub(crate) steps: Vec<i64>,
    pub(crate) timestamps_us: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// A series as a batch finds it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Base {
    pub(crate) series: Option<metric_series::Model>,
    /// The last chunk, where it takes more points and belongs to the branch that is logged to.
    pub(crate) tail: Option<Vec<u8>>,
}

/// A series as a batch leaves it.
#[derive(Debug)]
pub(crate) struct Appended {
    /// Where the series ended when the batch found it.
    pub(crate) base: End,
    /// The new row of the series.
    pub(crate) series: metric_series::Model,
    /// Chunks to write; the first may replace the tail.
    pub(crate) chunks: Vec<metric_chunk::Model>,
}

/// Where a series ends. It changes with every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    count: i64,
    tail_number: i64,
    tail_count: i64,
}

impl End {
    /// Where this series ends, which need not exist.
    pub(crate) fn of(series: Option<&metric_series::Model>) -> Self {
        Self {
            count: series.map_or(0, |series| series.count),
            tail_number: series.map_or(-1, |series| series.tail_number),
            tail_count: series.map_or(0, |series| series.tail_count),
        }
    }
}

/// Why points cannot be appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// Counting on leads out of range.
    #[error("the last step of this series is the greatest there is; give the steps")]
    StepsUsedUp,
    /// The tail cannot be read.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// Appends the segments, which hold at least one point together, to a branch.
pub(crate) fn append(
    run_id: Uuid,
    key: &str,
    branch: i32,
    base: &Base,
    segments: &[Segment],
) -> Result<Appended, Refused> {
    let last_step = base
        .series
        .as_ref()
        .filter(|series| series.count > 0)
        .map(|series| series.last_step);
    let new = resolve_steps(last_step, segments)?;
    let mut series = base
        .series
        .clone()
        .unwrap_or_else(|| empty_series(run_id, key));
    let found = End::of(base.series.as_ref());
    summarize(&mut series, &new);
    let (first_number, points) = match &base.tail {
        Some(tail) => {
            let mut points = codec::decode(tail)?;
            points.steps.extend(&new.steps);
            points.timestamps_us.extend(&new.timestamps_us);
            points.values.extend(&new.values);
            (series.tail_number, points)
        }
        None => (first_number(branch).max(series.tail_number + 1), new),
    };
    let chunks = cut(series.id, first_number, &points);
    if let Some(tail) = chunks.last() {
        series.tail_number = tail.number;
        series.tail_count = tail.count;
    }
    Ok(Appended {
        base: found,
        series,
        chunks,
    })
}

/// One column of points; steps that were not given count on from the greatest so far.
fn resolve_steps(mut last_step: Option<i64>, segments: &[Segment]) -> Result<Points, Refused> {
    let mut points = Points::default();
    for segment in segments {
        for (index, value) in segment.values.iter().enumerate() {
            let step = match (segment.steps.get(index), last_step) {
                (Some(step), _) => *step,
                (None, Some(last)) => last.checked_add(1).ok_or(Refused::StepsUsedUp)?,
                (None, None) => 0,
            };
            last_step = last_step.max(Some(step));
            points.push(
                step,
                segment
                    .timestamps_us
                    .get(index)
                    .copied()
                    .unwrap_or_default(),
                *value,
            );
        }
    }
    Ok(points)
}

fn empty_series(run_id: Uuid, key: &str) -> metric_series::Model {
    metric_series::Model {
        id: Uuid::now_v7(),
        run_id,
        key: key.to_owned(),
        last_bits: 0,
        last_value: None,
        last_step: i64::MIN,
        last_timestamp_us: i64::MIN,
        min_value: None,
        max_value: None,
        count: 0,
        tail_number: -1,
        tail_count: 0,
    }
}

/// The series before its first point.
pub(super) fn without_points(series: &metric_series::Model) -> metric_series::Model {
    metric_series::Model {
        id: series.id,
        tail_number: series.tail_number,
        tail_count: series.tail_count,
        ..empty_series(series.run_id, &series.key)
    }
}

/// Adds points, in the order in which they were logged, to a summary. The last value is the one of the greatest step, then of the greatest time, then the one logged last.
pub(super) fn summarize(series: &mut metric_series::Model, points: &Points) {
    for (step, timestamp_us, value) in points.iter() {
        if (step, timestamp_us) >= (series.last_step, series.last_timestamp_us) {
            (series.last_step, series.last_timestamp_us) = (step, timestamp_us);
            series.last_bits = value.to_bits().cast_signed();
            series.last_value = (!value.is_nan()).then_some(value);
        }
        if !value.is_nan() {
            series.min_value = Some(series.min_value.map_or(value, |min| min.min(value)));
            series.max_value = Some(series.max_value.map_or(value, |max| max.max(value)));
        }
    }
    series.count += i64::try_from(points.len()).unwrap_or(i64::MAX);
}

/// Chunks of at most [`MAX_POINTS`] points.
fn cut(series_id: Uuid, first_number: i64, points: &Points) -> Vec<metric_chunk::Model> {
    (first_number..)
        .zip((0..points.len()).step_by(MAX_POINTS))
        .map(|(number, start)| {
            let part = points.slice(start..points.len().min(start + MAX_POINTS));
            metric_chunk::Model {
                series_id,
                number,
                min_step: part.steps.iter().copied().min().unwrap_or_default(),
                max_step: part.steps.iter().copied().max().unwrap_or_default(),
                count: i64::try_from(part.len()).unwrap_or(i64::MAX),
                data: codec::encode(&part),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(steps: &[i64], timestamps_us: &[i64], values: &[f64]) -> Segment {
        Segment {
            steps: steps.to_vec(),
            timestamps_us: timestamps_us.to_vec(),
            values: values.to_vec(),
        }
    }

    fn next(appended: &Appended) -> Base {
        let open = appended.series.tail_count <= OPEN_TAIL;
        let tail = appended
            .chunks
            .last()
            .filter(|_| open)
            .map(|chunk| chunk.data.clone());
        Base {
            series: Some(appended.series.clone()),
            tail,
        }
    }

    fn append_all(batches: &[Vec<Segment>]) -> Vec<Appended> {
        let mut base = Base::default();
        let mut done = Vec::new();
        for batch in batches {
            let appended = append(Uuid::nil(), "m", 0, &base, batch).expect("fits");
            base = next(&appended);
            done.push(appended);
        }
        done
    }

    #[test]
    fn steps_count_on_from_the_greatest() {
        let done = append_all(&[
            vec![segment(&[], &[1, 2], &[0.1, 0.2])],
            vec![
                segment(&[7, 3], &[3, 4], &[0.7, 0.3]),
                segment(&[], &[5], &[0.8]),
            ],
        ]);
        let points = codec::decode(&done[1].chunks[0].data).expect("decodes");
        assert_eq!(points.steps, [0, 1, 7, 3, 8]);
        assert_eq!(done[1].chunks[0].number, 0, "the open tail takes them");
        assert_eq!((done[1].base.count, done[1].series.count), (2, 5));
        assert_eq!(
            (done[1].chunks[0].min_step, done[1].chunks[0].max_step),
            (0, 8)
        );
    }

    #[test]
    fn last_is_by_step_then_time_then_order() {
        let last = |segments: Vec<Segment>| {
            f64::from_bits(append_all(&[segments])[0].series.last_bits.cast_unsigned())
        };
        assert_eq!(last(vec![segment(&[2, 1], &[0, 9], &[1.0, 2.0])]), 1.0);
        assert_eq!(last(vec![segment(&[1, 1], &[9, 5], &[1.0, 2.0])]), 1.0);
        assert_eq!(last(vec![segment(&[1, 1], &[5, 5], &[1.0, 2.0])]), 2.0);
        assert_eq!(last(vec![segment(&[i64::MIN], &[i64::MIN], &[3.0])]), 3.0);
        assert!(last(vec![segment(&[1, 2], &[5, 5], &[1.0, f64::NAN])]).is_nan());
    }

    #[test]
    fn nan_counts_but_is_no_extreme() {
        let done = append_all(&[
            vec![segment(&[], &[0, 0, 0], &[f64::NAN, 2.0, -1.0])],
            vec![segment(&[], &[0], &[f64::NAN])],
        ]);
        let series = &done[1].series;
        assert_eq!(
            (
                series.min_value,
                series.max_value,
                series.count,
                series.last_value
            ),
            (Some(-1.0), Some(2.0), 4, None)
        );
        let only_nan = append_all(&[vec![segment(&[], &[0], &[f64::NAN])]]);
        assert_eq!(
            (only_nan[0].series.min_value, only_nan[0].series.max_value),
            (None, None)
        );
    }

    #[test]
    fn chunks_are_bounded_and_full_tails_are_closed() {
        let many = vec![1.0; MAX_POINTS + 600];
        let times = vec![0; many.len()];
        let done = append_all(&[
            vec![segment(&[], &times, &many)],
            vec![segment(&[], &[0], &[2.0])],
            vec![segment(&[], &[0], &[3.0])],
        ]);
        assert_eq!(
            done[0]
                .chunks
                .iter()
                .map(|c| (c.number, c.count))
                .collect::<Vec<_>>(),
            [(0, 65_536), (1, 600)]
        );
        assert_eq!(
            done[1]
                .chunks
                .iter()
                .map(|c| (c.number, c.count))
                .collect::<Vec<_>>(),
            [(2, 1)]
        );
        assert_eq!(
            done[2]
                .chunks
                .iter()
                .map(|c| (c.number, c.count))
                .collect::<Vec<_>>(),
            [(2, 2)]
        );
    }

    #[test]
    fn counting_past_the_end_is_refused() {
        let refused = append(
            Uuid::nil(),
            "m",
            0,
            &Base::default(),
            &[
                segment(&[i64::MAX], &[0], &[1.0]),
                segment(&[], &[0], &[1.0]),
            ],
        );
        assert!(matches!(refused, Err(Refused::StepsUsedUp)));
    }
}
