//! Metrics: points in compressed chunks, a summary per series for search and overview.
//!
//! Invariant: what a batch stores becomes visible at once and whole; a batch that is sent again changes nothing. The codec,
//! appending and merging are pure; only `store` knows SQL.

mod append;
mod branch;
mod codec;
mod convert;
mod history;
mod log;
mod merge;
mod points;
pub(super) mod rewind;
pub(super) mod store;

pub(super) use convert::summary_to_proto;
pub(super) use history::{HistoryStream, read_metric_history};
pub(super) use log::log_batch;
