//! The tables of tracking, one file each.

pub mod artifact;
pub mod artifact_blob;
pub mod artifact_garbage;
pub mod artifact_upload;
pub mod experiment;
pub mod metric_chunk;
pub mod metric_series;
pub mod metric_writer;
pub mod run;
pub mod run_branch;
pub mod run_input;
pub mod run_param;
pub mod run_tag;
