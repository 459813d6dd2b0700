//! What other services may read of tracking, inside their own transactions.
//!
//! Invariant: every function takes the scope of the caller, and a run of another project is not found.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    View, artifacts,
    entity::{artifact, metric_series, run},
    metrics, runs,
};
use crate::{auth::Scope, error::Result};

/// The run of this id in the project of the scope; one that is deleted is not there.
pub async fn load_run(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<run::Model> {
    runs::store::load_active_run(conn, scope, run_id).await
}

/// Like [`load_run`], and holds the run until the transaction ends: what is read of it after that belongs together.
pub async fn lock_run(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<run::Model> {
    let row = runs::store::lock_run(txn, scope, run_id).await?;
    runs::store::seen(row, View::Active)
}

/// The params of a run that was loaded with the same scope.
pub async fn load_params(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
) -> Result<BTreeMap<String, String>> {
    runs::texts::load_params(conn, scope, run.id).await
}

/// The summaries of the metrics of a run that was loaded with the same scope, by key.
pub async fn load_metrics(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
) -> Result<Vec<metric_series::Model>> {
    metrics::store::load_summaries(conn, scope, run.id).await
}

/// The last value of each metric of a run that was loaded with the same scope; NaN included.
pub async fn load_last_metrics(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
) -> Result<BTreeMap<String, f64>> {
    let series = load_metrics(conn, scope, run).await?;
    Ok(series
        .into_iter()
        .map(|series| (series.key, f64::from_bits(series.last_bits.cast_unsigned())))
        .collect())
}

/// The files at a path of a run that was loaded with the same scope, by path: one file, or a directory with all below it;
/// an empty path is all files. Nothing there: an empty list.
pub async fn artifacts_under(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
    path: &str,
) -> Result<Vec<artifact::Model>> {
    artifacts::store::artifacts_under(conn, scope, run.id, path.trim_end_matches('/')).await
}
