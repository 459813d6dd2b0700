//! What is known of a series without reading its points.
//!
//! Invariant: a summary says the same however the points were cut into parts, as long as the parts are added in the order in
//! which the points were logged. Pure.

use uuid::Uuid;

use crate::tracking::entity::metric_series;

/// The series before its first point.
pub(super) fn empty_series(run_id: Uuid, key: &str) -> metric_series::Model {
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

/// The same series without points; its chunks stay.
pub(super) fn without_points(series: &metric_series::Model) -> metric_series::Model {
    metric_series::Model {
        id: series.id,
        tail_number: series.tail_number,
        tail_count: series.tail_count,
        ..empty_series(series.run_id, &series.key)
    }
}

/// What some points of a series say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) last_step: i64,
    last_timestamp_us: i64,
    last_bits: u64,
    min: f64,
    max: f64,
    count: usize,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            last_step: i64::MIN,
            last_timestamp_us: i64::MIN,
            last_bits: 0,
            min: f64::NAN,
            max: f64::NAN,
            count: 0,
        }
    }
}

impl Summary {
    /// Adds points as (step, timestamp, value). The last value is the one of the greatest step, then of the greatest time,
    /// then the one logged last. NaN is neither least nor greatest.
    pub(crate) fn add(&mut self, points: impl Iterator<Item = (i64, i64, f64)>) {
        for (step, timestamp_us, value) in points {
            if (step, timestamp_us) >= (self.last_step, self.last_timestamp_us) {
                (self.last_step, self.last_timestamp_us) = (step, timestamp_us);
                self.last_bits = value.to_bits();
            }
            // Of a number and NaN these take the number.
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            self.count += 1;
        }
    }

    /// Adds it to the row of a series.
    pub(crate) fn add_to(&self, series: &mut metric_series::Model) {
        if self.count == 0 {
            return;
        }
        let behind = (self.last_step, self.last_timestamp_us)
            >= (series.last_step, series.last_timestamp_us);
        if behind || series.count == 0 {
            (series.last_step, series.last_timestamp_us) = (self.last_step, self.last_timestamp_us);
            let value = f64::from_bits(self.last_bits);
            series.last_bits = self.last_bits.cast_signed();
            series.last_value = (!value.is_nan()).then_some(value);
        }
        let merge = |old: Option<f64>, new: f64, choose: fn(f64, f64) -> f64| {
            let new = Some(new).filter(|new| !new.is_nan());
            old.map_or(new, |old| Some(new.map_or(old, |new| choose(old, new))))
        };
        series.min_value = merge(series.min_value, self.min, f64::min);
        series.max_value = merge(series.max_value, self.max, f64::max);
        series.count += i64::try_from(self.count).unwrap_or(i64::MAX);
    }
}

/// Adds points to the row of a series.
pub(super) fn add(
    series: &mut metric_series::Model,
    points: impl Iterator<Item = (i64, i64, f64)>,
) {
    let mut summary = Summary::default();
    summary.add(points);
    summary.add_to(series);
}
