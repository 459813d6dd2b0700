//! What TrackingService does with experiments.

use mlplat_proto::tracking::v1 as pb;
use tonic::Request;

use super::{
    convert::{DEFAULT_EXPERIMENT, ExperimentChange, NewExperiment, experiment_to_proto},
    store,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    idempotency,
    page::Page,
    request::{Violations, project_name},
    tracking::{View, runs},
};

const CREATE_EXPERIMENT: &str = "CreateExperiment";

/// Creates an experiment.
pub(crate) async fn create_experiment(
    app: &App,
    request: Request<pb::CreateExperimentRequest>,
) -> Result<pb::CreateExperimentResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let new = NewExperiment::try_from(&message)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let now = app.now();
    let txn = app.db.begin().await?;
    if let Some(response) =
        idempotency::replay(&txn, &scope, CREATE_EXPERIMENT, new.key, &message).await?
    {
        return Ok(response);
    }
    let experiment = store::create_experiment(&txn, &scope, &new, now).await?;
    let response = pb::CreateExperimentResponse {
        experiment: Some(experiment_to_proto(app, experiment)),
    };
    idempotency::remember(
        &txn,
        &scope,
        CREATE_EXPERIMENT,
        new.key,
        &message,
        &response,
        now,
    )
    .await?;
    txn.commit().await?;
    Ok(response)
}

/// One experiment.
pub(crate) async fn get_experiment(
    app: &App,
    request: Request<pb::GetExperimentRequest>,
) -> Result<pb::GetExperimentResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::new();
    let view = violations.parse("view", View::parse(message.view));
    violations.finish()?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;
    let view = view.unwrap_or_default();
    let experiment = store::get_experiment(app.db.read(), &scope, &message.name, view).await?;
    Ok(pb::GetExperimentResponse {
        experiment: Some(experiment_to_proto(app, experiment)),
    })
}

/// A page of experiments.
pub(crate) async fn list_experiments(
    app: &App,
    request: Request<pb::ListExperimentsRequest>,
) -> Result<pb::ListExperimentsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let project = project_name(&message.project);
    let mut violations = Violations::new();
    let page = Page::parse(
        &mut violations,
        message.page_size,
        &message.page_token,
        &["experiments", &project, &message.view.to_string()],
    );
    let view = violations
        .parse("view", View::parse(message.view))
        .unwrap_or_default();
    violations.finish()?;
    let scope = caller.authorize(app, Action::Read, &project).await?;

    let mut rows = store::list_experiments(app.db.read(), &scope, view, &page).await?;
    let next_page_token = page.cut(&mut rows, |last| vec![last.name.clone()]);
    Ok(pb::ListExperimentsResponse {
        experiments: rows
            .into_iter()
            .map(|row| experiment_to_proto(app, row))
            .collect(),
        next_page_token,
    })
}

/// Changes an experiment.
pub(crate) async fn update_experiment(
    app: &App,
    request: Request<pb::UpdateExperimentRequest>,
) -> Result<pb::UpdateExperimentResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let change = ExperimentChange::parse(message.experiment, message.update_mask)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let txn = app.db.begin().await?;
    let experiment = store::update_experiment(&txn, &scope, change, app.now()).await?;
    txn.commit().await?;
    Ok(pb::UpdateExperimentResponse {
        experiment: Some(experiment_to_proto(app, experiment)),
    })
}

/// Deletes an experiment with its runs.
pub(crate) async fn delete_experiment(
    app: &App,
    request: Request<pb::DeleteExperimentRequest>,
) -> Result<pb::DeleteExperimentResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;
    if message.name == DEFAULT_EXPERIMENT {
        let message = "runs that name no experiment go into `default`, so it stays";
        return Err(Error::precondition("DEFAULT_EXPERIMENT", message));
    }

    let now = app.now();
    let txn = app.db.begin().await?;
    let mut row = store::lock_experiment(&txn, &scope, &message.name).await?;
    let mut changed_runs = 0;
    if row.deleted_at.is_none() {
        changed_runs = runs::delete_runs_of_experiment(&txn, &scope, row.id, now).await?;
        row = store::set_deleted(&txn, &scope, row, Some(now), now).await?;
    }
    txn.commit().await?;
    Ok(pb::DeleteExperimentResponse {
        experiment: Some(experiment_to_proto(app, row)),
        changed_runs,
    })
}

/// Restores an experiment with the runs that were deleted with it.
pub(crate) async fn restore_experiment(
    app: &App,
    request: Request<pb::RestoreExperimentRequest>,
) -> Result<pb::RestoreExperimentResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let txn = app.db.begin().await?;
    let mut row = store::lock_experiment(&txn, &scope, &message.name).await?;
    let mut changed_runs = 0;
    if let Some(deleted_at) = row.deleted_at {
        changed_runs = runs::restore_runs_of_experiment(&txn, &scope, row.id, deleted_at).await?;
        row = store::set_deleted(&txn, &scope, row, None, app.now()).await?;
    }
    txn.commit().await?;
    Ok(pb::RestoreExperimentResponse {
        experiment: Some(experiment_to_proto(app, row)),
        changed_runs,
    })
}
