//! SQL of runs.
//!
//! Invariant: everything below a run (params, tags, metrics, artifacts) is written only while its row is locked, so writers
//! of one run queue and those of others do not meet.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
    sea_query::InsertStatement,
};
use uuid::Uuid;

use super::{
    convert::{NewRun, RunChange},
    texts,
};
use crate::{
    auth::Scope,
    clock::Timestamp,
    db,
    error::{Error, Result},
    tracking::{
        View,
        entity::{
            run::{self, Status},
            run_branch, run_tag,
        },
    },
};

/// Rows a statement, so that its parameters stay below what SQLite takes (32,766).
const ROWS: usize = 1000;

/// The run of this id in the project of the scope, deleted or not: what its process still logs is kept.
pub(crate) async fn load_run(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<run::Model> {
    run::Entity::find_by_id(run_id)
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .one(conn)
        .await?
        .ok_or_else(|| Error::not_found("run", run_id))
}

/// Like [`load_run`], where what is deleted is not there.
pub(crate) async fn load_active_run(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<run::Model> {
    let row = load_run(conn, scope, run_id).await?;
    seen(row, View::Active)
}

/// The run, if it may be seen.
pub(crate) fn seen(row: run::Model, view: View) -> Result<run::Model> {
    if view.shows(row.deleted_at) {
        Ok(row)
    } else {
        Err(Error::not_found("run", row.id))
    }
}

/// Like [`load_run`], and holds the run until the transaction ends: others that write to it wait. (On SQLite there is one
/// writer anyway.)
pub(crate) async fn lock_run(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<run::Model> {
    run::Entity::find_by_id(run_id)
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .lock_exclusive()
        .one(txn)
        .await?
        .ok_or_else(|| Error::not_found("run", run_id))
}

/// The run of this id, if it was created before. An id is good for one run of the whole installation.
pub(super) async fn find_created(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<Option<run::Model>> {
    match run::Entity::find_by_id(run_id).one(conn).await? {
        Some(run) if run.project_id != scope.project_id() => {
            Err(Error::already_exists("run", run_id))
        }
        found => Ok(found),
    }
}

/// A run that begins in this experiment.
pub(super) fn new_run(
    scope: &Scope,
    new: &NewRun,
    experiment_id: Uuid,
    now: Timestamp,
) -> run::Model {
    run::Model {
        id: new.id,
        project_id: scope.project_id(),
        experiment_id,
        experiment_at_creation: new.experiment.clone(),
        name: new.name.clone(),
        parent_run_id: new.parent_run_id,
        status: Status::Running,
        status_message: String::new(),
        description: new.description.clone(),
        started_at: new.started_at.unwrap_or(now).micros(),
        ended_at: None,
        created_at: now.micros(),
        updated_at: now.micros(),
        created_by: scope.subject().to_owned(),
        deleted_at: None,
        heartbeat_at: new.heartbeats.then_some(now.micros()),
        branch: 0,
        lineage_at: None,
        revision: now.micros(),
        writer_id: new.writer,
        taken_up_at: new.heartbeats.then_some(now.micros()),
    }
}

/// The insert of a new run. It fails where there is one of this id.
pub(super) fn insert(row: &run::Model) -> InsertStatement {
    run::Entity::insert(row.clone().into_active_model()).into_query()
}

/// Changes a run that is locked.
pub(super) async fn update_run(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run: run::Model,
    change: RunChange,
    now: Timestamp,
) -> Result<run::Model> {
    let run_id = run.id;
    let mut row = run.into_active_model();
    if let Some(name) = change.name {
        row.name = Set(name);
    }
    if let Some(description) = change.description {
        row.description = Set(description);
    }
    if let Some(tags) = change.tags {
        run_tag::Entity::delete_many()
            .filter(run_tag::Column::RunId.eq(run_id))
            .exec(txn)
            .await?;
        db::insert_together(txn, texts::first_tags(run_id, &tags)?).await?;
    }
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Where a run comes to be in its life.
#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) message: String,
    pub(super) ended_at: Option<Timestamp>,
}

/// Moves a locked run to another state.
pub(super) async fn set_state(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run: run::Model,
    state: State,
    lineage_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<run::Model> {
    let mut row = run.into_active_model();
    row.status = Set(state.status);
    row.status_message = Set(state.message);
    row.ended_at = Set(state.ended_at.map(Timestamp::micros));
    row.updated_at = Set(now.micros());
    if let Some(at) = lineage_at {
        row.lineage_at = Set(Some(at.micros()));
    }
    Ok(row.update(txn).await?)
}

/// The runs of these ids in the project of the scope; others are left out.
pub(super) async fn load_runs(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_ids: &[Uuid],
) -> Result<Vec<run::Model>> {
    let mut found = Vec::new();
    for part in run_ids.chunks(ROWS) {
        let rows = run::Entity::find()
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .all(conn)
            .await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Like [`load_runs`], and holds the runs, in the order of their ids, until the transaction ends.
pub(super) async fn lock_runs(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run_ids: &[Uuid],
) -> Result<Vec<run::Model>> {
    let mut sorted = run_ids.to_vec();
    sorted.sort_unstable();
    let mut found = Vec::new();
    for part in sorted.chunks(ROWS) {
        let rows = run::Entity::find()
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .order_by_asc(run::Column::Id)
            .lock_exclusive()
            .all(txn)
            .await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Notes that the processes of locked runs were heard of.
pub(super) async fn set_heartbeat(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run_ids: &[Uuid],
    now: Timestamp,
) -> Result<()> {
    for part in run_ids.chunks(ROWS) {
        run::Entity::revise()
            .col_expr(run::Column::HeartbeatAt, now.micros().into())
            .filter(run::Column::Id.is_in(part.iter().copied()))
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .exec(txn)
            .await?;
    }
    Ok(())
}

/// The branches of several runs of the project, by run and number.
pub(in crate::tracking) async fn load_branches(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_ids: &[Uuid],
) -> Result<Vec<run_branch::Model>> {
    if run_ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(run_branch::Entity::find()
        .filter(run_branch::Column::RunId.is_in(run_ids.iter().copied()))
        .order_by_asc(run_branch::Column::RunId)
        .order_by_asc(run_branch::Column::Number)
        .all(conn)
        .await?)
}

/// Notes which process has a locked run from now on, and since when.
pub(super) async fn take_up(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run: run::Model,
    writer: Option<Uuid>,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<run::Model> {
    let mut row = run.into_active_model();
    row.writer_id = Set(writer);
    row.taken_up_at = Set(at.map(Timestamp::micros));
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Begins a branch of a locked run.
pub(super) async fn begin_branch(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run: run::Model,
    from_step: i64,
    request_id: Uuid,
    now: Timestamp,
) -> Result<run::Model> {
    let number = run.branch + 1;
    let branch = run_branch::Model {
        run_id: run.id,
        number,
        parent: run.branch,
        from_step,
        request_id,
        created_at: now.micros(),
    };
    run_branch::Entity::insert(branch.into_active_model())
        .exec_without_returning(txn)
        .await?;
    let mut row = run.into_active_model();
    row.branch = Set(number);
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Notes that something of a locked run has changed.
pub(crate) async fn touch(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
    now: Timestamp,
) -> Result<()> {
    run::Entity::revise()
        .col_expr(run::Column::UpdatedAt, now.micros().into())
        .filter(run::Column::Id.eq(run_id))
        .filter(run::Column::ProjectId.eq(scope.project_id()))
        .exec(txn)
        .await?;
    Ok(())
}
