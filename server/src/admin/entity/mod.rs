//! Tables `projects` and `settings`.
#![allow(
    missing_docs,
    reason = "columns are those of the resources in the contracts"
)]

pub mod project;
pub mod setting;
