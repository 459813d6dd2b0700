//! The rows of a table, with failures told as errors of ours.
//!
//! Invariant: files of users never take a request down. The decoders of damaged files may panic rather than fail; that is
//! caught here, and is the fault of the file.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};

use super::errors::run_error;
use crate::error::{Error, Result};

/// Rows as they are read.
pub(in crate::features) type Rows = BoxStream<'static, Result<RecordBatch>>;

/// Begins to read a table. `what` is for messages, e.g. "feature view `x`".
pub(in crate::features) async fn rows(what: &str, table: DataFrame) -> Result<Rows> {
    let begun = guarded(what, table.execute_stream()).await?;
    let batches = begun.map_err(|error| run_error(what, &error))?;
    let what = what.to_owned();
    let rows = AssertUnwindSafe(batches)
        .catch_unwind()
        .map(move |read| match read {
            Ok(batch) => batch.map_err(|error| run_error(&what, &error)),
            Err(panic) => Err(damaged(&what, panic.as_ref())),
        });
    Ok(rows.boxed())
}

/// Does something that a damaged file may make panic.
pub(super) async fn guarded<T>(what: &str, work: impl Future<Output = T>) -> Result<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|panic| damaged(what, panic.as_ref()))
}

fn damaged(what: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::warn!(what, panic = text, "a file could not be decoded");
    Error::precondition(
        "SOURCE_UNREADABLE",
        format!("{what} cannot be read: its data is damaged"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_fault_of_the_file() {
        let outcome = guarded("`x.parquet`", async { panic!("attempt to subtract") }).await;
        let outcome: Result<()> = outcome;
        let error = outcome.unwrap_err();
        assert_eq!(error.reason(), "SOURCE_UNREADABLE");
        assert!(error.to_string().starts_with("`x.parquet` cannot be read"));
        assert_eq!(guarded("x", async { 7 }).await.unwrap(), 7);
    }
}
