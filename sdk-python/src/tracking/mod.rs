//! Experiments and runs.

mod digest;
mod handle;
mod import;
mod keeping;
mod log;
mod records;
mod search;
mod system;

use std::collections::BTreeMap;

use mlplat::tracking::{HistoryRange, NewRun, RunUpdate};
use pyo3::{prelude::*, types::PyModule};

pub(crate) use handle::RunHandle;
use records::{DatasetInput, Experiment, MetricSummary, RunBranch, RunRecord};

use crate::{call::Call, client::Client, table::Batches};

/// A run to start.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RunStart {
    run_id: Option<String>,
    experiment: String,
    keep_experiment: bool,
    name: String,
    parent: Option<String>,
    description: String,
    tags: BTreeMap<String, String>,
    resume_from: Option<i64>,
}

/// Starts a run.
#[pyfunction]
fn start_run(py: Python<'_>, client: &Client, start: RunStart) -> PyResult<Call> {
    let client = client.get(py)?;
    let mut new = NewRun::new(start.experiment)
        .name(start.name)
        .description(start.description);
    if let Some(run_id) = start.run_id {
        new = new.id(run_id);
    }
    if start.keep_experiment {
        new = new.keep_experiment();
    }
    if let Some(step) = start.resume_from {
        new = new.resume_from(step);
    }
    if let Some(parent) = start.parent {
        new = new.parent(parent);
    }
    for (key, value) in start.tags {
        new = new.tag(key, value);
    }
    let work = async move { client.start_run(new).await };
    Ok(Call::with(work, RunHandle::into_py))
}

/// Takes part in a run that is under way.
#[pyfunction]
fn join_run(py: Python<'_>, client: &Client, run_id: String) -> PyResult<Call> {
    let client = client.get(py)?;
    let work = async move { client.tracking().join_run(&run_id).await };
    Ok(Call::with(work, RunHandle::into_py))
}

/// Changes name, notes or labels of a run.
#[pyfunction]
fn update_run(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    name: Option<String>,
    description: Option<String>,
    tags: Option<BTreeMap<String, String>>,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let mut update = RunUpdate::default();
    if let Some(name) = name {
        update = update.name(name);
    }
    if let Some(description) = description {
        update = update.description(description);
    }
    if let Some(tags) = tags {
        update = update.tags(tags);
    }
    Ok(Call::new(async move {
        let run = client.tracking().update_run(&run_id, update).await?;
        Ok(RunRecord::from(run))
    }))
}

/// Which points of a metric to read.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct History {
    start_step: Option<i64>,
    end_step: Option<i64>,
    last: Option<u64>,
    buckets: Option<u32>,
    branch: Option<u32>,
}

impl From<History> for HistoryRange {
    fn from(history: History) -> Self {
        let mut range = Self::steps(history.start_step, history.end_step);
        range.last_points = history.last;
        range.max_buckets = history.buckets;
        range.branch = history.branch;
        range
    }
}

/// The points of metrics, by key, in one call.
#[pyfunction]
fn metric_histories(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    keys: Vec<String>,
    history: History,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let range = HistoryRange::from(history);
    Ok(Call::new(async move {
        let tracking = client.tracking();
        let histories = tracking.metric_histories(&run_id, &keys, range).await?;
        let histories = histories.into_iter();
        Ok(histories
            .map(|(key, points)| (key, Batches::from(points)))
            .collect::<Vec<_>>())
    }))
}

/// One experiment by name.
#[pyfunction]
fn get_experiment(py: Python<'_>, client: &Client, name: String) -> PyResult<Call> {
    let client = client.get(py)?;
    Ok(Call::new(async move {
        Ok(Experiment::from(
            client.tracking().get_experiment(&name).await?,
        ))
    }))
}

/// Creates an experiment.
#[pyfunction]
fn create_experiment(
    py: Python<'_>,
    client: &Client,
    name: String,
    description: String,
    tags: BTreeMap<String, String>,
) -> PyResult<Call> {
    let client = client.get(py)?;
    Ok(Call::new(async move {
        let tracking = client.tracking();
        let created = tracking.create_experiment(&name, &description, tags);
        Ok(Experiment::from(created.await?))
    }))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    import::register(module)?;
    module.add_class::<RunHandle>()?;
    module.add_class::<system::SystemMetrics>()?;
    module.add_class::<log::RunLog>()?;
    module.add_class::<RunRecord>()?;
    module.add_class::<MetricSummary>()?;
    module.add_class::<RunBranch>()?;
    module.add_class::<DatasetInput>()?;
    module.add_class::<Experiment>()?;
    module.add_function(wrap_pyfunction!(start_run, module)?)?;
    module.add_function(wrap_pyfunction!(join_run, module)?)?;
    module.add_function(wrap_pyfunction!(update_run, module)?)?;
    module.add_function(wrap_pyfunction!(digest::table_digest, module)?)?;
    search::register(module)?;
    keeping::register(module)?;
    module.add_function(wrap_pyfunction!(metric_histories, module)?)?;
    module.add_function(wrap_pyfunction!(get_experiment, module)?)?;
    module.add_function(wrap_pyfunction!(create_experiment, module)?)
}
