//! The ordered road from the `log_*` calls of one run to the server.
//!
//! Invariant: batches of one writer are sent one after the other with rising sequence numbers, so the server can recognize
//! one that comes twice; a number is never used for two contents. Callers see only `send` and `flush`: where records wait
//! in between (today nowhere: `send` returns when the server has stored them) can change without them.

use std::collections::BTreeMap;

use mlplat_proto::tracking::v1 as pb;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    metrics::{MetricPoint, pack},
    tracking,
};
use crate::{call::rpc, client::Client, error::Result};

/// Most points in one message: under 3 MiB with steps and timestamps.
const POINTS_PER_BATCH: usize = 100_000;
/// Most bytes of params or tags in one message.
const TEXT_PER_BATCH: usize = 1 << 20;

/// What is logged in one call.
#[derive(Debug, Default, Clone)]
pub(super) struct Records {
    pub(super) points: Vec<MetricPoint>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(super) struct Delivery {
    client: Client,
    run_id: String,
    writer_id: String,
    /// The last sequence number used. Held while a batch is on its way, which is what keeps the order.
    sequence: Mutex<u64>,
}

impl Delivery {
    pub(super) fn new(client: Client, run_id: String) -> Self {
        Self {
            client,
            run_id,
            writer_id: Uuid::new_v4().to_string(),
            sequence: Mutex::new(0),
        }
    }

    /// Stores the records. A call that is too large for one message becomes several, each of them all or nothing.
    pub(super) async fn send(&self, records: Records) -> Result<()> {
        let batches = split(records);
        let mut sequence = self.sequence.lock().await;
        for batch in batches {
            *sequence += 1;
            let request = pb::LogBatchRequest {
                project: self.client.project().to_owned(),
                run_id: self.run_id.clone(),
                writer_id: self.writer_id.clone(),
                sequence: *sequence,
                ..batch
            };
            rpc!(self.client, Repeatable, tracking.log_batch, request)?;
        }
        Ok(())
    }

    /// Returns when everything that was given to `send` before has been answered.
    pub(super) async fn flush(&self) -> Result<()> {
        drop(self.sequence.lock().await);
        Ok(())
    }
}

/// The messages for some records, each of bounded size. Params and tags come first, so that who sees a metric sees them.
fn split(records: Records) -> Vec<pb::LogBatchRequest> {
    let mut batches = Vec::new();
    for params in split_text(records.params) {
        batches.push(pb::LogBatchRequest {
            params: params.into_iter().collect(),
            ..Default::default()
        });
    }
    for tags in split_text(records.tags) {
        batches.push(pb::LogBatchRequest {
            tags: tags.into_iter().collect(),
            ..Default::default()
        });
    }
    for points in records.points.chunks(POINTS_PER_BATCH) {
        batches.push(pb::LogBatchRequest {
            metrics: pack(points),
            ..Default::default()
        });
    }
    batches
}

fn split_text(entries: BTreeMap<String, String>) -> Vec<BTreeMap<String, String>> {
    let mut parts: Vec<BTreeMap<String, String>> = Vec::new();
    let mut size = usize::MAX;
    for (key, value) in entries {
        let bytes = key.len() + value.len();
        if size.saturating_add(bytes) > TEXT_PER_BATCH {
            parts.push(BTreeMap::new());
            size = 0;
        }
        size += bytes;
        if let Some(part) = parts.last_mut() {
            part.insert(key, value);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_records_are_one_message_each_kind() {
        let records = Records {
            points: vec![MetricPoint::new("m", 1.0)],
            params: BTreeMap::from([("p".into(), "1".into())]),
            tags: BTreeMap::new(),
        };
        let batches = split(records);
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].params["p"], "1");
        assert_eq!(batches[1].metrics[0].values, [1.0]);
        assert!(split(Records::default()).is_empty());
    }

    #[test]
    fn large_records_are_split_without_loss() {
        let points = vec![MetricPoint::new("m", 1.0); POINTS_PER_BATCH + 1];
        let params = (0..40)
            .map(|i| (format!("p{i}"), "x".repeat(60_000)))
            .collect();
        let batches = split(Records {
            points,
            params,
            tags: BTreeMap::new(),
        });
        assert_eq!(batches.iter().map(|b| b.params.len()).sum::<usize>(), 40);
        let values = batches
            .iter()
            .flat_map(|b| &b.metrics)
            .map(|s| s.values.len())
            .sum::<usize>();
        assert_eq!(values, POINTS_PER_BATCH + 1);
        assert!(
            batches
                .iter()
                .all(|b| prost::Message::encoded_len(b) < 4 << 20)
        );
    }
}
