//! Reading sources: Parquet files and SQL over them, as tables of one query session.
//!
//! Invariant: rows come in a fixed order (file by address, then position in the file), so that "the row written last" is
//! the same on every read; and what was read is known file by file. This module must not know what features are joined to.

mod errors;
mod parquet;
mod pins;
mod rows;
mod session;

pub(super) use errors::{PlanError, asof_error, run_error};
pub(super) use pins::{Pins, is_timestamp};
pub(super) use rows::{Rows, rows};
pub(super) use session::{Session, SessionOptions, join_keys};
