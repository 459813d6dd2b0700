//! Runs that are deleted, restored, moved to another experiment, and cleared of params and tags.
//!
//! Invariant: a call changes all of its runs or none. Deleting hides; only the collection of garbage removes.

mod service;
mod store;

pub(in crate::tracking) use service::{
    delete_params_and_tags, delete_runs, move_runs, restore_runs,
};
pub(in crate::tracking) use store::{delete_runs_of_experiment, restore_runs_of_experiment};
