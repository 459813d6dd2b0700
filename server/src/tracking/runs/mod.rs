//! Runs: executions that are tracked, with their params and tags, and the search over them.
//!
//! Invariant: the start and the end of a run are in the lineage, written in the transaction of the change itself.

mod assemble;
mod convert;
mod keys;
mod lifecycle;
mod name;
mod search;
mod service;
pub(super) mod store;

pub(super) use convert::run_id;
pub(super) use keys::Keys;
pub(super) use lifecycle::{
    delete_params_and_tags, delete_runs, delete_runs_of_experiment, move_runs, restore_runs,
    restore_runs_of_experiment,
};
pub(super) use search::search_runs;
pub(super) use service::{create_run, end_run, get_run, run_event, update_run};
