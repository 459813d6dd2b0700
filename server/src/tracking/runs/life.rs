//! How a run ends, crashes and is taken up again.
//!
//! Invariant: every change of the state of a run is in the lineage, written in its transaction, and dated after the changes
//! before it, so that the lineage comes to the state of the run in whatever order its events are read.

use std::collections::BTreeMap;

use mlplat_proto::tracking::v1 as pb;
use sea_orm::ConnectionTrait;
use tonic::Request;
use uuid::Uuid;

use super::{
    assemble::assemble_one,
    convert::{Resumption, RunEnd},
    events::{event_time, run_event},
    store::{self, State},
    texts,
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    clock::Timestamp,
    error::{Error, Result},
    lineage::{self, EventType},
    request::project_name,
    tracking::{
        entity::{
            run::{self, Status},
            run_branch,
        },
        metrics::{self, CompactorHandle},
    },
};

/// Ends a run.
pub(crate) async fn end_run(
    app: &App,
    compactor: &CompactorHandle,
    request: Request<pb::EndRunRequest>,
) -> Result<pb::EndRunResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let end = RunEnd::parse(&message)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let txn = app.db.begin().await?;
    let row = store::lock_run(&txn, &scope, end.id).await?;
    let run_id = end.id;
    if is_followed(&txn, &scope, &row, end.writer).await? {
        let run = assemble_one(&txn, &scope, run_id).await?;
        return Ok(pb::EndRunResponse { run: Some(run) });
    }
    let run = match row.status {
        Status::Running | Status::Crashed => finish(app, &txn, &scope, row, end).await?,
        ended if ended == end.status => assemble_one(&txn, &scope, run_id).await?,
        ended => {
            let message = format!(
                "the run {} has ended as {} already",
                row.id,
                pb::RunStatus::from(ended).as_str_name()
            );
            return Err(Error::precondition("RUN_ENDED", message));
        }
    };
    txn.commit().await?;
    compactor.ended(scope.project(), run_id);
    Ok(pb::EndRunResponse { run: Some(run) })
}

/// Whether another process has taken up a run that this writer began or took up.
async fn is_followed(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    row: &run::Model,
    writer: Option<Uuid>,
) -> Result<bool> {
    let Some(writer) = writer.filter(|writer| row.writer_id != Some(*writer)) else {
        return Ok(false);
    };
    let branch = metrics::store::load_writer_branch(txn, scope, row.id, writer).await?;
    Ok(branch.is_some_and(|branch| row.writer_id.is_some() || branch < row.branch))
}

/// Ends a locked run, and records the end.
async fn finish(
    app: &App,
    txn: &impl ConnectionTrait,
    scope: &Scope,
    row: run::Model,
    end: RunEnd,
) -> Result<pb::Run> {
    let now = app.now();
    // The clock that gave the start may have been ahead of the one that gives the end.
    let ended_at = end.ended_at.unwrap_or(now).max(Timestamp(row.started_at));
    let event_type = match end.status {
        Status::Failed => EventType::Fail,
        Status::Killed | Status::Crashed => EventType::Abort,
        Status::Finished | Status::Running => EventType::Complete,
    };
    let at = event_time(&row, ended_at);
    let state = State {
        status: end.status,
        message: end.message,
        ended_at: Some(ended_at),
    };
    let row = store::set_state(txn, scope, row, state, None, now).await?;
    let run = assemble_one(txn, scope, row.id).await?;
    // In one order, for the same event is told from another one by its text.
    let params: BTreeMap<_, _> = run.params.clone().into_iter().collect();
    let mut event = run_event(app, txn, scope, &row, event_type, at)
        .await?
        .parameters(params);
    if row.status != Status::Finished && !row.status_message.is_empty() {
        event = event.error_message(&row.status_message);
    }
    lineage::store::record(txn, scope, &event, now).await?;
    Ok(run)
}

/// Takes up a run again.
pub(crate) async fn resume_run(
    app: &App,
    request: Request<pb::ResumeRunRequest>,
) -> Result<pb::ResumeRunResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let resumption = Resumption::parse(&message)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let run = store::load_run(app.db.read(), &scope, resumption.id).await?;
    let rewound = match resumption.rewind {
        Some((from_step, _)) => {
            Some(metrics::rewind::prepare(app.db.read(), &scope, &run, from_step).await?)
        }
        None => None,
    };
    let now = app.now();
    let txn = app.db.begin().await?;
    let mut row = store::lock_run(&txn, &scope, resumption.id).await?;
    let branches = store::load_branches(&txn, &scope, &[row.id]).await?;
    let (_, request_id) = resumption.rewind.unzip();
    let again = branches
        .iter()
        .any(|branch| Some(branch.request_id) == request_id);
    let at = resumption.resumed_at;
    let others = row
        .taken_up_at
        .filter(|_| row.writer_id != resumption.writer);
    if let Some(at) = at.filter(|at| !again && others.is_some_and(|others| others > at.micros())) {
        // Another process goes on with the run since then.
        if let Some(writer) = resumption.writer {
            let branch = branch_before(&branches, at).unwrap_or(row.branch);
            metrics::store::set_writer_branch(&txn, &scope, row.id, writer, branch).await?;
        }
        let run = assemble_one(&txn, &scope, row.id).await?;
        txn.commit().await?;
        return Ok(pb::ResumeRunResponse { run: Some(run) });
    }
    if let Some((from_step, request_id)) = resumption.rewind.filter(|_| !again) {
        metrics::rewind::apply(&txn, &scope, &row, from_step, rewound.unwrap_or_default()).await?;
        row = store::begin_branch(&txn, &scope, row, from_step, request_id, now).await?;
    }
    if !again {
        if let Some(writer) = resumption.writer {
            metrics::store::set_writer_branch(&txn, &scope, row.id, writer, row.branch).await?;
        }
        let live = resumption.resumed_at.is_none().then_some(now);
        row = store::take_up(&txn, &scope, row, resumption.writer, live, now).await?;
    }
    // A call that comes twice does not open a run that was ended in between.
    if row.status != Status::Running && (!again || row.status == Status::Crashed) {
        row = revive(app, &txn, &scope, row, now).await?;
    }
    let run = assemble_one(&txn, &scope, row.id).await?;
    txn.commit().await?;
    Ok(pb::ResumeRunResponse { run: Some(run) })
}

/// The branch that was current at this time, where another one began since; by number.
pub(crate) fn branch_before(branches: &[run_branch::Model], at: Timestamp) -> Option<i32> {
    let at = at.micros();
    let before = |branch: &&run_branch::Model| branch.created_at <= at;
    let newest = branches.iter().max_by_key(|branch| branch.number)?;
    let number = branches.iter().filter(before).map(|branch| branch.number);
    (newest.created_at > at).then(|| number.max().unwrap_or(0))
}

/// Makes a locked run that has ended or crashed a running one, and records it.
async fn revive(
    app: &App,
    txn: &impl ConnectionTrait,
    scope: &Scope,
    row: run::Model,
    now: Timestamp,
) -> Result<run::Model> {
    let ended_at = Timestamp(row.ended_at.unwrap_or(row.started_at));
    let at = event_time(&row, now.max(ended_at));
    let state = State {
        status: Status::Running,
        message: String::new(),
        ended_at: None,
    };
    let mut row = store::set_state(txn, scope, row, state, Some(at), now).await?;
    if row.heartbeat_at.is_some() {
        store::set_heartbeat(txn, scope, &[row.id], now).await?;
        row.heartbeat_at = Some(now.micros());
    }
    let event = run_event(app, txn, scope, &row, EventType::Running, at).await?;
    lineage::store::record(txn, scope, &event, now).await?;
    Ok(row)
}

/// Shows a locked run that runs as crashed, since its process was last heard of at `heard_at`, and records it.
pub(super) async fn crash(
    app: &App,
    txn: &impl ConnectionTrait,
    scope: &Scope,
    row: run::Model,
    heard_at: Timestamp,
    now: Timestamp,
) -> Result<run::Model> {
    let ended_at = heard_at.max(Timestamp(row.started_at));
    let at = event_time(&row, ended_at);
    let state = State {
        status: Status::Crashed,
        message: format!("its process was last heard of at {}", heard_at.rfc3339()),
        ended_at: Some(ended_at),
    };
    let row = store::set_state(txn, scope, row, state, Some(at), now).await?;
    let event = run_event(app, txn, scope, &row, EventType::Abort, at)
        .await?
        .parameters(texts::load_params(txn, scope, row.id).await?)
        .error_message(&row.status_message);
    lineage::store::record(txn, scope, &event, now).await?;
    Ok(row)
}

/// What a sign of life means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that would have to be written.
    Known,
    /// The time is to be noted.
    Later,
    /// It is thought to have crashed.
    Crashed,
    /// It has ended.
    Ended,
}

impl Heard {
    /// Not every sign of life is written: one in half an interval is enough.
    pub(super) fn of(app: &App, row: &run::Model, now: Timestamp) -> Self {
        let half = i64::from(app.config.tracking.heartbeat_interval_s) * 500_000;
        match (row.status, row.heartbeat_at) {
            (Status::Crashed, _) => Self::Crashed,
            (Status::Running, Some(at)) if at > now.micros() - half => Self::Known,
            (Status::Running, _) => Self::Later,
            (Status::Finished | Status::Failed | Status::Killed, _) => Self::Ended,
        }
    }
}

/// Notes that a locked run logs what happened just now: one that was thought to have crashed runs again.
pub(crate) async fn heard_of(
    app: &App,
    txn: &impl ConnectionTrait,
    scope: &Scope,
    row: run::Model,
    now: Timestamp,
) -> Result<()> {
    match Heard::of(app, &row, now) {
        Heard::Crashed => revive(app, txn, scope, row, now).await.map(|_| ()),
        Heard::Later if row.heartbeat_at.is_some() => {
            store::set_heartbeat(txn, scope, &[row.id], now).await
        }
        Heard::Later | Heard::Known | Heard::Ended => Ok(()),
    }
}

/// Notes a heartbeat of locked runs.
pub(super) async fn beat(
    app: &App,
    txn: &impl ConnectionTrait,
    scope: &Scope,
    rows: Vec<run::Model>,
    now: Timestamp,
) -> Result<()> {
    let mut later = Vec::new();
    for row in rows {
        match Heard::of(app, &row, now) {
            Heard::Crashed => {
                later.push(row.id);
                revive(app, txn, scope, row, now).await?;
            }
            Heard::Later => later.push(row.id),
            Heard::Known | Heard::Ended => {}
        }
    }
    store::set_heartbeat(txn, scope, &later, now).await
}

/// Whether it is new of a run that its process was heard of at `at`, some time ago.
pub(super) fn is_news(row: &run::Model, at: Timestamp) -> bool {
    matches!(row.status, Status::Running | Status::Crashed)
        && row.heartbeat_at.is_none_or(|known| known < at.micros())
}

/// Notes a heartbeat of locked runs that is told late. It brings no run back; but one that has crashed did so after it.
pub(super) async fn beat_late(
    app: &App,
    txn: &impl ConnectionTrait,
    scope: &Scope,
    rows: Vec<run::Model>,
    at: Timestamp,
    now: Timestamp,
) -> Result<()> {
    let mut later = Vec::new();
    for row in rows.into_iter().filter(|row| is_news(row, at)) {
        later.push(row.id);
        if row.status == Status::Crashed {
            crash(app, txn, scope, row, at, now).await?;
        }
    }
    store::set_heartbeat(txn, scope, &later, at).await
}
