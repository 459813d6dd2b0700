//! Signs of life: HeartbeatRuns, and the search for runs whose processes have fallen silent.
//!
//! Invariant: a run is called crashed only when the server could have heard of it all the time; what a server slept through
//! is no silence. Several replicas may look at once: each run is judged again under its lock.

use std::sync::Arc;

use mlplat_proto::tracking::v1 as pb;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QuerySelect as _,
    sea_query::{Expr, ExprTrait as _},
};
use std::time::Duration;
use tonic::Request;
use uuid::Uuid;

use super::{convert::Heartbeat, life, life::Heard, store};
use crate::{
    admin::entity::project,
    app::App,
    auth::{Action, Caller},
    clock::Timestamp,
    error::{Error, Result},
    request::project_name,
    tracking::entity::run::{self, Status},
};

/// Silent runs that are looked at together.
const BATCH: u64 = 100;

/// Notes signs of life.
pub(crate) async fn heartbeat_runs(
    app: &App,
    request: Request<pb::HeartbeatRunsRequest>,
) -> Result<pb::HeartbeatRunsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let now = app.now();
    let heartbeat = Heartbeat::parse(&message, now)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;

    let rows = store::load_runs(app.db.read(), &scope, &heartbeat.ids).await?;
    let is_of_another = |row: &run::Model| {
        let has_it = row.writer_id.zip(heartbeat.writer);
        has_it.is_some_and(|(other, writer)| other != writer)
    };
    let is_news = |row: &&run::Model| match heartbeat.heard_at {
        _ if is_of_another(row) => false,
        Some(at) => life::is_news(row, at),
        None => matches!(Heard::of(app, row, now), Heard::Later | Heard::Crashed),
    };
    let news: Vec<Uuid> = rows.iter().filter(is_news).map(|row| row.id).collect();
    if !news.is_empty() {
        let txn = app.db.begin().await?;
        let locked = store::lock_runs(&txn, &scope, &news).await?;
        match heartbeat.heard_at {
            Some(at) => life::beat_late(app, &txn, &scope, locked, at, now).await?,
            None => life::beat(app, &txn, &scope, locked, now).await?,
        }
        txn.commit().await?;
    }
    Ok(pb::HeartbeatRunsResponse {
        interval_s: app.config.tracking.heartbeat_interval_s,
        ended_run_ids: rows
            .iter()
            .filter(|row| row.deleted_at.is_some() || Heard::of(app, row, now) == Heard::Ended)
            .map(|row| row.id.to_string())
            .collect(),
    })
}

/// Looks for silent runs, for as long as the server lives.
#[derive(Debug)]
pub(crate) struct Sweeper {
    app: Arc<App>,
    /// Since when the server has been able to hear.
    listening_since: Timestamp,
}

impl Sweeper {
    /// One that begins to listen now.
    pub(crate) fn new(app: Arc<App>) -> Self {
        let listening_since = app.now();
        Self {
            app,
            listening_since,
        }
    }

    /// Looks again and again; ends never.
    pub(crate) async fn run(mut self) {
        let pause = Duration::from_secs(self.app.config.tracking.heartbeat_interval_s.into());
        loop {
            tokio::time::sleep(pause).await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "silent runs could not be looked for");
                // Heartbeats could not be stored either.
                self.listening_since = self.app.now();
            }
        }
    }

    async fn sweep(&self) -> Result<()> {
        let timeout = i64::from(self.app.config.tracking.heartbeat_timeout_s) * 1_000_000;
        let deadline = Timestamp(self.app.now().micros() - timeout);
        if self.listening_since > deadline {
            return Ok(());
        }
        loop {
            let silent = silent_runs(self.app.db.read(), deadline).await?;
            let all = (silent.len() as u64) < BATCH;
            for (run_id, project) in silent {
                self.judge(run_id, &project, deadline).await?;
            }
            if all {
                return Ok(());
            }
        }
    }

    /// Calls the run crashed unless it was heard of meanwhile, or is gone.
    async fn judge(&self, run_id: Uuid, project: &str, deadline: Timestamp) -> Result<()> {
        let app = &self.app;
        let scope = Caller::server()
            .authorize(app, Action::WriteRuns, project)
            .await?;
        let txn = app.db.begin().await?;
        let row = match store::lock_run(&txn, &scope, run_id).await {
            Err(Error::NotFound { .. }) => return Ok(()),
            row => row?,
        };
        let silent = row
            .heartbeat_at
            .map(Timestamp)
            .filter(|heard_at| row.status == Status::Running && *heard_at < deadline);
        if let Some(heard_at) = silent {
            life::crash(app, &txn, &scope, row, heard_at, app.now()).await?;
            txn.commit().await?;
        }
        Ok(())
    }
}

/// Some runs of the whole installation that were not heard of since `deadline`, with their projects.
async fn silent_runs(
    conn: &impl ConnectionTrait,
    deadline: Timestamp,
) -> Result<Vec<(Uuid, String)>> {
    // The status stands in the text, so that SQLite sees that the index of running runs fits.
    let running = Expr::col((run::Entity, run::Column::Status)).eq(Expr::cust("'RUNNING'"));
    let of_project = Expr::col((project::Entity, project::Column::Id))
        .equals((run::Entity, run::Column::ProjectId));
    let mut find = run::Entity::find()
        .select_only()
        .column(run::Column::Id)
        .column(project::Column::Name)
        .filter(running)
        .filter(run::Column::HeartbeatAt.lt(deadline.micros()))
        .limit(BATCH);
    sea_orm::QueryTrait::query(&mut find).inner_join(project::Entity, of_project);
    Ok(find.into_tuple().all(conn).await?)
}
