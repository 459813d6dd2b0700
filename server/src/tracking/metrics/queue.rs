//! The queue in front of the group commit.
//!
//! Invariant: a batch is answered after its transaction has ended, and at most once; a caller that goes away changes nothing.
//! What waits is bounded in number and in bytes. Batches of one run go through one lane, in the order in which they came.

use std::sync::Arc;

use sea_orm::DbBackend;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    compact::CompactorHandle,
    group::{self, Job, Outcome},
};
use crate::{
    app::App,
    error::{Error, Result},
};

/// Batches that wait in one lane.
const WAITING: usize = 1024;
/// Batches of one transaction.
const GROUP: usize = 256;
/// Points of one transaction, unless one batch alone has more.
const GROUP_POINTS: usize = 1 << 20;
/// Memory for batches that wait, in KiB.
const IN_FLIGHT_KIB: u32 = 64 << 10;
/// PostgreSQL commits several groups at once; SQLite has one writer anyway.
const LANES: u128 = 4;

struct Waiting {
    job: Job,
    reply: oneshot::Sender<Outcome>,
}

/// Where batches are handed in.
#[derive(Debug, Clone)]
pub(crate) struct LogQueue {
    lanes: Vec<mpsc::Sender<Waiting>>,
    memory: Arc<Semaphore>,
}

impl LogQueue {
    /// Begins to store what is handed in, until the tasks are aborted.
    pub(crate) fn start(
        app: &Arc<App>,
        compactor: &CompactorHandle,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let count = match app.db.backend() {
            DbBackend::Sqlite => 1,
            _ => LANES,
        };
        let (lanes, tasks) = (0..count)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(WAITING);
                let lane = Lane {
                    app: Arc::clone(app),
                    compactor: compactor.clone(),
                    waiting: receiver,
                    next: None,
                };
                (sender, tokio::spawn(lane.run()))
            })
            .unzip();
        let memory = Arc::new(Semaphore::new(
            usize::try_from(IN_FLIGHT_KIB).unwrap_or(usize::MAX),
        ));
        (Self { lanes, memory }, tasks)
    }

    /// Room for a message of this size; waits while there is none.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes / 1024)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        Arc::clone(&self.memory)
            .acquire_many_owned(kib.min(IN_FLIGHT_KIB))
            .await
            .map_err(Error::internal)
    }

    /// Stores a batch, together with others that come at the same time.
    pub(super) async fn store(&self, job: Job) -> Outcome {
        let lane = job.batch.run_id.as_u128() % (self.lanes.len() as u128);
        let lane = &self.lanes[usize::try_from(lane).unwrap_or_default()];
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::unavailable("SERVER_STOPPING", "the server is stopping; try again");
        lane.send(Waiting { job, reply })
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// Stores one group after the other.
struct Lane {
    app: Arc<App>,
    compactor: CompactorHandle,
    waiting: mpsc::Receiver<Waiting>,
    /// One that did not fit into the last group.
    next: Option<Waiting>,
}

impl Lane {
    async fn run(mut self) {
        while let Some(group) = self.next_group().await {
            let (jobs, replies): (Vec<Job>, Vec<_>) = group
                .into_iter()
                .map(|waiting| (waiting.job, waiting.reply))
                .unzip();
            let app = Arc::clone(&self.app);
            let compactor = self.compactor.clone();
            // In a task of its own, so that a panic is the end of this group only.
            let stored = tokio::spawn(async move { store(&app, &compactor, jobs).await });
            let aborting = AbortOnDrop(stored);
            match aborting.join().await {
                Ok(outcomes) => {
                    for (reply, outcome) in replies.into_iter().zip(outcomes) {
                        // Nobody may be waiting any more.
                        let _ = reply.send(outcome);
                    }
                }
                Err(error) => {
                    let cause = error.to_string();
                    for reply in replies {
                        let error = Error::internal(anyhow::anyhow!("storing failed: {cause}"));
                        let _ = reply.send(Err(error));
                    }
                }
            }
        }
    }

    /// Waits for a batch, and takes what waits with it, up to a limit.
    async fn next_group(&mut self) -> Option<Vec<Waiting>> {
        let first = match self.next.take() {
            Some(first) => first,
            None => self.waiting.recv().await?,
        };
        let mut points = first.job.batch.points;
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = self.waiting.try_recv() else {
                break;
            };
            points += next.job.batch.points;
            if points > GROUP_POINTS {
                self.next = Some(next);
                break;
            }
            group.push(next);
        }
        Some(group)
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> std::result::Result<T, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One outcome for each job.
async fn store(app: &App, compactor: &CompactorHandle, jobs: Vec<Job>) -> Vec<Outcome> {
    let mut due = Vec::new();
    let outcomes = match group::store_group(app, &jobs, &mut due).await {
        Ok(outcomes) => outcomes,
        Err(error) if jobs.len() == 1 => vec![Err(error)],
        Err(Error::Unavailable { reason, message }) => jobs
            .iter()
            .map(|_| Err(Error::unavailable(reason, message.clone())))
            .collect(),
        Err(error) => {
            // One of them may be to blame, so each has its own transaction.
            tracing::debug!(%error, batches = jobs.len(), "a group was not stored; trying singly");
            let mut outcomes = Vec::with_capacity(jobs.len());
            for job in &jobs {
                let single =
                    group::store_group(app, std::slice::from_ref(job), &mut Vec::new()).await;
                outcomes.push(single.and_then(|mut of_one| {
                    of_one
                        .pop()
                        .unwrap_or_else(|| Err(Error::internal(anyhow::anyhow!("no outcome"))))
                }));
            }
            outcomes
        }
    };
    for (index, series) in due {
        if let Some(job) = jobs.get(index) {
            compactor.grown(job.scope.project(), job.batch.run_id, series);
        }
    }
    outcomes
}
