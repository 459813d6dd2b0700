//! Inputs of runs: the data sets that they read.
//!
//! Invariant: what a run read is in the lineage as well, written in the transaction of the record itself.

mod convert;
mod service;
pub(super) mod store;

pub(super) use service::log_inputs;
