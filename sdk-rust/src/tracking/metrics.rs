//! Points of metrics, and what the server says of a series.

use std::time::SystemTime;

use mlplat_proto::tracking::v1 as pb;

use crate::convert::from_micros;

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
