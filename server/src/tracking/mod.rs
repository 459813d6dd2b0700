//! Experiment tracking: experiments, runs with params, tags and metrics, and the files of runs.
//!
//! Split by resource; each has its `service` (parse, authorize, act in one transaction, reply), `convert` (the two directions
//! between messages and rows) and `store` (SQL). Other services read through [`store`] only. It knows lineage, and none of
//! the other services.

mod artifacts;
pub mod entity;
mod experiments;
mod metrics;
mod runs;
mod service;
pub mod store;

pub use artifacts::{Artifacts, collect_forever, collect_orphans};
pub use service::Tracking;
