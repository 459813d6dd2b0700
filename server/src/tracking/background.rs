//! What tracking does unasked, for as long as the server lives.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::runs::Sweeper;
use crate::app::App;

/// Work that goes on beside the requests.
#[derive(Debug)]
pub struct Background {
    tasks: Vec<JoinHandle<()>>,
}

impl Background {
    /// Begins it.
    pub fn start(app: &Arc<App>) -> Self {
        let sweeper = Sweeper::new(Arc::clone(app));
        Self {
            tasks: vec![tokio::spawn(sweeper.run())],
        }
    }

    /// Ends it; a transaction that is under way is rolled back.
    pub async fn stop(self) {
        for task in self.tasks {
            task.abort();
            // Cancelled, as it should be.
            let _ = task.await;
        }
    }
}
