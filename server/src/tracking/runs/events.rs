//! What the lineage is told of runs.

use sea_orm::ConnectionTrait;

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
    let names = Names::new(&app.instance, scope.project());
    let event = RunEvent::new(
        event_type,
        row.id,
        names.experiment(&row.experiment_at_creation),
        at,
    );
    let Some(parent) = row.parent_run_id else {
        return Ok(event);
    };
    let parent = store::load_run(txn, scope, parent).await?;
    Ok(event.parent(parent.id, &names.experiment(&parent.experiment_at_creation)))
}

/// When an event of the run is dated that happened at `at`: after the last crash or resumption, so that the order of the events
/// is that of what happened, even where the clock of the process is behind.
pub(in crate::tracking) fn event_time(row: &run::Model, at: Timestamp) -> Timestamp {
    match row.lineage_at {
        Some(last) => at.max(Timestamp(last.saturating_add(1))),
        None => at,
    }
}
