//! What tracking does beside the requests: commits what they hand in, merges chunks, looks for silent runs.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{
    metrics::{CompactorHandle, LogQueue},
    runs::Sweeper,
    service::Tracking,
};
use crate::app::App;

/// Work that goes on for as long as the server lives.
#[derive(Debug)]
pub struct Background {
    tasks: Vec<JoinHandle<()>>,
}

impl Background {
    /// Begins it; the service hands work to it.
    pub fn start(app: &Arc<App>) -> (Self, Tracking) {
        let compactor = CompactorHandle::default();
        let (queue, mut tasks) = LogQueue::start(app, &compactor);
        tasks.push(tokio::spawn(compactor.clone().run(Arc::clone(app))));
        tasks.push(tokio::spawn(Sweeper::new(Arc::clone(app)).run()));
        let service = Tracking::new(Arc::clone(app), queue, compactor);
        (Self { tasks }, service)
    }

    /// Ends it, when the requests have ended; a transaction that is under way is rolled back.
    pub async fn stop(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            // Cancelled, as it should be.
            let _ = task.await;
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
