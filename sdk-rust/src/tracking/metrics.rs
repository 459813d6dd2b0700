//! Points of metrics on their way to the server, and what the server says of a series.
//!
//! Invariant: packing points into series keeps the order of the points of each key.

use std::{collections::HashMap, time::SystemTime};

use mlplat_proto::tracking::v1 as pb;

use crate::convert::{from_micros, micros};

/// One value of one metric.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricPoint {
    /// The metric key.
    pub key: String,
    /// The value; NaN and infinities are kept.
    pub value: f64,
    /// The step; none: one more than the last of the key, from 0, as the server counts.
    pub step: Option<i64>,
    /// When it was measured.
    pub timestamp: SystemTime,
}

impl MetricPoint {
    /// A point measured now, its step counted by the server.
    pub fn new(key: impl Into<String>, value: f64) -> Self {
        Self {
            key: key.into(),
            value,
            step: None,
            timestamp: SystemTime::now(),
        }
    }

    /// Sets the step, or leaves it to the server.
    #[must_use]
    pub fn at_step(mut self, step: Option<i64>) -> Self {
        self.step = step;
        self
    }

    /// Sets the time of the measurement.
    #[must_use]
    pub fn at_time(mut self, time: SystemTime) -> Self {
        self.timestamp = time;
        self
    }
}

/// What is known of one series without reading its points. NaN counts as a point, but not for `min` and `max`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricSummary {
    /// Value of the greatest step, then the greatest timestamp, then logged last.
    pub last_value: f64,
    /// Step of the last value.
    pub last_step: i64,
    /// Time of the last value.
    pub last_timestamp: SystemTime,
    /// Smallest value; none when all are NaN.
    pub min: Option<f64>,
    /// Greatest value; none when all are NaN.
    pub max: Option<f64>,
    /// Number of points.
    pub count: u64,
}

impl From<pb::MetricSummary> for MetricSummary {
    fn from(m: pb::MetricSummary) -> Self {
        Self {
            last_value: m.last_value,
            last_step: m.last_step,
            last_timestamp: from_micros(m.last_timestamp_us),
            min: m.min,
            max: m.max,
            count: m.count,
        }
    }
}

/// Packs points into columns: one series per key, and a new one where a key changes between given and counted steps, for a
/// series has steps for all of its points or for none.
pub(super) fn pack(points: &[MetricPoint]) -> Vec<pb::MetricSeries> {
    let mut series: Vec<pb::MetricSeries> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for point in points {
        let fits = open
            .get(point.key.as_str())
            .copied()
            .filter(|&at| series[at].steps.is_empty() == point.step.is_none());
        let at = fits.unwrap_or_else(|| {
            series.push(pb::MetricSeries {
                key: point.key.clone(),
                ..pb::MetricSeries::default()
            });
            open.insert(&point.key, series.len() - 1);
            series.len() - 1
        });
        series[at].steps.extend(point.step);
        series[at].timestamps_us.push(micros(point.timestamp));
        series[at].values.push(point.value);
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_a_key_keep_their_order() {
        let points = [
            MetricPoint::new("a", 1.0).at_step(Some(1)),
            MetricPoint::new("b", 10.0),
            MetricPoint::new("a", 2.0).at_step(Some(0)),
            MetricPoint::new("a", 3.0),
            MetricPoint::new("b", 11.0),
            MetricPoint::new("a", 4.0).at_step(Some(9)),
        ];
        let packed: Vec<_> = pack(&points)
            .into_iter()
            .map(|s| (s.key, s.steps, s.values))
            .collect();
        assert_eq!(
            packed,
            [
                ("a".to_owned(), vec![1, 0], vec![1.0, 2.0]),
                ("b".to_owned(), vec![], vec![10.0, 11.0]),
                ("a".to_owned(), vec![], vec![3.0]),
                ("a".to_owned(), vec![9], vec![4.0]),
            ]
        );
    }
}
