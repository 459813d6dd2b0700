//! Points of one series on their way into it: what can be done before anything is known of the series is done here, where
//! nobody else waits for it.
//!
//! Invariant: the pieces of a batch hold its points in order. Pure.

use super::{
    codec::{self, Column, Effort, MAX_POINTS},
    summary::Summary,
};

/// From this many points on, an entry of a batch becomes chunks of its own.
pub(crate) const MANY: usize = 512;

/// Points of one entry of a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    /// Empty: to be counted on from the last step of the series.
    pub(crate) steps: Vec<i64>,
    pub(crate) timestamps_us: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// Some points of a series.
#[derive(Debug)]
pub(crate) enum Piece {
    /// So few that they go into a chunk with others.
    Few(Segment),
    /// Enough for a chunk of their own.
    Many(Ready),
}

/// A chunk that lacks only what depends on the series.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) count: usize,
    pub(crate) steps: Steps,
    pub(crate) summary: Summary,
    timestamps_us: Column,
    values: Column,
}

/// The steps of a chunk.
#[derive(Debug)]
pub(crate) enum Steps {
    /// They came with the points.
    Given { column: Column, min: i64, max: i64 },
    /// They count on from the last step of the series.
    CountedOn,
}

impl Ready {
    fn new(steps: &[i64], timestamps_us: &[i64], values: &[f64]) -> Self {
        let mut summary = Summary::default();
        // Where steps are missing they rise, so any rising ones do to find the last point.
        if steps.is_empty() {
            let rising = (0..).zip(timestamps_us).zip(values);
            summary.add(rising.map(|((step, at), value)| (step, *at, *value)));
        } else {
            let given = steps.iter().zip(timestamps_us).zip(values);
            summary.add(given.map(|((step, at), value)| (*step, *at, *value)));
        }
        let bounds = steps.iter().copied().min().zip(steps.iter().copied().max());
        Self {
            count: values.len(),
            steps: match bounds {
                Some((min, max)) => Steps::Given {
                    column: Column::integers(steps, Effort::Fast),
                    min,
                    max,
                },
                None => Steps::CountedOn,
            },
            summary,
            timestamps_us: Column::integers(timestamps_us, Effort::Fast),
            values: Column::floats(values, Effort::Fast),
        }
    }

    /// The bytes of the chunk with these steps.
    pub(crate) fn assemble(&self, steps: &Column) -> Vec<u8> {
        codec::assemble(self.count, [steps, &self.timestamps_us, &self.values])
    }
}

/// The pieces of the entries of a batch for one key.
pub(crate) fn prepare(segments: Vec<Segment>) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(segments.len());
    for segment in segments {
        let count = segment.values.len();
        if count < MANY {
            pieces.push(Piece::Few(segment));
            continue;
        }
        for start in (0..count).step_by(MAX_POINTS) {
            let range = start..count.min(start + MAX_POINTS);
            pieces.push(Piece::Many(Ready::new(
                segment.steps.get(range.clone()).unwrap_or_default(),
                &segment.timestamps_us[range.clone()],
                &segment.values[range],
            )));
        }
    }
    pieces
}
