//! The points of metrics, read back as Arrow tables.
//!
//! Invariant: columns `step` (Int64), `timestamp` (Timestamp in microseconds, UTC), `value` (Float64), none of them null,
//! ordered by step, then as logged.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use mlplat_proto::tracking::v1 as pb;
use tonic::Request;

use super::{Tracking, checked_run_id, tracking};
use crate::{
    call::CallError,
    error::{Error, Result},
    retry::Safety,
};

/// The server reads at most so many keys at once.
const KEYS_A_CALL: usize = 1000;

/// Which points to read: of which steps (both ends inclusive), how many, and of which branch of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryRange {
    /// First step; none: from the beginning.
    pub start_step: Option<i64>,
    /// Last step; none: to the end.
    pub end_step: Option<i64>,
    /// Only so many points at the end of the range; none: all of them.
    pub last_points: Option<u64>,
    /// What a chart of so many buckets needs: the first, least, greatest and last point of each, and its first NaN; none: all
    /// points.
    pub max_buckets: Option<u32>,
    /// Number of the branch; none: the current one.
    pub branch: Option<u32>,
}

impl HistoryRange {
    /// From `start` to `end`, both inclusive, both optional.
    pub fn steps(start: Option<i64>, end: Option<i64>) -> Self {
        Self {
            start_step: start,
            end_step: end,
            ..Self::default()
        }
    }

    /// Only the last `count` points of the range, by step, then as logged.
    #[must_use]
    pub fn last(mut self, count: u64) -> Self {
        self.last_points = Some(count);
        self
    }

    /// Downsampled by the server into at most `count` buckets; every peak stays.
    #[must_use]
    pub fn buckets(mut self, count: u32) -> Self {
        self.max_buckets = Some(count);
        self
    }

    /// Of this branch of the run.
    #[must_use]
    pub fn branch(mut self, number: u32) -> Self {
        self.branch = Some(number);
        self
    }

    fn check(&self) -> Result<()> {
        if self.last_points == Some(0) || self.max_buckets == Some(0) {
            return Err(Error::misuse(
                "at least one point or bucket must be asked for",
            ));
        }
        Ok(())
    }
}

/// The schema of every history.
fn schema() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("step", DataType::Int64, false),
        Field::new("timestamp", timestamp, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

#[derive(Default)]
struct Columns {
    steps: Vec<i64>,
    timestamps_us: Vec<i64>,
    values: Vec<f64>,
}

impl Columns {
    fn append(&mut self, series: pb::MetricSeries) -> Result<()> {
        let length = series.values.len();
        if series.steps.len() != length || series.timestamps_us.len() != length {
            return Err(Error::data_loss(format!(
                "the columns of metric `{}` differ in length",
                series.key
            )));
        }
        self.steps.extend(series.steps);
        self.timestamps_us.extend(series.timestamps_us);
        self.values.extend(series.values);
        Ok(())
    }

    fn into_batch(self) -> Result<RecordBatch> {
        let timestamps = TimestampMicrosecondArray::from(self.timestamps_us).with_timezone("UTC");
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from(self.steps)),
            Arc::new(timestamps),
            Arc::new(Float64Array::from(self.values)),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

impl Tracking {
    /// The points of one metric of a run; no rows for a key that was never logged.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run, [`Error::InvalidArgument`] for a bad key.
    pub async fn metric_history(
        &self,
        run_id: &str,
        key: &str,
        range: HistoryRange,
    ) -> Result<RecordBatch> {
        let mut tables = self
            .metric_histories(run_id, &[key.to_owned()], range)
            .await?;
        tables
            .pop()
            .map(|(_, batch)| batch)
            .ok_or_else(|| Error::protocol("series"))
    }

    /// The points of several metrics of a run, one table each, in the order of `keys`.
    ///
    /// # Errors
    /// As [`Tracking::metric_history`].
    pub async fn metric_histories(
        &self,
        run_id: &str,
        keys: &[String],
        range: HistoryRange,
    ) -> Result<Vec<(String, RecordBatch)>> {
        range.check()?;
        let mut columns = HashMap::new();
        for keys in keys.chunks(KEYS_A_CALL) {
            columns.extend(self.read_series(run_id, keys, range).await?);
        }
        keys.iter()
            .map(|key| {
                Ok((
                    key.clone(),
                    columns.remove(key).unwrap_or_default().into_batch()?,
                ))
            })
            .collect()
    }

    async fn read_series(
        &self,
        run_id: &str,
        keys: &[String],
        range: HistoryRange,
    ) -> Result<HashMap<String, Columns>> {
        let request = pb::ReadMetricHistoryRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            keys: keys.to_vec(),
            start_step: range.start_step,
            end_step: range.end_step,
            last_points: range.last_points.unwrap_or_default(),
            max_buckets: range.max_buckets.unwrap_or_default(),
            branch: range.branch,
        };
        self.client
            .streaming(
                Safety::Repeatable,
                "read_metric_history",
                |request_id, remaining| {
                    self.read_history(self.client.request(request.clone(), remaining, &request_id))
                },
            )
            .await
    }

    async fn read_history(
        &self,
        request: Request<pb::ReadMetricHistoryRequest>,
    ) -> Result<HashMap<String, Columns>, CallError> {
        let mut stream = tracking(self.client.channel())
            .read_metric_history(request)
            .await?
            .into_inner();
        let mut columns: HashMap<String, Columns> = HashMap::new();
        while let Some(part) = stream.message().await? {
            let series = part.series.ok_or_else(|| Error::protocol("series"))?;
            columns
                .entry(series.key.clone())
                .or_default()
                .append(series)?;
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_the_promised_columns() {
        let mut columns = Columns::default();
        let series = pb::MetricSeries {
            key: "m".into(),
            steps: vec![0, 1],
            timestamps_us: vec![10, 20],
            values: vec![1.5, f64::NAN],
        };
        columns.append(series.clone()).unwrap();
        let batch = columns.into_batch().unwrap();
        assert_eq!(batch.schema(), schema());
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(Columns::default().into_batch().unwrap().num_rows(), 0);

        let ragged = pb::MetricSeries {
            steps: vec![0],
            ..series
        };
        assert!(Columns::default().append(ragged).is_err());
    }
}
