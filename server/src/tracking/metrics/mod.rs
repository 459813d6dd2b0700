//! Metrics: points in compressed chunks, a summary per series for search and overview.
//!
//! Invariant: what a batch stores becomes visible at once and whole; a batch that is sent again changes nothing. A batch goes
//! through `log` (parse, authorize), `pieces` (compress), `queue` and `group` (one transaction for many) to `store`. The codec,
//! appending, merging, branches and downsampling are pure; only `store` knows SQL.

mod append;
mod branch;
mod codec;
mod compact;
mod convert;
mod downsample;
mod group;
mod history;
mod late;
mod log;
mod merge;
mod pieces;
mod points;
mod queue;
mod read;
pub(super) mod rewind;
pub(super) mod store;
mod summary;
mod writers;

pub(super) use compact::CompactorHandle;
pub(super) use history::{HistoryStream, read_metric_history};
pub(super) use log::log_batch;
pub(super) use queue::LogQueue;
