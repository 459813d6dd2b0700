//! Features: definitions, historical retrieval, materialization and online reads.
//!
//! ```text
//! definitions/   what there is (Apply, Get, List)         -> Catalog
//! sources/       Parquet and SQL as tables of a session    -> DataFrame
//! asof/          the point-in-time join, and its "latest"  -> Matches
//! on_demand.rs   expressions over joined features
//! sql.rs         how much SQL may ask of the stack
//! selection/     what a request asks for, by the catalog
//! retrieval/     historical features over Arrow Flight
//! materialize/   sources -> online store
//! online/        the online store, and reads from it
//! ```
//!
//! Invariant: offline and online values come from the same ranking of rows ([`asof`]) and the same expressions, so they
//! cannot differ. Queries run on threads of their own, a few at a time, each with a limit of memory and time.

pub mod asof;
mod coerce;
mod definitions;
mod entity;
mod instant;
mod materialize;
mod on_demand;
mod online;
mod retrieval;
mod runtime;
mod scan;
mod selection;
mod service;
mod sources;
mod sql;
pub mod store;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

use self::{
    definitions::Catalog,
    online::{EmbeddedStore, OnlineStore},
    runtime::QueryRuntime,
    sources::{Session, SessionOptions},
};
use crate::{
    app::App,
    config::AuthMode,
    error::{Error, Result},
    objects::sources::Sources,
};

pub use retrieval::FeatureFlight;
pub use service::FeatureStore;

/// What the services of the feature store share.
#[derive(Debug)]
pub struct Features {
    app: Arc<App>,
    runtime: QueryRuntime,
    sources: Arc<Sources>,
    online: Arc<dyn OnlineStore>,
    /// Queries that may run now.
    turns: Semaphore,
}

impl Features {
    /// Opens the online store and starts the threads of queries.
    ///
    /// # Errors
    /// When the store cannot be opened, or the operating system gives no threads.
    pub fn open(app: Arc<App>) -> anyhow::Result<Arc<Self>> {
        let config = &app.config;
        let roots = match config.auth.mode {
            // Everybody is the owner of this machine's files anyway.
            AuthMode::None => None,
        };
        let sources = Sources::new(roots, config.s3.clone());
        let online = EmbeddedStore::open(&config.data_dir.join("online.redb"))?;
        Ok(Arc::new(Self {
            runtime: QueryRuntime::start()?,
            online: Arc::new(online),
            sources: Arc::new(sources),
            turns: Semaphore::new(config.limits.concurrent_queries.max(1)),
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
        self: &Arc<Self>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let features = self.clone();
        let turn = async move { features.in_turn(work).await };
        self.runtime.spawn(turn).await
    }

    /// Waits for a turn, then works in time.
    async fn in_turn<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let _turn = self.turn().await?;
        self.in_time(work).await
    }

    /// Waits until one more query may run.
    async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        self.turns.acquire().await.map_err(Error::internal)
    }

    /// Works for no longer than a query may.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = Duration::from_millis(self.app.config.limits.query_timeout_ms);
        let outcome = tokio::time::timeout(limit, work).await;
        outcome.unwrap_or_else(|_| {
            Err(Error::DeadlineExceeded {
                message: format!("the query took longer than {limit:?}"),
            })
        })
    }
}
