//! The tables of the lineage.

pub(super) mod dataset;
pub(super) mod edge;
pub(super) mod event;
pub(super) mod run;
pub(super) mod symlink;
