//! One collection in one project.

use uuid::Uuid;

use super::objects;
use crate::{
    app::App, auth::Scope, catalogue::store as catalogue, clock::Timestamp, error::Result,
    tracking::retention as tracking,
};

/// Runs that one transaction removes.
const RUNS: u64 = 20;

/// What a collection has removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Collected {
    pub(crate) runs: u64,
    pub(crate) experiments: u64,
    /// Runs that stay because of a model version.
    pub(crate) kept_runs: u64,
    /// Contents of files that nothing named any more.
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
        collected.objects = objects::count(app, scope).await?;
        return Ok(collected);
    }
    let txn = app.db.begin().await?;
    collected.experiments = tracking::remove_experiments(&txn, scope, cutoff).await?;
    txn.commit().await?;
    collected.objects = objects::collect(app, Some(scope.project_id())).await?;
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
            collected.runs += tracking::remove_runs(&txn, scope, &removable, cutoff).await?;
            txn.commit().await?;
        }
    }
}
