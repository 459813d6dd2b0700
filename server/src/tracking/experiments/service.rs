//! What TrackingService does with experiments.

use mlplat_proto::tracking::v1 as pb;
use tonic::Request;

use super::{
    convert::{ExperimentChange, NewExperiment},
    store,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::Result,
    idempotency,
    page::Page,
    request::{Violations, project_name},
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
        experiment: Some(experiment.into()),
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
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;
    let experiment = store::get_experiment(app.db.read(), &scope, &message.name).await?;
    Ok(pb::GetExperimentResponse {
        experiment: Some(experiment.into()),
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
        &["experiments", &project],
    );
    violations.finish()?;
    let scope = caller.authorize(app, Action::Read, &project).await?;

    let mut rows = store::list_experiments(app.db.read(), &scope, &page).await?;
    let next_page_token = page.cut(&mut rows, |last| vec![last.name.clone()]);
    Ok(pb::ListExperimentsResponse {
        experiments: rows.into_iter().map(Into::into).collect(),
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
        experiment: Some(experiment.into()),
    })
}
