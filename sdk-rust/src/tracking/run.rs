//! One run: as a record ([`Run`]), and as the handle of the process that does it ([`ActiveRun`]).
//!
//! Invariant: what a handle logs goes through one `Delivery`, in the order of the calls. Dropping a handle does not end
//! the run; only its owner knows whether it went well.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc, time::SystemTime};

use mlplat_proto::tracking::v1 as pb;

use super::{
    DatasetInput,
    delivery::{Delivery, Records},
    metrics::{MetricPoint, MetricSummary},
};
use crate::{
    artifacts::{UploadOptions, Uploaded},
    catalogue::{ModelVersion, NewModelVersion},
    client::Client,
    convert::{filled_time, system_time},
    error::Result,
};

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Started and not ended.
    Running,
    /// Ended well (OpenLineage COMPLETE).
    Finished,
    /// Ended by an error (OpenLineage FAIL).
    Failed,
    /// Ended from outside (OpenLineage ABORT).
    Killed,
    /// Its process was not heard of for a while; it can be resumed.
    Crashed,
}

impl RunStatus {
    /// Upper-case name: `RUNNING`, `FINISHED`, `FAILED`, `KILLED`, `CRASHED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
            Self::Crashed => "CRASHED",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<RunStatus> for pb::RunStatus {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Running => Self::Running,
            RunStatus::Finished => Self::Finished,
            RunStatus::Failed => Self::Failed,
            RunStatus::Killed => Self::Killed,
            RunStatus::Crashed => Self::Crashed,
        }
    }
}

impl From<pb::RunStatus> for RunStatus {
    fn from(status: pb::RunStatus) -> Self {
        match status {
            pb::RunStatus::Running | pb::RunStatus::Unspecified => Self::Running,
            pb::RunStatus::Finished => Self::Finished,
            pb::RunStatus::Failed => Self::Failed,
            pb::RunStatus::Killed => Self::Killed,
            pb::RunStatus::Crashed => Self::Crashed,
        }
    }
}

/// One execution that is tracked, as the server knows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// UUIDv7; also the OpenLineage runId.
    pub id: String,
    /// Name of its experiment.
    pub experiment: String,
    /// Display name; not unique.
    pub name: String,
    /// Run it is nested in.
    pub parent_run_id: Option<String>,
    /// Where it is in its life.
    pub status: RunStatus,
    /// Why it ended as it did.
    pub status_message: String,
    /// Notes.
    pub description: String,
    /// Inputs of the run, as text.
    pub params: BTreeMap<String, String>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// One summary per metric key.
    pub metrics: BTreeMap<String, MetricSummary>,
    /// When it started.
    pub started_at: SystemTime,
    /// When it ended; none while it runs.
    pub ended_at: Option<SystemTime>,
    /// When the record was created.
    pub created_at: SystemTime,
    /// When the record was last changed.
    pub updated_at: SystemTime,
    /// Who created it.
    pub created_by: String,
    /// When it was deleted; none unless it can still be restored.
    pub deleted_at: Option<SystemTime>,
    /// The data sets that it read.
    pub inputs: Vec<DatasetInput>,
}

impl Run {
    /// The last value of a metric: of the greatest step, then the greatest timestamp, then logged last.
    pub fn metric(&self, key: &str) -> Option<f64> {
        self.metrics.get(key).map(|summary| summary.last_value)
    }
}

impl From<pb::Run> for Run {
    fn from(r: pb::Run) -> Self {
        Self {
            status: r.status().into(),
            id: r.id,
            experiment: r.experiment,
            name: r.name,
            parent_run_id: (!r.parent_run_id.is_empty()).then_some(r.parent_run_id),
            status_message: r.status_message,
            description: r.description,
            params: r.params.into_iter().collect(),
            tags: r.tags.into_iter().collect(),
            metrics: r
                .metrics
                .into_iter()
                .map(|m| (m.key.clone(), m.into()))
                .collect(),
            started_at: filled_time(r.started_at),
            ended_at: r.ended_at.map(system_time),
            created_at: filled_time(r.created_at),
            updated_at: filled_time(r.updated_at),
            created_by: r.created_by,
            deleted_at: r.deleted_at.map(system_time),
            inputs: r.inputs.into_iter().map(Into::into).collect(),
        }
    }
}

/// A run to start.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct NewRun {
    pub(super) id: Option<String>,
    pub(super) experiment: String,
    pub(super) name: String,
    pub(super) parent_run_id: Option<String>,
    pub(super) description: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) started_at: Option<SystemTime>,
}

impl NewRun {
    /// A run of this experiment, which is created where it does not exist.
    pub fn new(experiment: impl Into<String>) -> Self {
        Self {
            experiment: experiment.into(),
            ..Self::default()
        }
    }

    /// Display name; without one the server makes a readable one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Its id, a UUID; without one a UUIDv7 is made. Starting a run whose id exists gives that run.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The run to nest it in.
    pub fn parent(mut self, run_id: impl Into<String>) -> Self {
        self.parent_run_id = Some(run_id.into());
        self
    }

    /// Notes.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Adds a label.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// When it started; default now, by the server's clock.
    pub fn started_at(mut self, time: SystemTime) -> Self {
        self.started_at = Some(time);
        self
    }
}

/// What to change of a run; what is not given stays.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RunUpdate {
    name: Option<String>,
    description: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

impl RunUpdate {
    /// The new display name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The new notes.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// All labels, in place of those there are.
    pub fn tags(mut self, tags: BTreeMap<String, String>) -> Self {
        self.tags = Some(tags);
        self
    }

    pub(super) fn into_parts(self, id: String) -> (pb::Run, Vec<String>) {
        let mut paths = Vec::new();
        paths.extend(self.name.is_some().then(|| "name".to_owned()));
        paths.extend(self.description.is_some().then(|| "description".to_owned()));
        paths.extend(self.tags.is_some().then(|| "tags".to_owned()));
        let run = pb::Run {
            id,
            name: self.name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            tags: self.tags.unwrap_or_default().into_iter().collect(),
            ..pb::Run::default()
        };
        (run, paths)
    }
}

/// The handle of a process that does a run. Cheap to clone; clones share one ordered road to the server, so threads and
/// tasks may log through it at the same time.
#[derive(Debug, Clone)]
pub struct ActiveRun {
    client: Client,
    started: Arc<Run>,
    delivery: Arc<Delivery>,
}

impl ActiveRun {
    pub(super) fn new(client: Client, started: Run) -> Self {
        let delivery = Arc::new(Delivery::new(client.clone(), started.id.clone()));
        Self {
            client,
            started: Arc::new(started),
            delivery,
        }
    }

    /// UUIDv7 of the run.
    pub fn id(&self) -> &str {
        &self.started.id
    }

    /// The run as it was when this handle was made.
    pub fn started(&self) -> &Run {
        &self.started
    }

    /// The client that this run goes through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same run through another client, as another writer: for a process that was forked off, whose copy of this handle
    /// must not go on with the numbers of its parent.
    #[must_use]
    pub fn with_client(&self, client: Client) -> Self {
        Self::new(client, self.started.as_ref().clone())
    }

    /// The run as the server knows it now.
    ///
    /// # Errors
    /// As [`Tracking::get_run`](super::Tracking::get_run).
    pub async fn refresh(&self) -> Result<Run> {
        self.client.get_run(self.id()).await
    }

    /// Logs one param; a key logged again holds the last value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a bad key or too long a value.
    pub async fn log_param(&self, key: impl Into<String>, value: impl fmt::Display) -> Result<()> {
        self.log_params([(key.into(), value.to_string())]).await
    }

    /// Logs params, as text.
    ///
    /// # Errors
    /// As [`ActiveRun::log_param`].
    pub async fn log_params(
        &self,
        params: impl IntoIterator<Item = (String, String)>,
    ) -> Result<()> {
        self.delivery
            .send(Records {
                params: params.into_iter().collect(),
                ..Records::default()
            })
            .await
    }

    /// Sets one label.
    ///
    /// # Errors
    /// As [`ActiveRun::log_param`].
    pub async fn set_tag(&self, key: impl Into<String>, value: impl fmt::Display) -> Result<()> {
        self.set_tags([(key.into(), value.to_string())]).await
    }

    /// Sets labels.
    ///
    /// # Errors
    /// As [`ActiveRun::log_param`].
    pub async fn set_tags(&self, tags: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        self.delivery
            .send(Records {
                tags: tags.into_iter().collect(),
                ..Records::default()
            })
            .await
    }

    /// Logs one point of a metric, now. Without a step it is one more than the last of this key, from 0.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a bad key. A run that has ended still takes what arrives late.
    pub async fn log_metric(
        &self,
        key: impl Into<String>,
        value: f64,
        step: Option<i64>,
    ) -> Result<()> {
        self.log_metrics([MetricPoint::new(key, value).at_step(step)])
            .await
    }

    /// Logs points of any number of metrics, in order.
    ///
    /// # Errors
    /// As [`ActiveRun::log_metric`].
    pub async fn log_metrics(&self, points: impl IntoIterator<Item = MetricPoint>) -> Result<()> {
        self.delivery
            .send(Records {
                points: points.into_iter().collect(),
                ..Records::default()
            })
            .await
    }

    /// Waits until all that was logged before is stored by the server.
    ///
    /// # Errors
    /// None today, as every call waits for its own answer.
    pub async fn flush(&self) -> Result<()> {
        self.delivery.flush().await
    }

    /// Uploads a file, or a directory with all below it, under its own name.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be read, [`Error::Misuse`](crate::Error::Misuse) for names that
    /// artifacts cannot have.
    pub async fn log_artifact(&self, local: impl AsRef<Path>) -> Result<Uploaded> {
        self.log_artifact_with(local, UploadOptions::default())
            .await
    }

    /// As [`ActiveRun::log_artifact`], into a directory of the run, with a media type, or with progress.
    ///
    /// # Errors
    /// As [`ActiveRun::log_artifact`].
    pub async fn log_artifact_with(
        &self,
        local: impl AsRef<Path>,
        options: UploadOptions,
    ) -> Result<Uploaded> {
        self.client
            .artifacts()
            .upload(self.id(), local, options)
            .await
    }

    /// Publishes a local file or directory (uploaded where the run does not have it yet), or else an artifact of the run,
    /// as the next version of a model.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when `path` is neither a local file nor an artifact of the run.
    pub async fn publish_model(
        &self,
        model: impl Into<String>,
        path: impl AsRef<Path>,
    ) -> Result<ModelVersion> {
        self.flush().await?;
        self.client
            .catalogue()
            .publish(NewModelVersion::new(model, self.id()), path)
            .await
    }

    /// Ends the run, after all that was logged is stored.
    ///
    /// # Errors
    /// As [`Tracking::end_run`](super::Tracking::end_run).
    pub async fn end(&self, status: RunStatus, message: &str) -> Result<Run> {
        self.flush().await?;
        self.client
            .tracking()
            .end_run(self.id(), status, message)
            .await
    }
}
