//! One collection in one project.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::days_before;
use crate::{
    app::App, auth::Scope, catalogue::store as catalogue, clock::Timestamp, error::Result,
    tracking::retention as tracking,
};

/// Runs that one transaction removes.
const RUNS: u64 = 20;
/// Objects that one transaction decides on.
const OBJECTS: u64 = 500;

/// What a collection has removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Collected {
    pub(crate) runs: u64,
    pub(crate) experiments: u64,
    /// Runs that stay because of a model version.
    pub(crate) kept_runs: u64,
    pub(crate) objects: u64,
}

/// Removes what was deleted until `cutoff`.
pub(crate) async fn collect(
    app: &App,
    scope: &Scope,
    cutoff: Timestamp,
    dry_run: bool,
) -> Result<Collected> {
    let mut collected = collect_runs(app, scope, cutoff, dry_run).await?;
    if dry_run {
        let conn = app.db.read();
        collected.experiments = tracking::count_experiments(conn, scope, cutoff).await?;
        let due = days_before(app.now(), 1);
        collected.objects = tracking::count_orphans(conn, scope, due).await?;
        return Ok(collected);
    }
    let txn = app.db.begin().await?;
    collected.experiments = tracking::remove_experiments(&txn, scope, cutoff).await?;
    txn.commit().await?;
    collected.objects = collect_objects(app, scope).await?;
    Ok(collected)
}

async fn collect_runs(
    app: &App,
    scope: &Scope,
    cutoff: Timestamp,
    dry_run: bool,
) -> Result<Collected> {
    let mut collected = Collected::default();
    let mut after = None;
    loop {
        let ids = tracking::deleted_runs(app.db.read(), scope, cutoff, after, RUNS).await?;
        let Some(last) = ids.last() else {
            return Ok(collected);
        };
        after = Some(*last);
        // A deleted run cannot be published from, and one that was restored meanwhile is not removed below.
        let kept = catalogue::runs_of_versions(app.db.read(), scope, &ids).await?;
        let removable: Vec<Uuid> = ids
            .iter()
            .copied()
            .filter(|id| !kept.contains(id))
            .collect();
        collected.kept_runs += kept.len() as u64;
        if dry_run {
            collected.runs += removable.len() as u64;
        } else if !removable.is_empty() {
            let txn = app.db.begin().await?;
            collected.runs +=
                tracking::remove_runs(&txn, scope, &removable, cutoff, app.now()).await?;
            txn.commit().await?;
        }
    }
}

/// Removes the bytes that nothing names any more.
async fn collect_objects(app: &App, scope: &Scope) -> Result<u64> {
    let mut removed = 0;
    loop {
        let now = app.now();
        let txn = app.db.begin().await?;
        let due = tracking::due_orphans(&txn, scope, now, OBJECTS).await?;
        if due.is_empty() {
            return Ok(removed);
        }
        let named: BTreeSet<String> = catalogue::captured_digests(&txn, scope, &due).await?;
        let doomed = tracking::condemn_orphans(&txn, scope, &due, &named, now).await?;
        txn.commit().await?;
        // No transaction is open now. Whoever uploads one of these is told to come back, until its mark is gone.
        for sha256 in &doomed {
            app.objects
                .delete(&tracking::object_key(scope, sha256))
                .await?;
        }
        let txn = app.db.begin().await?;
        tracking::forget_orphans(&txn, scope, &doomed).await?;
        txn.commit().await?;
        removed += doomed.len() as u64;
    }
}
