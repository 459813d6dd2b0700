//! What TrackingService does with the inputs of runs.

use mlplat_proto::tracking::v1 as pb;
use tonic::Request;

use super::{
    convert::{self, NewInputs},
    store,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::Result,
    lineage::{self, EventType, Names},
    request::project_name,
    tracking::{entity::run::Status, runs},
};

/// Notes which data sets a run read.
pub(crate) async fn log_inputs(
    app: &App,
    request: Request<pb::LogInputsRequest>,
) -> Result<pb::LogInputsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let project = project_name(&message.project);
    let now = app.now();
    let new = NewInputs::parse(message, now)?;
    let scope = caller.authorize(app, Action::WriteRuns, &project).await?;

    let txn = app.db.begin().await?;
    let run = runs::store::lock_run(&txn, &scope, new.run_id).await?;
    let created = store::set_inputs(&txn, &scope, run.id, &new.rows).await?;
    runs::store::touch(&txn, &scope, run.id, now).await?;
    if !created.is_empty() {
        // A run that has ended does not run again; OTHER is for what becomes known later.
        let kind = match run.status {
            Status::Running => EventType::Running,
            _ => EventType::Other,
        };
        let at = runs::event_time(&run, now);
        let names = Names::new(&app.instance, scope.project());
        let read = created.iter().map(|row| convert::dataset(&names, row));
        let event = runs::run_event(app, &txn, &scope, &run, kind, at)
            .await?
            .inputs(read.collect());
        lineage::store::record(&txn, &scope, &event, now).await?;
    }
    txn.commit().await?;
    Ok(pb::LogInputsResponse {
        created: created.len() as u64,
    })
}
