//! Whole runs that were read not long ago, in memory: whoever searches again mostly sees the same runs.
//!
//! Invariant: a run is given only for the revision that the database has of it, told by the statement that found it; so what
//! another server wrote is seen as well. Names of experiments are not of the run: who asks brings them.

use std::sync::Arc;

use mlplat_proto::tracking::v1 as pb;
use moka::future::Cache;
use prost::Message as _;
use uuid::Uuid;

use super::assemble::{Assembled, Selection};

/// Bytes of memory that the kept runs may have, about.
const CAPACITY: u64 = 64 << 20;
/// Larger runs are not kept, that they do not take the place of many.
const LARGEST: usize = 1 << 20;
/// What a run takes besides the bytes of its message, and what each text and each metric does.
const OVERHEAD: usize = 1024;
const OVERHEAD_OF_TEXT: usize = 128;
const OVERHEAD_OF_METRIC: usize = 96;

/// The runs.
#[derive(Debug, Clone)]
pub(crate) struct RecentRuns(Cache<Uuid, Arc<Recent>>);

#[derive(Debug)]
struct Recent {
    revision: i64,
    /// Whether the inputs are there as well; tables show none.
    inputs: bool,
    bytes: usize,
    run: pb::Run,
}

impl Default for RecentRuns {
    fn default() -> Self {
        let weight =
            |_: &Uuid, recent: &Arc<Recent>| u32::try_from(recent.bytes).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(CAPACITY).weigher(weight);
        Self(cache.build())
    }
}

impl RecentRuns {
    /// What is wanted of the run in this revision, if it is kept.
    pub(super) async fn get(
        &self,
        id: Uuid,
        revision: i64,
        selection: &Selection,
    ) -> Option<pb::Run> {
        let recent = self.0.get(&id).await?;
        if recent.revision != revision || selection.inputs && !recent.inputs {
            return None;
        }
        let mut run = recent.run.clone();
        selection.narrow(&mut run);
        Some(run)
    }

    /// Keeps what was read of a run, if that is enough of it.
    pub(super) async fn keep(&self, id: Uuid, read: &Assembled, selection: &Selection) {
        let bytes = memory(&read.run);
        if selection.is_whole() && bytes <= LARGEST {
            let recent = Recent {
                revision: read.revision,
                inputs: selection.inputs,
                bytes,
                run: read.run.clone(),
            };
            self.0.insert(id, Arc::new(recent)).await;
        }
    }
}

/// Bytes that a run takes, about.
fn memory(run: &pb::Run) -> usize {
    let texts = run.params.len() + run.tags.len();
    run.encoded_len() + OVERHEAD + texts * OVERHEAD_OF_TEXT + run.metrics.len() * OVERHEAD_OF_METRIC
}
