//! Points of one series as columns.
//!
//! Invariant: the three columns have one length, and stand in the order in which the points were logged.

/// Some points of one series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Points {
    pub(crate) steps: Vec<i64>,
    pub(crate) timestamps_us: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl Points {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn push(&mut self, step: i64, timestamp_us: i64, value: f64) {
        self.steps.push(step);
        self.timestamps_us.push(timestamp_us);
        self.values.push(value);
    }

    /// The points as (step, timestamp, value).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i64, f64)> {
        self.steps
            .iter()
            .zip(&self.timestamps_us)
            .zip(&self.values)
            .map(|((step, timestamp_us), value)| (*step, *timestamp_us, *value))
    }

    /// Moves the points of another to the end.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.values.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        self.steps.append(&mut other.steps);
        self.timestamps_us.append(&mut other.timestamps_us);
        self.values.append(&mut other.values);
    }

    /// Keeps the first `count` points.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.steps.truncate(count);
        self.timestamps_us.truncate(count);
        self.values.truncate(count);
    }

    /// A copy of the points in `range`, which must be inside.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            steps: self.steps[range.clone()].to_vec(),
            timestamps_us: self.timestamps_us[range.clone()].to_vec(),
            values: self.values[range].to_vec(),
        }
    }
}
