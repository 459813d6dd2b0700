//! Experiments: named groups of runs.

mod convert;
mod service;
pub(super) mod store;

pub(super) use convert::{DEFAULT_EXPERIMENT, MAX_NAME};
pub(super) use service::{
    create_experiment, delete_experiment, get_experiment, list_experiments, restore_experiment,
    update_experiment,
};
pub(super) use store::is_deleted;
