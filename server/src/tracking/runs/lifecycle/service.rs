//! What TrackingService does to delete, restore and move runs.

use mlplat_proto::tracking::v1 as pb;
use tonic::Request;
use uuid::Uuid;

use super::store;
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::Result,
    request::{self, Violations, project_name},
    tracking::{
        View, experiments,
        runs::{convert::run_id, store as runs},
    },
};

const MAX_RUNS: usize = 1000;
const MAX_KEYS: usize = 10_000;

/// Deletes runs.
pub(in crate::tracking) async fn delete_runs(
    app: &App,
    request: Request<pb::DeleteRunsRequest>,
) -> Result<pb::DeleteRunsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let violations = Violations::new();
    let (scope, ids) =
        authorize_runs(app, &caller, violations, &message.run_ids, &message.project).await?;

    let txn = app.db.begin().await?;
    let ids = store::lock_runs(&txn, &scope, ids, message.nested).await?;
    let changed_runs = store::delete_runs(&txn, &scope, &ids, app.now()).await?;
    txn.commit().await?;
    Ok(pb::DeleteRunsResponse { changed_runs })
}

/// Restores runs.
pub(in crate::tracking) async fn restore_runs(
    app: &App,
    request: Request<pb::RestoreRunsRequest>,
) -> Result<pb::RestoreRunsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let violations = Violations::new();
    let (scope, ids) =
        authorize_runs(app, &caller, violations, &message.run_ids, &message.project).await?;

    let txn = app.db.begin().await?;
    let ids = store::lock_runs(&txn, &scope, ids, message.nested).await?;
    store::refuse_deleted_experiments(&txn, &scope, &ids).await?;
    let changed_runs = store::restore_runs(&txn, &scope, &ids, app.now()).await?;
    txn.commit().await?;
    Ok(pb::RestoreRunsResponse { changed_runs })
}

/// Moves runs into another experiment.
pub(in crate::tracking) async fn move_runs(
    app: &App,
    request: Request<pb::MoveRunsRequest>,
) -> Result<pb::MoveRunsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::new();
    let experiment = violations.parse(
        "experiment",
        request::name(&message.experiment, experiments::MAX_NAME),
    );
    let name = experiment.unwrap_or_default();
    if !message.from_experiment.is_empty() {
        return move_experiment(app, &caller, violations, &name, &message).await;
    }
    let (scope, ids) =
        authorize_runs(app, &caller, violations, &message.run_ids, &message.project).await?;

    let now = app.now();
    let txn = app.db.begin().await?;
    let target = experiments::store::ensure_experiment(&txn, &scope, &name, now).await?;
    let ids = store::lock_runs(&txn, &scope, ids, message.nested).await?;
    let changed_runs = store::move_runs(&txn, &scope, &ids, &target, now).await?;
    txn.commit().await?;
    Ok(pb::MoveRunsResponse { changed_runs })
}

/// Moves all runs of an experiment into another one.
async fn move_experiment(
    app: &App,
    caller: &Caller,
    mut violations: Violations,
    name: &str,
    message: &pb::MoveRunsRequest,
) -> Result<pb::MoveRunsResponse> {
    let source = request::name(&message.from_experiment, experiments::MAX_NAME);
    let source = violations.parse("from_experiment", source);
    if !message.run_ids.is_empty() {
        violations.add("run_ids", "must be left out where from_experiment is given");
    }
    if message.nested {
        violations.add("nested", "must be left out where from_experiment is given");
    }
    violations.finish()?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let now = app.now();
    let txn = app.db.begin().await?;
    let target = experiments::store::ensure_experiment(&txn, &scope, name, now).await?;
    let source = source.unwrap_or_default();
    let source = experiments::store::get_experiment(&txn, &scope, &source, View::Active).await?;
    let changed_runs =
        store::move_runs_of_experiment(&txn, &scope, source.id, &target, now).await?;
    txn.commit().await?;
    Ok(pb::MoveRunsResponse { changed_runs })
}

/// Deletes params and tags of a run.
pub(in crate::tracking) async fn delete_params_and_tags(
    app: &App,
    request: Request<pb::DeleteParamsAndTagsRequest>,
) -> Result<pb::DeleteParamsAndTagsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::new();
    let id = violations.parse("run_id", run_id(&message.run_id));
    for (field, keys) in [("params", &message.params), ("tags", &message.tags)] {
        if keys.len() > MAX_KEYS {
            violations.add(field, format!("must hold at most {MAX_KEYS} keys"));
        }
    }
    if message.params.is_empty() && message.tags.is_empty() {
        violations.add("params", "params or tags must name what to delete");
    }
    violations.finish()?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let txn = app.db.begin().await?;
    let run = runs::lock_run(&txn, &scope, id.unwrap_or_default()).await?;
    let deleted =
        store::delete_params_and_tags(&txn, &scope, run.id, &message.params, &message.tags).await?;
    runs::touch(&txn, &scope, run.id, app.now()).await?;
    txn.commit().await?;
    Ok(pb::DeleteParamsAndTagsResponse { deleted })
}

/// Which runs a message names, and the right to change them in its project; `violations` is what else of it is bad.
async fn authorize_runs(
    app: &App,
    caller: &Caller,
    mut violations: Violations,
    run_ids: &[String],
    project: &str,
) -> Result<(Scope, Vec<Uuid>)> {
    let ids = parse_ids(&mut violations, run_ids);
    violations.finish()?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(project))
        .await?;
    Ok((scope, ids))
}

/// In order and without repetition, so that two calls lock in the same order.
fn parse_ids(violations: &mut Violations, ids: &[String]) -> Vec<Uuid> {
    if ids.is_empty() || ids.len() > MAX_RUNS {
        violations.add("run_ids", format!("must hold 1 to {MAX_RUNS} ids"));
        return Vec::new();
    }
    let mut parsed: Vec<Uuid> = ids
        .iter()
        .enumerate()
        .filter_map(|(index, id)| violations.parse(format!("run_ids[{index}]"), run_id(id)))
        .collect();
    parsed.sort_unstable();
    parsed.dedup();
    parsed
}
