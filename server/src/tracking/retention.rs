//! SQL that removes deleted runs and experiments for good.
//!
//! Invariant: what is restored meanwhile stays. The bytes of artifacts are not its business: they go when no record leads to
//! them any more (`artifacts::collect`).

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
    sea_query::{Expr, ExprTrait as _, Query},
};
use uuid::Uuid;

use super::entity::{experiment, run};
use crate::{auth::Scope, clock::Timestamp, error::Result};

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
    // The database would do so by itself, but make no new revision of what stays.
    run::Entity::revise()
        .col_expr(run::Column::ParentRunId, Expr::val(None::<Uuid>))
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .filter(run::Column::ParentRunId.is_in(locked.iter().copied()))
        .exec(txn)
        .await?;
    let removed = run::Entity::delete_many()
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .filter(run::Column::Id.is_in(locked))
        .exec(txn)
        .await?;
    Ok(removed.rows_affected)
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
