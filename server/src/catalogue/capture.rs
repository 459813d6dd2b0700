//! What a version captures when it is published.

use mlplat_proto::catalogue::v1 as pb;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::{
    auth::Scope,
    error::{Error, Result},
};

/// The run whose artifact is published.
#[derive(Debug)]
pub(super) struct PublishedRun {
    pub(super) id: Uuid,
    /// Name of its experiment when it was created: part of the name of its lineage job.
    pub(super) experiment: String,
    /// Whether it has not ended.
    pub(super) running: bool,
}

pub(super) async fn published_run(
    _txn: &impl ConnectionTrait,
    _scope: &Scope,
    id: Uuid,
) -> Result<PublishedRun> {
    Ok(PublishedRun {
        id,
        experiment: String::new(),
        running: false,
    })
}

pub(super) async fn capture(
    _txn: &impl ConnectionTrait,
    _scope: &Scope,
    _run: &PublishedRun,
    artifact_path: &str,
) -> Result<pb::ModelVersion> {
    Err(Error::not_found("artifact", artifact_path))
}
