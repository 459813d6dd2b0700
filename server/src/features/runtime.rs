//! The threads that queries run on, apart from those that serve requests, so that a heavy join never delays a small call.
//!
//! Invariant: work ends when whoever asked for it no longer waits: dropping a [`Task`] cancels it at its next await. This
//! module must not know what the work is.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};
use tonic::Status;

use crate::error::{Error, Result};

/// Runs queries.
#[derive(Debug)]
pub(super) struct QueryRuntime {
    /// Taken only by drop.
    runtime: Option<Runtime>,
}

impl QueryRuntime {
    /// Starts the threads: one per core.
    pub(super) fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("mlplat-query")
            // Planning and evaluating deep expressions recurses; how deep they may be is in `sql.rs`. Memory is taken only as
            // far as a stack really grows.
            .thread_stack_size(32 << 20)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    /// Runs something as long as its task is kept.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Task<T> {
        use tracing::Instrument as _;
        let work = work.in_current_span();
        Task(self.runtime.as_ref().map(|runtime| runtime.spawn(work)))
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        // A runtime must not wait for its threads where async code runs.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Work under way; dropping it cancels.
#[derive(Debug)]
#[must_use = "dropping a task cancels it"]
pub(super) struct Task<T>(Option<JoinHandle<Result<T>>>);

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(handle) = &mut self.0 else {
            return Poll::Ready(Err(shutting_down()));
        };
        Pin::new(handle).poll(context).map(|outcome| match outcome {
            Ok(outcome) => outcome,
            Err(error) if error.is_cancelled() => Err(shutting_down()),
            Err(error) => Err(Error::internal(error)),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

/// What a task sends, then how it ended; dropping it cancels the task.
#[derive(Debug)]
pub(super) struct TaskStream<T> {
    receiver: mpsc::Receiver<T>,
    task: Option<Task<()>>,
}

impl<T> TaskStream<T> {
    /// The messages of `task`, which sends them to `receiver`.
    pub(super) fn new(receiver: mpsc::Receiver<T>, task: Task<()>) -> Self {
        Self {
            receiver,
            task: Some(task),
        }
    }
}

impl<T> Stream for TaskStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = ready!(self.receiver.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(task) = &mut self.task else {
            return Poll::Ready(None);
        };
        let ended = ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(ended.err().map(|error| Err(error.into())))
    }
}

fn shutting_down() -> Error {
    Error::unavailable("SHUTTING_DOWN", "the server is shutting down; try again")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_dropped_task_is_cancelled() {
        let runtime = QueryRuntime::start().unwrap();
        assert_eq!(runtime.spawn(async { Ok(7) }).await.unwrap(), 7);
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            let _kept = sender;
            std::future::pending::<Result<()>>().await
        });
        drop(task);
        let gone = tokio::time::timeout(Duration::from_secs(5), receiver).await;
        assert!(gone.expect("the work ends").is_err());
    }
}
