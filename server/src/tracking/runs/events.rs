//! What the lineage is told of runs.

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::store;
use crate::{
    app::App,
    auth::Scope,
    clock::Timestamp,
    error::Result,
    lineage::{EventType, Names, RunEvent},
    tracking::entity::run,
};

/// An event of the run, with the run that it is nested in.
pub(in crate::tracking) async fn run_event(
    app: &App,
    txn: &impl ConnectionTrait,
    scope: &Scope,
    row: &run::Model,
    event_type: EventType,
    at: Timestamp,
) -> Result<RunEvent> {
    let parent = match row.parent_run_id {
        Some(parent) => Some(store::load_run(txn, scope, parent).await?),
        None => None,
    };
    let parent = parent
        .as_ref()
        .map(|parent| (parent.id, parent.experiment_at_creation.as_str()));
    Ok(event_of(app, scope, row, parent, event_type, at))
}

/// An event of the run, nested in the run of this id that was created in this experiment.
pub(super) fn event_of(
    app: &App,
    scope: &Scope,
    row: &run::Model,
    parent: Option<(Uuid, &str)>,
    event_type: EventType,
    at: Timestamp,
) -> RunEvent {
    let names = Names::new(&app.instance, scope.project());
    let job = names.experiment(&row.experiment_at_creation);
    let event = RunEvent::new(event_type, row.id, job, at);
    match parent {
        Some((id, experiment)) => event.parent(id, &names.experiment(experiment)),
        None => event,
    }
}

/// When an event of the run is dated that happened at `at`: after the last crash or resumption, so that the order of the events
/// is that of what happened, even where the clock of the process is behind.
pub(in crate::tracking) fn event_time(row: &run::Model, at: Timestamp) -> Timestamp {
    match row.lineage_at {
        Some(last) => at.max(Timestamp(last.saturating_add(1))),
        None => at,
    }
}
