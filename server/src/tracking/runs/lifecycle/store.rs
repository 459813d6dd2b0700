//! SQL that deletes, restores and moves runs.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    tracking::entity::{experiment, run, run_param, run_tag},
};

/// Ids a statement, so that its parameters stay below what SQLite takes (32,766).
const ROWS: usize = 1000;
/// Most runs that one call changes.
const MAX_NESTED: usize = 10_000;

/// The ids, with those of the runs nested in them where these are wanted, all locked. NOT_FOUND when one is not there.
pub(super) async fn lock_runs(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    ids: Vec<Uuid>,
    nested: bool,
) -> Result<Vec<Uuid>> {
    let mut all: BTreeSet<Uuid> = ids.iter().copied().collect();
    let mut level = ids;
    while nested && !level.is_empty() {
        let below = children(txn, scope, &level).await?;
        level = below.into_iter().filter(|id| all.insert(*id)).collect();
        if all.len() > MAX_NESTED {
            let message = format!("more than {MAX_NESTED} runs are meant; give fewer at a time");
            return Err(Error::exhausted("TOO_MANY_RUNS", message));
        }
    }
    let all: Vec<Uuid> = all.into_iter().collect();
    for part in all.chunks(ROWS) {
        let locked: Vec<Uuid> = run::Entity::find()
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .order_by_asc(run::Column::Id)
            .lock_exclusive()
            .all(txn)
            .await?
            .into_iter()
            .map(|run| run.id)
            .collect();
        let locked: BTreeSet<Uuid> = locked.into_iter().collect();
        if let Some(missing) = part.iter().find(|id| !locked.contains(id)) {
            return Err(Error::not_found("run", missing));
        }
    }
    Ok(all)
}

async fn children(txn: &impl ConnectionTrait, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let mut found: Vec<Uuid> = Vec::new();
    for part in ids.chunks(ROWS) {
        let below: Vec<Uuid> = run::Entity::find()
            .filter(run::Column::ParentRunId.is_in(part.iter().copied()))
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .select_only()
            .column(run::Column::Id)
            .limit(MAX_NESTED as u64 + 1)
            .into_tuple()
            .all(txn)
            .await?;
        found.extend(below);
    }
    Ok(found)
}

/// Deletes locked runs; those that are deleted stay so.
pub(super) async fn delete_runs(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
    now: Timestamp,
) -> Result<u64> {
    let mut changed = 0;
    for part in ids.chunks(ROWS) {
        changed += run::Entity::revise()
            .col_expr(run::Column::DeletedAt, now.micros().into())
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .filter(run::Column::DeletedAt.is_null())
            .exec(txn)
            .await?
            .rows_affected;
    }
    Ok(changed)
}

/// Restores locked runs; those that are not deleted stay so.
pub(super) async fn restore_runs(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
    now: Timestamp,
) -> Result<u64> {
    let mut changed = 0;
    for part in ids.chunks(ROWS) {
        changed += run::Entity::revise()
            .col_expr(run::Column::DeletedAt, Expr::val(None::<i64>))
            .col_expr(run::Column::UpdatedAt, now.micros().into())
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .filter(run::Column::DeletedAt.is_not_null())
            .exec(txn)
            .await?
            .rows_affected;
    }
    Ok(changed)
}

/// A run cannot come back into an experiment that is deleted.
pub(super) async fn refuse_deleted_experiments(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
) -> Result<()> {
    let mut of_runs: BTreeSet<Uuid> = BTreeSet::new();
    for part in ids.chunks(ROWS) {
        let found: Vec<Uuid> = run::Entity::find()
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .select_only()
            .column(run::Column::ExperimentId)
            .distinct()
            .into_tuple()
            .all(txn)
            .await?;
        of_runs.extend(found);
    }
    let of_runs: Vec<Uuid> = of_runs.into_iter().collect();
    for part in of_runs.chunks(ROWS) {
        let deleted = experiment::Entity::find()
            .filter(experiment::Column::ProjectId.eq(scope.project_id()))
            .filter(experiment::Column::Id.is_in(part.iter().copied()))
            .filter(experiment::Column::DeletedAt.is_not_null())
            .one(txn)
            .await?;
        if let Some(experiment) = deleted {
            return Err(crate::tracking::experiments::is_deleted(&experiment.name));
        }
    }
    Ok(())
}

/// Moves locked runs.
pub(super) async fn move_runs(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
    target: &experiment::Model,
    now: Timestamp,
) -> Result<u64> {
    let mut changed = 0;
    for part in ids.chunks(ROWS) {
        changed += run::Entity::revise()
            .col_expr(run::Column::ExperimentId, target.id.into())
            .col_expr(run::Column::UpdatedAt, now.micros().into())
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .filter(run::Column::ExperimentId.ne(target.id))
            .exec(txn)
            .await?
            .rows_affected;
    }
    Ok(changed)
}

/// Moves all runs of an experiment, in the order of their ids, in which everybody locks runs.
pub(super) async fn move_runs_of_experiment(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    experiment_id: Uuid,
    target: &experiment::Model,
    now: Timestamp,
) -> Result<u64> {
    let ids: Vec<Uuid> = run::Entity::find()
        .select_only()
        .column(run::Column::Id)
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .filter(run::Column::ExperimentId.eq(experiment_id))
        .order_by_asc(run::Column::Id)
        .lock_exclusive()
        .into_tuple()
        .all(txn)
        .await?;
    move_runs(txn, scope, &ids, target, now).await
}

/// Deletes the runs of an experiment that is being deleted, at the same moment.
pub(in crate::tracking) async fn delete_runs_of_experiment(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    experiment_id: Uuid,
    now: Timestamp,
) -> Result<u64> {
    let deleted = run::Entity::revise()
        .col_expr(run::Column::DeletedAt, now.micros().into())
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .filter(run::Column::ExperimentId.eq(experiment_id))
        .filter(run::Column::DeletedAt.is_null())
        .exec(txn)
        .await?;
    Ok(deleted.rows_affected)
}

/// Restores the runs that were deleted with their experiment: those of the same moment.
pub(in crate::tracking) async fn restore_runs_of_experiment(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    experiment_id: Uuid,
    deleted_at: i64,
) -> Result<u64> {
    let restored = run::Entity::revise()
        .col_expr(run::Column::DeletedAt, Expr::val(None::<i64>))
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .filter(run::Column::ExperimentId.eq(experiment_id))
        .filter(run::Column::DeletedAt.eq(deleted_at))
        .exec(txn)
        .await?;
    Ok(restored.rows_affected)
}

/// Deletes params and tags of a locked run.
pub(super) async fn delete_params_and_tags(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    params: &[String],
    tags: &[String],
) -> Result<u64> {
    let mut deleted = 0;
    for part in params.chunks(ROWS) {
        deleted += run_param::Entity::delete_many()
            .filter(run_param::Column::RunId.eq(run_id))
            .filter(run_param::Column::Key.is_in(storable(part)))
            .exec(txn)
            .await?
            .rows_affected;
    }
    for part in tags.chunks(ROWS) {
        deleted += run_tag::Entity::delete_many()
            .filter(run_tag::Column::RunId.eq(run_id))
            .filter(run_tag::Column::Key.is_in(storable(part)))
            .exec(txn)
            .await?
            .rows_affected;
    }
    Ok(deleted)
}

/// Keys that there can be: PostgreSQL takes no NUL, not even in a question.
fn storable(keys: &[String]) -> impl Iterator<Item = &str> {
    keys.iter()
        .map(String::as_str)
        .filter(|key| !key.contains('\0'))
}
