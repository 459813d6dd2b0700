//! SQL that removes deleted runs and experiments for good, and keeps account of bytes that perhaps nothing names any more.
//!
//! Invariant: a digest is noted as orphaned in the transaction that removes what named it, so a crash leaves no bytes
//! behind that nobody knows of. It is marked before its bytes go, and forgotten after; while it is marked, uploads of this
//! content are refused, so that none of them trusts in bytes that are about to go.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
    sea_query::{Expr, ExprTrait as _, OnConflict, Query},
};
use uuid::Uuid;

pub(crate) use super::artifacts::store::object_key;
use super::entity::{artifact, artifact_orphan, experiment, run};
use crate::{
    app::App,
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
};

/// Rows a statement, so that its parameters stay below what SQLite takes (32,766).
const ROWS: usize = 1000;
/// Longest time of an upload: bytes stay so long after the last record that named them.
const GRACE_MICROS: i64 = 24 * 3600 * 1_000_000;
/// A mark that is older was left by a server that has crashed.
const ABANDONED_MICROS: i64 = 3600 * 1_000_000;

fn deleted(scope: &Scope, cutoff: Timestamp) -> Select<run::Entity> {
    run::Entity::find()
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .filter(run::Column::DeletedAt.lte(cutoff.micros()))
}

/// Ids of runs that were deleted until `cutoff`, in order, behind `after`.
pub(crate) async fn deleted_runs(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    cutoff: Timestamp,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Uuid>> {
    let mut runs = deleted(scope, cutoff);
    if let Some(after) = after {
        runs = runs.filter(run::Column::Id.gt(after));
    }
    Ok(runs
        .select_only()
        .column(run::Column::Id)
        .order_by_asc(run::Column::Id)
        .limit(limit)
        .into_tuple()
        .all(conn)
        .await?)
}

/// Removes those of the runs that are still deleted, with all that belongs to them.
pub(crate) async fn remove_runs(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
    cutoff: Timestamp,
    now: Timestamp,
) -> Result<u64> {
    let locked: Vec<Uuid> = deleted(scope, cutoff)
        .filter(run::Column::Id.is_in(ids.iter().copied()))
        .order_by_asc(run::Column::Id)
        .lock_exclusive()
        .all(txn)
        .await?
        .into_iter()
        .map(|run| run.id)
        .collect();
    let digests: Vec<String> = artifact::Entity::find()
        .filter(artifact::Column::RunId.is_in(locked.iter().copied()))
        .select_only()
        .column(artifact::Column::Sha256)
        .distinct()
        .into_tuple()
        .all(txn)
        .await?;
    note_orphans(txn, scope, &digests, now).await?;
    let removed = run::Entity::delete_many()
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .filter(run::Column::Id.is_in(locked))
        .exec(txn)
        .await?;
    Ok(removed.rows_affected)
}

async fn note_orphans(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    digests: &[String],
    now: Timestamp,
) -> Result<()> {
    use artifact_orphan::Column as C;
    // What is orphaned again waits again; a mark stays.
    let again = OnConflict::columns([C::ProjectId, C::Sha256])
        .update_column(C::OrphanedAt)
        .to_owned();
    for part in digests.chunks(ROWS) {
        let rows = part.iter().map(|sha256| artifact_orphan::ActiveModel {
            project_id: Set(scope.project_id()),
            sha256: Set(sha256.clone()),
            orphaned_at: Set(now.micros()),
            collecting: Set(0),
        });
        artifact_orphan::Entity::insert_many(rows)
            .on_conflict(again.clone())
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

/// Experiments that were deleted until `cutoff` and hold no run that stays.
fn empty_experiments(scope: &Scope, cutoff: Timestamp, staying: Condition) -> Condition {
    let mut runs = Query::select();
    runs.expr(Expr::val(1))
        .from(run::Entity)
        .and_where(
            Expr::col((run::Entity, run::Column::ExperimentId))
                .equals((experiment::Entity, experiment::Column::Id)),
        )
        .cond_where(staying);
    Condition::all()
        .add(experiment::Column::ProjectId.eq(scope.project_id()))
        .add(experiment::Column::DeletedAt.lte(cutoff.micros()))
        .add(Expr::not_exists(runs))
}

/// Removes experiments that were deleted until `cutoff` and hold no run.
pub(crate) async fn remove_experiments(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    cutoff: Timestamp,
) -> Result<u64> {
    let removed = experiment::Entity::delete_many()
        .filter(empty_experiments(scope, cutoff, Condition::all()))
        .exec(txn)
        .await?;
    Ok(removed.rows_affected)
}

/// How many experiments hold no run that would stay (but for those that models keep).
pub(crate) async fn count_experiments(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    cutoff: Timestamp,
) -> Result<u64> {
    let staying = Condition::any()
        .add(run::Column::DeletedAt.is_null())
        .add(run::Column::DeletedAt.gt(cutoff.micros()));
    Ok(experiment::Entity::find()
        .filter(empty_experiments(scope, cutoff, staying))
        .count(conn)
        .await?)
}

/// How many digests were orphaned until then.
pub(crate) async fn count_orphans(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    until: Timestamp,
) -> Result<u64> {
    Ok(artifact_orphan::Entity::find()
        .filter(artifact_orphan::Column::ProjectId.eq(scope.project_id()))
        .filter(artifact_orphan::Column::OrphanedAt.lte(until.micros()))
        .count(conn)
        .await?)
}

/// Digests that have waited long enough, and those whose removal was broken off; all locked.
pub(crate) async fn due_orphans(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    now: Timestamp,
    limit: u64,
) -> Result<Vec<String>> {
    use artifact_orphan::Column as C;
    let due = |collecting: i16, micros: i64| {
        Condition::all()
            .add(C::Collecting.eq(collecting))
            .add(C::OrphanedAt.lte(now.micros() - micros))
    };
    let rows = artifact_orphan::Entity::find()
        .filter(C::ProjectId.eq(scope.project_id()))
        .filter(
            Condition::any()
                .add(due(0, GRACE_MICROS))
                .add(due(1, ABANDONED_MICROS)),
        )
        .order_by_asc(C::Sha256)
        .limit(limit)
        .lock_exclusive()
        .all(txn)
        .await?;
    Ok(rows.into_iter().map(|row| row.sha256).collect())
}

/// Forgets those of the locked digests that are named (by model versions, as given, or by records), marks the others, and
/// gives these.
pub(crate) async fn condemn_orphans(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    due: &[String],
    named: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Vec<String>> {
    use artifact_orphan::Column as C;
    let mut named = named.clone();
    let recorded: Vec<String> = artifact::Entity::find()
        .select_only()
        .column(artifact::Column::Sha256)
        .distinct()
        .filter(artifact::Column::Sha256.is_in(due.iter().map(String::as_str)))
        .filter(Expr::exists(
            Query::select()
                .expr(Expr::val(1))
                .from(run::Entity)
                .and_where(
                    Expr::col((run::Entity, run::Column::Id))
                        .equals((artifact::Entity, artifact::Column::RunId)),
                )
                .and_where(run::Column::ProjectId.eq(scope.project_id()))
                .take(),
        ))
        .into_tuple()
        .all(txn)
        .await?;
    named.extend(recorded);
    let (kept, doomed): (Vec<String>, Vec<String>) = due
        .iter()
        .cloned()
        .partition(|sha256| named.contains(sha256));
    forget_orphans(txn, scope, &kept).await?;
    artifact_orphan::Entity::update_many()
        .col_expr(C::Collecting, 1.into())
        .col_expr(C::OrphanedAt, now.micros().into())
        .filter(C::ProjectId.eq(scope.project_id()))
        .filter(C::Sha256.is_in(doomed.iter().map(String::as_str)))
        .exec(txn)
        .await?;
    Ok(doomed)
}

/// Forgets digests, as they are named, or their bytes are gone.
pub(crate) async fn forget_orphans(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    digests: &[String],
) -> Result<()> {
    use artifact_orphan::Column as C;
    artifact_orphan::Entity::delete_many()
        .filter(C::ProjectId.eq(scope.project_id()))
        .filter(C::Sha256.is_in(digests.iter().map(String::as_str)))
        .exec(txn)
        .await?;
    Ok(())
}

/// Keeps bytes from being collected: to be called before an upload looks whether it finds them there.
pub(super) async fn claim_bytes(app: &App, scope: &Scope, sha256: &str) -> Result<()> {
    use artifact_orphan::Entity;
    let id = || (scope.project_id(), sha256.to_owned());
    if Entity::find_by_id(id()).one(app.db.read()).await?.is_none() {
        return Ok(());
    }
    let txn = app.db.begin().await?;
    let found = Entity::find_by_id(id()).lock_exclusive().one(&txn).await?;
    if found.is_some_and(|row| row.collecting == 1) {
        return Err(Error::Aborted {
            reason: "ARTIFACT_BEING_REMOVED",
            message: "an older copy of this content is being removed; try again".to_owned(),
        });
    }
    forget_orphans(&txn, scope, &[sha256.to_owned()]).await?;
    txn.commit().await?;
    Ok(())
}
