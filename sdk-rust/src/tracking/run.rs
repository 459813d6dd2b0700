//! One run as a record ([`Run`]), and what to say of one that is to be started or changed. The handle of the process that
//! does a run is in `active.rs`.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use mlplat_proto::tracking::v1 as pb;

use super::{DatasetInput, branch::RunBranch, metrics::MetricSummary};
use crate::convert::{filled_time, system_time};

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
    /// When its process was last heard of; none for a run whose process sends no heartbeats.
    pub heartbeat_at: Option<SystemTime>,
    /// How it was resumed from earlier steps; empty for a run that never was.
    pub branches: Vec<RunBranch>,
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
            heartbeat_at: r.heartbeat_at.map(system_time),
            branches: r.branches.into_iter().map(Into::into).collect(),
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
    pub(super) keep_experiment: bool,
    pub(super) resume_from: Option<i64>,
}

impl NewRun {
    /// A run of this experiment, which is created where it does not exist.
    pub fn new(experiment: impl Into<String>) -> Self {
        Self {
            experiment: experiment.into(),
            ..Self::default()
        }
    }

    /// Display name; without one a readable one is made.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Its id, a UUID; without one a UUIDv7 is made. A run whose id exists is resumed: it goes on where it is.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Resumes the run of the given id from this step: what it logged from there on stays readable as a branch of its own,
    /// and is logged anew.
    pub fn resume_from(mut self, step: i64) -> Self {
        self.resume_from = Some(step);
        self
    }

    /// Of a run that is resumed, takes the experiment that it has.
    pub fn keep_experiment(mut self) -> Self {
        self.keep_experiment = true;
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

    /// When it started; default now.
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
