//! Runs and experiments as records.

use std::collections::BTreeMap;

use mlplat::tracking;
use pyo3::prelude::*;

use crate::time::Time;

/// What is known of a metric without reading its points.
#[pyclass(frozen, get_all, module = "mlplat")]
#[derive(Clone)]
pub(crate) struct MetricSummary {
    /// Value of the greatest step, then the greatest timestamp, then logged last.
    last: f64,
    /// Step of the last value.
    last_step: i64,
    /// Time of the last value.
    last_timestamp: Time,
    /// Smallest value; None when all are NaN.
    min: Option<f64>,
    /// Greatest value; None when all are NaN.
    max: Option<f64>,
    /// Number of points.
    count: u64,
}

#[pymethods]
impl MetricSummary {
    fn __repr__(&self) -> String {
        let number = |value: Option<f64>| value.map_or("None".to_owned(), |v| v.to_string());
        format!(
            "MetricSummary(last={}, last_step={}, min={}, max={}, count={})",
            self.last,
            self.last_step,
            number(self.min),
            number(self.max),
            self.count
        )
    }
}

impl From<&tracking::MetricSummary> for MetricSummary {
    fn from(summary: &tracking::MetricSummary) -> Self {
        Self {
            last: summary.last_value,
            last_step: summary.last_step,
            last_timestamp: summary.last_timestamp.into(),
            min: summary.min,
            max: summary.max,
            count: summary.count,
        }
    }
}

/// How a run was resumed from an earlier step.
#[pyclass(frozen, get_all, module = "mlplat")]
#[derive(Clone)]
pub(crate) struct RunBranch {
    /// 1 and up, 0 being the one that the run began with; the greatest is the current one.
    number: u32,
    /// Branch whose points below `from_step` this one shares.
    parent: u32,
    /// First step that is its own.
    from_step: i64,
    /// When it was begun.
    created_at: Time,
}

#[pymethods]
impl RunBranch {
    fn __repr__(&self) -> String {
        format!(
            "RunBranch(number={}, parent={}, from_step={})",
            self.number, self.parent, self.from_step
        )
    }
}

impl From<&tracking::RunBranch> for RunBranch {
    fn from(branch: &tracking::RunBranch) -> Self {
        Self {
            number: branch.number,
            parent: branch.parent,
            from_step: branch.from_step,
            created_at: branch.created_at.into(),
        }
    }
}

/// A run as the server knows it; `Run` of the package is made of it.
#[pyclass(frozen, get_all, module = "mlplat._native")]
pub(crate) struct RunRecord {
    id: String,
    experiment: String,
    name: String,
    parent_run_id: Option<String>,
    status: &'static str,
    status_message: String,
    description: String,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    metrics: BTreeMap<String, f64>,
    metric_summaries: BTreeMap<String, MetricSummary>,
    started_at: Time,
    ended_at: Option<Time>,
    created_by: String,
    heartbeat_at: Option<Time>,
    branches: Vec<RunBranch>,
    deleted_at: Option<Time>,
    inputs: Vec<DatasetInput>,
}

/// A data set that a run read.
#[pyclass(frozen, get_all, eq, module = "mlplat")]
#[derive(Clone, PartialEq)]
pub(crate) struct DatasetInput {
    /// Name.
    name: String,
    /// Digest of the content.
    digest: String,
    /// Where it came from: a URI, a path, or an identifier.
    source: String,
    /// Kind of the source, e.g. `local`, `s3`, `hugging_face`.
    source_type: String,
    /// What it was used for, e.g. `training`.
    context: String,
    /// Columns, where known: name and type.
    fields: Vec<(String, String)>,
    /// Number of rows, where known.
    rows: Option<u64>,
}

#[pymethods]
impl DatasetInput {
    fn __repr__(&self) -> String {
        format!(
            "DatasetInput({:?}, digest={:?}, context={:?})",
            self.name, self.digest, self.context
        )
    }
}

impl From<tracking::DatasetInput> for DatasetInput {
    fn from(input: tracking::DatasetInput) -> Self {
        Self {
            name: input.name,
            digest: input.digest,
            source: input.source,
            source_type: input.source_type,
            context: input.context,
            fields: input.fields,
            rows: input.rows,
        }
    }
}

impl From<tracking::Run> for RunRecord {
    fn from(run: tracking::Run) -> Self {
        let summaries = run.metrics.iter();
        Self {
            metrics: summaries
                .clone()
                .map(|(key, m)| (key.clone(), m.last_value))
                .collect(),
            metric_summaries: summaries.map(|(key, m)| (key.clone(), m.into())).collect(),
            id: run.id,
            experiment: run.experiment,
            name: run.name,
            parent_run_id: run.parent_run_id,
            status: run.status.as_str(),
            status_message: run.status_message,
            description: run.description,
            params: run.params,
            tags: run.tags,
            started_at: run.started_at.into(),
            ended_at: run.ended_at.map(Time),
            created_by: run.created_by,
            heartbeat_at: run.heartbeat_at.map(Time),
            branches: run.branches.iter().map(Into::into).collect(),
            deleted_at: run.deleted_at.map(Time),
            inputs: run.inputs.into_iter().map(Into::into).collect(),
        }
    }
}

/// A named group of runs.
#[pyclass(frozen, get_all, module = "mlplat")]
pub(crate) struct Experiment {
    /// UUID of the experiment.
    id: String,
    /// Name, unique in the project.
    name: String,
    /// Notes.
    description: String,
    /// Free labels.
    tags: BTreeMap<String, String>,
    /// When it was created.
    created_at: Time,
    /// Who created it.
    created_by: String,
    /// When it was deleted; None unless it can still be restored.
    deleted_at: Option<Time>,
    /// Where the server keeps the files of its runs.
    artifact_location: String,
}

#[pymethods]
impl Experiment {
    fn __repr__(&self) -> String {
        format!("Experiment({:?})", self.name)
    }
}

impl From<tracking::Experiment> for Experiment {
    fn from(experiment: tracking::Experiment) -> Self {
        Self {
            id: experiment.id,
            name: experiment.name,
            description: experiment.description,
            tags: experiment.tags,
            created_at: experiment.created_at.into(),
            created_by: experiment.created_by,
            deleted_at: experiment.deleted_at.map(Time),
            artifact_location: experiment.artifact_location,
        }
    }
}
