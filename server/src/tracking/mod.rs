//! Experiment tracking: experiments, runs with params, tags and metrics, and the files of runs.
//!
//! Split by resource; each has its `service` (parse, authorize, act in one transaction, reply), `convert` (the two directions
//! between messages and rows) and `store` (SQL). Other services read through [`store`] only. It knows lineage, and none of
//! the other services.

mod artifacts;
mod background;
pub mod entity;
mod experiments;
mod inputs;
mod metrics;
pub(crate) mod retention;
mod runs;
mod service;
pub mod store;
mod view;

pub use artifacts::Artifacts;
pub(crate) use artifacts::{collect_orphans, count_orphans};
pub use background::Background;
pub(crate) use runs::{RecentRuns, RecentSurveys};
pub use service::Tracking;
pub(crate) use view::View;
