//! Features: definitions, historical retrieval, materialization and online reads.
//!
//! ```text
//! definitions/   what there is (Apply, Get, List)         -> Catalog
//! sources/       Parquet and SQL as tables of a session    -> DataFrame
//! asof/          the point-in-time join, and its "latest"  -> Matches
//! on_demand.rs   expressions over joined features
//! selection/     what a request asks for, by the catalog
//! retrieval/     historical features over Arrow Flight
//! materialize/   sources -> online store
//! online/        the online store, and reads from it
//! ```
//!
//! Invariant: offline and online values come from the same ranking of rows ([`asof`]) and the same expressions, so they
//! cannot differ. Queries run on threads of their own, a few at a time, each with a limit of memory and time.

pub mod asof;
mod definitions;
mod entity;
mod on_demand;
mod runtime;
mod service;
mod sources;
pub mod store;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use self::{
    definitions::Catalog,
    runtime::QueryRuntime,
    sources::{Session, SessionOptions},
};
use crate::{
    app::App,
    config::AuthMode,
    error::{Error, Result},
    objects::sources::Sources,
};

pub use service::FeatureStore;

/// What the services of the feature store share.
#[derive(Debug)]
pub struct Features {
    app: Arc<App>,
    runtime: QueryRuntime,
    sources: Arc<Sources>,
    /// Queries that may run now.
    slots: Arc<Semaphore>,
}

impl Features {
    /// Starts the threads of queries.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn open(app: Arc<App>) -> anyhow::Result<Arc<Self>> {
        let config = &app.config;
        let roots = match config.auth.mode {
            // Everybody is the owner of this machine's files anyway.
            AuthMode::None => None,
        };
        let sources = Sources::new(roots, config.s3.clone());
        Ok(Arc::new(Self {
            runtime: QueryRuntime::start()?,
            sources: Arc::new(sources),
            slots: Arc::new(Semaphore::new(config.limits.concurrent_queries.max(1))),
            app,
        }))
    }

    /// A query session over these definitions.
    fn session(&self, catalog: Arc<Catalog>) -> Result<Session> {
        let options = SessionOptions {
            memory_bytes: self.app.config.limits.query_memory_bytes,
        };
        Session::new(catalog, self.sources.clone(), &options)
    }

    /// Runs a query on the query threads when it is its turn, for as long as it may take.
    async fn query<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let limit = Duration::from_millis(self.app.config.limits.query_timeout_ms);
        let slots = self.slots.clone();
        let bounded = async move {
            let _slot = slots.acquire_owned().await.map_err(Error::internal)?;
            tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| {
                    Err(Error::DeadlineExceeded {
                        message: format!("the query took longer than {limit:?}"),
                    })
                })
        };
        self.runtime.spawn(bounded).await
    }
}
