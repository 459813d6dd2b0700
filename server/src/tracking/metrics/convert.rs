//! Metrics between the contract and our own types.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
};

use mlplat_proto::{rules, tracking::v1 as pb};
use uuid::Uuid;

use super::pieces::{self, Piece, Segment};
use crate::{
    clock::Timestamp,
    error::Result,
    request::{self, Violations},
    tags,
};

const MAX_KEYS: usize = 10_000;
const MAX_POINTS: usize = 1_000_000;
const MAX_KEYS_READ: usize = 1000;
const MAX_BUCKETS: u32 = 100_000;

/// What identifies a batch, so that it is stored once: who wrote it, and the numbers of its first and last record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    pub(super) id: Uuid,
    pub(super) first: i64,
    pub(super) sequence: i64,
    /// The writer that it is a part of.
    pub(super) origin: Option<Uuid>,
    /// It takes part in a run of another process.
    pub(super) joined: bool,
}

/// A parsed batch, as it came.
#[derive(Debug)]
pub(super) struct NewBatch {
    run_id: Uuid,
    writer: Option<Writer>,
    /// At least one point each.
    segments: BTreeMap<String, Vec<Segment>>,
    params: HashMap<String, String>,
    tags: HashMap<String, String>,
    /// Points in all.
    pub(super) points: usize,
    /// It was logged some time ago.
    late: bool,
}

/// A batch that is ready to be stored.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) run_id: Uuid,
    pub(super) writer: Option<Writer>,
    /// At least one point each.
    pub(super) series: BTreeMap<String, Vec<Piece>>,
    pub(super) params: HashMap<String, String>,
    pub(super) tags: HashMap<String, String>,
    /// Points in all.
    pub(super) points: usize,
    /// The times of the first and of the last point.
    pub(super) times: Option<(Timestamp, Timestamp)>,
    /// It was logged some time ago.
    pub(super) late: bool,
}

impl NewBatch {
    pub(super) fn parse(message: pb::LogBatchRequest, now: Timestamp) -> Result<Self> {
        let mut violations = Violations::new();
        let run_id = violations.parse("run_id", request::uuid(&message.run_id));
        let writer = writer(&mut violations, &message);
        tags::check(&mut violations, "params", &message.params);
        tags::check(&mut violations, "tags", &message.tags);
        let segments = series(&mut violations, message.metrics, now);
        violations.finish()?;
        Ok(Self {
            run_id: run_id.unwrap_or_default(),
            writer,
            points: segments.values().flatten().map(|s| s.values.len()).sum(),
            segments,
            params: message.params,
            tags: message.tags,
            late: message.late,
        })
    }

    /// Does what can be done without knowing the series; with many points it takes its time.
    pub(super) fn prepare(self) -> Batch {
        let times = self
            .segments
            .values()
            .flatten()
            .flat_map(|s| &s.timestamps_us);
        let (first, last) = (times.clone().min(), times.max());
        let times = first
            .zip(last)
            .map(|(first, last)| (Timestamp(*first), Timestamp(*last)));
        let series = self
            .segments
            .into_iter()
            .map(|(key, segments)| (key, pieces::prepare(segments)))
            .collect();
        Batch {
            run_id: self.run_id,
            writer: self.writer,
            series,
            params: self.params,
            tags: self.tags,
            points: self.points,
            times,
            late: self.late,
        }
    }
}

fn writer(violations: &mut Violations, message: &pb::LogBatchRequest) -> Option<Writer> {
    if message.writer_id.is_empty() {
        return None;
    }
    let id = violations.parse("writer_id", request::uuid(&message.writer_id));
    let sequence = violations.parse(
        "sequence",
        i64::try_from(message.sequence).map_err(|_| format!("must be at most {}", i64::MAX)),
    );
    let first = match message.first_sequence {
        0 => sequence?,
        first if first > message.sequence => {
            violations.add("first_sequence", "must not be greater than sequence");
            return None;
        }
        first => i64::try_from(first).unwrap_or(i64::MAX),
    };
    let origin = request::optional_uuid(violations, "origin_writer_id", &message.origin_writer_id);
    Some(Writer {
        id: id?,
        first,
        sequence: sequence?,
        origin,
        joined: message.joined,
    })
}

fn series(
    violations: &mut Violations,
    metrics: Vec<pb::MetricSeries>,
    now: Timestamp,
) -> BTreeMap<String, Vec<Segment>> {
    let mut series: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
    let mut points = 0usize;
    for (index, entry) in metrics.into_iter().enumerate() {
        let key = violations.parse(format!("metrics[{index}].key"), metric_key(&entry.key));
        points = points.saturating_add(entry.values.len());
        for (name, length) in [
            ("steps", entry.steps.len()),
            ("timestamps_us", entry.timestamps_us.len()),
        ] {
            if length != 0 && length != entry.values.len() {
                let complaint = format!(
                    "has {length} entries for {} values; give one each, or none",
                    entry.values.len()
                );
                violations.add(format!("metrics[{index}].{name}"), complaint);
            }
        }
        let Some(key) = key.filter(|_| !entry.values.is_empty()) else {
            continue;
        };
        let timestamps_us = match entry.timestamps_us {
            given if given.is_empty() => vec![now.micros(); entry.values.len()],
            given => given,
        };
        series.entry(key).or_default().push(Segment {
            steps: entry.steps,
            timestamps_us,
            values: entry.values,
        });
    }
    if points > MAX_POINTS {
        violations.add(
            "metrics",
            format!("has {points} points; at most {MAX_POINTS} fit into one batch"),
        );
    }
    if series.len() > MAX_KEYS {
        violations.add(
            "metrics",
            format!(
                "has {} keys; at most {MAX_KEYS} fit into one batch",
                series.len()
            ),
        );
    }
    series
}

fn metric_key(key: &str) -> std::result::Result<String, String> {
    rules::metric_key(key).map(|()| key.to_owned())
}

/// A parsed ReadMetricHistory.
#[derive(Debug)]
pub(super) struct HistoryQuery {
    pub(super) run_id: Uuid,
    /// Each once, in the order asked for.
    pub(super) keys: Vec<String>,
    pub(super) steps: RangeInclusive<i64>,
    /// Unset means the current one.
    pub(super) branch: Option<i32>,
    pub(super) selection: Selection,
}

/// Which points of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// All.
    All,
    /// So many at the end.
    Last(u64),
    /// What a chart of so many buckets needs.
    Buckets(u32),
}

impl Selection {
    fn parse(violations: &mut Violations, last_points: u64, max_buckets: u32) -> Self {
        match (last_points, max_buckets) {
            (0, 0) => Self::All,
            (last, 0) => Self::Last(last),
            (0, buckets) if buckets <= MAX_BUCKETS => Self::Buckets(buckets),
            (0, _) => {
                violations.add("max_buckets", format!("must be at most {MAX_BUCKETS}"));
                Self::All
            }
            _ => {
                violations.add("last_points", "cannot be given together with max_buckets");
                Self::All
            }
        }
    }
}

impl HistoryQuery {
    pub(super) fn parse(message: &pb::ReadMetricHistoryRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let run_id = violations.parse("run_id", request::uuid(&message.run_id));
        let mut keys: Vec<String> = Vec::new();
        if !(1..=MAX_KEYS_READ).contains(&message.keys.len()) {
            violations.add(
                "keys",
                format!(
                    "must hold 1 to {MAX_KEYS_READ} keys, holds {}",
                    message.keys.len()
                ),
            );
        } else {
            for (index, key) in message.keys.iter().enumerate() {
                let key = violations.parse(format!("keys[{index}]"), metric_key(key));
                keys.extend(key.filter(|key| !keys.contains(key)));
            }
        }
        let steps = message.start_step.unwrap_or(i64::MIN)..=message.end_step.unwrap_or(i64::MAX);
        if steps.is_empty() {
            violations.add(
                "end_step",
                format!("must not be less than start_step {}", steps.start()),
            );
        }
        let branch = message.branch.and_then(|branch| {
            violations.parse(
                "branch",
                i32::try_from(branch).map_err(|_| "is greater than any branch".to_owned()),
            )
        });
        let selection = Selection::parse(&mut violations, message.last_points, message.max_buckets);
        violations.finish()?;
        Ok(Self {
            run_id: run_id.unwrap_or_default(),
            keys,
            steps,
            branch,
            selection,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const RUN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn entry(key: &str, steps: &[i64], values: &[f64]) -> pb::MetricSeries {
        pb::MetricSeries {
            key: key.to_owned(),
            steps: steps.to_vec(),
            timestamps_us: Vec::new(),
            values: values.to_vec(),
        }
    }

    fn parse(metrics: Vec<pb::MetricSeries>) -> Result<NewBatch> {
        let message = pb::LogBatchRequest {
            run_id: RUN.to_owned(),
            metrics,
            ..Default::default()
        };
        NewBatch::parse(message, Timestamp(5))
    }

    fn bad_fields(result: Result<NewBatch>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
            other => panic!("must be invalid: {other:?}"),
        }
    }

    #[test]
    fn entries_of_one_key_stay_in_order() {
        let batch = parse(vec![
            entry("b", &[1], &[1.0]),
            entry("a", &[], &[]),
            entry("b", &[], &[2.0]),
        ])
        .expect("valid");
        assert_eq!(batch.segments.len(), 1, "no points, no series");
        let values: Vec<f64> = batch.segments["b"]
            .iter()
            .flat_map(|s| s.values.clone())
            .collect();
        assert_eq!(values, [1.0, 2.0]);
        assert_eq!(
            batch.segments["b"][0].timestamps_us,
            [5],
            "no times means now"
        );
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let bad = parse(vec![
            entry("a`b", &[], &[1.0]),
            entry("c", &[1, 2], &[1.0]),
            entry("", &[], &[1.0]),
        ]);
        assert_eq!(
            bad_fields(bad),
            ["metrics[0].key", "metrics[1].steps", "metrics[2].key"]
        );
    }

    #[test]
    fn batches_are_bounded() {
        assert_eq!(
            bad_fields(parse(vec![entry("a", &[], &vec![0.0; MAX_POINTS + 1])])),
            ["metrics"]
        );
        let keys = (0..=MAX_KEYS)
            .map(|i| entry(&format!("k{i}"), &[], &[0.0]))
            .collect();
        assert_eq!(bad_fields(parse(keys)), ["metrics"]);
    }

    #[test]
    fn writers() {
        let mut message = pb::LogBatchRequest {
            run_id: RUN.to_owned(),
            sequence: u64::MAX,
            ..Default::default()
        };
        assert!(
            NewBatch::parse(message.clone(), Timestamp(0))
                .expect("no check without writer")
                .writer
                .is_none()
        );
        message.writer_id = RUN.to_owned();
        assert_eq!(
            bad_fields(NewBatch::parse(message, Timestamp(0))),
            ["sequence"]
        );
    }

    #[test]
    fn history_ranges() {
        let query = |start_step, end_step| {
            HistoryQuery::parse(&pb::ReadMetricHistoryRequest {
                run_id: RUN.to_owned(),
                keys: vec!["a".to_owned(), "b".to_owned(), "a".to_owned()],
                start_step,
                end_step,
                ..Default::default()
            })
        };
        assert_eq!(query(None, Some(3)).expect("valid").steps, i64::MIN..=3);
        assert_eq!(query(None, None).expect("valid").keys, ["a", "b"]);
        assert!(query(Some(2), Some(1)).is_err());
    }

    #[test]
    fn selections() {
        let selection = |last_points, max_buckets| {
            HistoryQuery::parse(&pb::ReadMetricHistoryRequest {
                run_id: RUN.to_owned(),
                keys: vec!["a".to_owned()],
                last_points,
                max_buckets,
                ..Default::default()
            })
            .map(|query| query.selection)
        };
        assert_eq!(selection(0, 0).expect("valid"), Selection::All);
        assert_eq!(selection(7, 0).expect("valid"), Selection::Last(7));
        assert_eq!(selection(0, 7).expect("valid"), Selection::Buckets(7));
        assert!(selection(7, 7).is_err());
        assert!(selection(0, MAX_BUCKETS + 1).is_err());
    }
}
