//! What TrackingService does with single runs.

use mlplat_proto::tracking::v1 as pb;
use sea_orm::{ConnectionTrait, sea_query::InsertStatement};
use tonic::Request;

use super::{
    assemble::assemble_one,
    convert::{self, NewRun, RunChange},
    events::event_of,
    known::{self, Known},
    store, texts,
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    clock::Timestamp,
    db,
    error::{Error, Result},
    idempotency,
    lineage::{self, EventType},
    request::{Violations, project_name},
    tracking::{View, entity::run, experiments, metrics},
};

const CREATE_RUN: &str = "CreateRun";

/// Creates a run, and its experiment where there is none.
pub(crate) async fn create_run(
    app: &App,
    request: Request<pb::CreateRunRequest>,
) -> Result<pb::CreateRunResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let new = NewRun::try_from(&message)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    match create_or_find(app, &scope, &new, &message).await {
        // Somebody else has created it meanwhile, or removed what it belongs to.
        Err(Error::Aborted { .. }) => create_or_find(app, &scope, &new, &message).await,
        created => created,
    }
}

/// First all that has to be read, then, at once, all that is written. What is removed in between makes it fail, and begin again; an
/// experiment that is deleted in between keeps the run, as one that is deleted a moment later would.
async fn create_or_find(
    app: &App,
    scope: &Scope,
    new: &NewRun,
    message: &pb::CreateRunRequest,
) -> Result<pb::CreateRunResponse> {
    let (conn, now) = (app.db.read(), app.now());
    if let Some(response) = idempotency::replay(conn, scope, CREATE_RUN, new.key, message).await? {
        return Ok(response);
    }
    let known = known::find_known(conn, scope, new).await?;
    let (run, inserts) = if known.is_created(scope, new)? {
        let row = same_run(conn, scope, new).await?;
        (assemble_one(conn, scope, row.id).await?, Vec::new())
    } else {
        start(app, scope, new, &known, now).await?
    };
    let response = pb::CreateRunResponse { run: Some(run) };
    if new.key.is_none() {
        app.db.insert_at_once(inserts).await?;
        return Ok(response);
    }
    let txn = app.db.begin().await?;
    db::insert_together(&txn, inserts).await?;
    idempotency::remember(&txn, scope, CREATE_RUN, new.key, message, &response, now).await?;
    txn.commit().await?;
    Ok(response)
}

/// The run that is to be created, and what makes it: the run itself, and its start in the lineage. Its experiment is made here,
/// where there is none.
async fn start(
    app: &App,
    scope: &Scope,
    new: &NewRun,
    known: &Known,
    now: Timestamp,
) -> Result<(pb::Run, Vec<InsertStatement>)> {
    let parent = known.parent(new)?;
    let tags = texts::first_tags(new.id, &new.tags)?;
    let experiment_id = match known.experiment(new)? {
        Some(id) => id,
        None => {
            let txn = app.db.begin().await?;
            let made =
                experiments::store::ensure_experiment(&txn, scope, &new.experiment, now).await?;
            txn.commit().await?;
            made.id
        }
    };
    let row = store::new_run(scope, new, experiment_id, now);
    let started_at = Timestamp(row.started_at);
    let event = event_of(app, scope, &row, parent, EventType::Start, started_at);
    let mut inserts = vec![store::insert(&row)];
    inserts.extend(tags);
    let writer = new.writer;
    inserts.extend(writer.map(|writer| metrics::store::insert_writer(row.id, writer, row.branch)));
    inserts.extend(lineage::store::inserts(scope, &event, now));
    let run = pb::Run {
        tags: new.tags.clone(),
        ..convert::run_to_proto(row, new.experiment.clone())
    };
    Ok((run, inserts))
}

/// The run that a repeated call created before, as it is now. What makes it the same is its place when it was created, or
/// where it is now; a name that was made may differ.
async fn same_run(conn: &impl ConnectionTrait, scope: &Scope, new: &NewRun) -> Result<run::Model> {
    let row = store::find_created(conn, scope, new.id)
        .await?
        .ok_or_else(|| Error::not_found("run", new.id))?;
    if row.experiment_at_creation == new.experiment {
        return Ok(row);
    }
    let experiment =
        experiments::store::experiments_by_id(conn, scope, [row.experiment_id]).await?;
    if experiment
        .first()
        .is_some_and(|experiment| experiment.name == new.experiment)
    {
        Ok(row)
    } else {
        Err(Error::already_exists("run", new.id))
    }
}

/// One run.
pub(crate) async fn get_run(
    app: &App,
    request: Request<pb::GetRunRequest>,
) -> Result<pb::GetRunResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::new();
    let run_id = violations
        .parse("run_id", convert::run_id(&message.run_id))
        .unwrap_or_default();
    let view = violations
        .parse("view", View::parse(message.view))
        .unwrap_or_default();
    violations.finish()?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;

    let row = store::load_run(app.db.read(), &scope, run_id).await?;
    let row = store::seen(row, view)?;
    Ok(pb::GetRunResponse {
        run: Some(assemble_one(app.db.read(), &scope, row.id).await?),
    })
}

/// Changes a run.
pub(crate) async fn update_run(
    app: &App,
    request: Request<pb::UpdateRunRequest>,
) -> Result<pb::UpdateRunResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let project = project_name(&message.project);
    let change = RunChange::parse(message)?;
    let scope = caller.authorize(app, Action::WriteRuns, &project).await?;

    let txn = app.db.begin().await?;
    let row = store::lock_run(&txn, &scope, change.id).await?;
    let row = store::seen(row, View::Active)?;
    let row = store::update_run(&txn, &scope, row, change, app.now()).await?;
    let run = assemble_one(&txn, &scope, row.id).await?;
    txn.commit().await?;
    Ok(pb::UpdateRunResponse { run: Some(run) })
}
