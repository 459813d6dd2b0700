//! Runs: executions that are tracked, with their params and tags, and the search over them.
//!
//! Invariant: the start and the end of a run are in the lineage, written in the transaction of the change itself.

mod assemble;
mod convert;
mod events;
mod gather;
mod heartbeat;
mod keys;
mod known;
mod life;
mod lifecycle;
mod list;
mod recent;
mod search;
mod service;
pub(super) mod store;
pub(super) mod texts;

pub(super) use convert::run_id;
pub(super) use events::{event_time, run_event};
pub(super) use heartbeat::{Sweeper, heartbeat_runs};
pub(super) use life::{branch_before, end_run, heard_of, resume_run};
pub(super) use lifecycle::{
    delete_params_and_tags, delete_runs, delete_runs_of_experiment, move_runs, restore_runs,
    restore_runs_of_experiment,
};
pub(crate) use recent::RecentRuns;
pub(crate) use search::RecentSurveys;
pub(super) use search::search_runs;
pub(super) use service::{create_run, get_run, update_run};
