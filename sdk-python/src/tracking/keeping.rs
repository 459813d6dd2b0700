//! Deleting, restoring, moving and clearing runs and experiments, their inputs, and the collection of garbage.

use std::collections::BTreeMap;

use mlplat::tracking::{self, RunSet};
use pyo3::{prelude::*, types::PyModule};

use super::{DatasetInput, Experiment, RunRecord, search::view};
use crate::{call::Call, client::Client};

/// A data set that a run read, as Python gives it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct NewInput {
    name: String,
    digest: String,
    source: String,
    source_type: String,
    context: String,
    fields: Vec<(String, String)>,
    rows: Option<u64>,
}

impl NewInput {
    pub(super) fn made(self) -> tracking::DatasetInput {
        let mut made = tracking::DatasetInput::new(self.name, self.digest)
            .source(self.source, self.source_type)
            .context(self.context);
        made.fields = self.fields;
        made.rows = self.rows;
        made
    }
}

fn run_set(ids: Vec<String>, nested: bool) -> RunSet {
    let runs = RunSet::new(ids);
    if nested { runs.with_nested() } else { runs }
}

/// A call that changes an experiment; the answer is what it is then.
fn changed(
    work: impl Future<Output = mlplat::Result<tracking::Experiment>> + Send + 'static,
) -> Call {
    Call::new(async move { Ok(Experiment::from(work.await?)) })
}

/// Deletes runs; the answer is how many were not deleted before.
#[pyfunction]
fn delete_runs(
    py: Python<'_>,
    client: &Client,
    run_ids: Vec<String>,
    nested: bool,
) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    let runs = run_set(run_ids, nested);
    Ok(Call::new(async move { tracking.delete_runs(runs).await }))
}

/// Restores runs; the answer is how many were deleted before.
#[pyfunction]
fn restore_runs(
    py: Python<'_>,
    client: &Client,
    run_ids: Vec<String>,
    nested: bool,
) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    let runs = run_set(run_ids, nested);
    Ok(Call::new(async move { tracking.restore_runs(runs).await }))
}

/// Moves runs into an experiment; the answer is how many were in another one.
#[pyfunction]
fn move_runs(
    py: Python<'_>,
    client: &Client,
    run_ids: Vec<String>,
    experiment: String,
    nested: bool,
) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    let runs = run_set(run_ids, nested);
    Ok(Call::new(async move {
        tracking.move_runs(runs, &experiment).await
    }))
}

/// Moves all runs of an experiment into another one; the answer is how many.
#[pyfunction]
fn move_experiment(py: Python<'_>, client: &Client, name: String, into: String) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    Ok(Call::new(async move {
        tracking.move_experiment(&name, &into).await
    }))
}

/// Deletes params and tags of a run; the answer is how many it had.
#[pyfunction]
fn delete_params_and_tags(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    params: Vec<String>,
    tags: Vec<String>,
) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    Ok(Call::new(async move {
        tracking.delete_params_and_tags(&run_id, params, tags).await
    }))
}

/// Notes that a run read a data set; the answer is the input as it is kept.
#[pyfunction]
fn log_input(py: Python<'_>, client: &Client, run_id: String, input: NewInput) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    let made = input.made();
    Ok(Call::new(async move {
        let kept = DatasetInput::from(made.clone());
        tracking.log_inputs(&run_id, [made]).await?;
        Ok(kept)
    }))
}

/// One run, also where it is deleted.
#[pyfunction]
fn get_run(py: Python<'_>, client: &Client, run_id: String, seen: String) -> PyResult<Call> {
    let view = view(py, &seen)?;
    let tracking = client.get(py)?.tracking();
    Ok(Call::new(async move {
        Ok(RunRecord::from(tracking.find_run(&run_id, view).await?))
    }))
}

/// The experiments of the project, also those that are deleted.
#[pyfunction]
fn list_experiments(py: Python<'_>, client: &Client, seen: String) -> PyResult<Call> {
    let view = view(py, &seen)?;
    let tracking = client.get(py)?.tracking();
    Ok(Call::new(async move {
        let found = tracking.find_experiments(view).collect(None).await?;
        Ok(found.into_iter().map(Experiment::from).collect::<Vec<_>>())
    }))
}

/// Deletes an experiment with its runs.
#[pyfunction]
fn delete_experiment(py: Python<'_>, client: &Client, name: String) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    Ok(changed(
        async move { tracking.delete_experiment(&name).await },
    ))
}

/// Restores an experiment with the runs that were deleted with it.
#[pyfunction]
fn restore_experiment(py: Python<'_>, client: &Client, name: String) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    Ok(changed(
        async move { tracking.restore_experiment(&name).await },
    ))
}

/// Changes name, notes or labels of an experiment.
#[pyfunction]
fn update_experiment(
    py: Python<'_>,
    client: &Client,
    name: String,
    new_name: Option<String>,
    description: Option<String>,
    tags: Option<BTreeMap<String, String>>,
) -> PyResult<Call> {
    let tracking = client.get(py)?.tracking();
    Ok(changed(async move {
        let mut current = name;
        if let Some(new_name) = new_name {
            let renamed = tracking.rename_experiment(&current, &new_name).await?;
            if description.is_none() && tags.is_none() {
                return Ok(renamed);
            }
            current = renamed.name;
        }
        tracking
            .update_experiment(&current, description, tags)
            .await
    }))
}

/// Removes for good what was deleted long ago: runs, experiments, kept runs, objects.
#[pyfunction]
fn collect_garbage(
    py: Python<'_>,
    client: &Client,
    older_than_days: Option<u32>,
    dry_run: bool,
) -> PyResult<Call> {
    let admin = client.get(py)?.admin();
    Ok(Call::new(async move {
        let collected = admin.collect_garbage(older_than_days, dry_run).await?;
        Ok((
            collected.runs,
            collected.experiments,
            collected.kept_runs,
            collected.objects,
        ))
    }))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(delete_runs, module)?)?;
    module.add_function(wrap_pyfunction!(restore_runs, module)?)?;
    module.add_function(wrap_pyfunction!(move_runs, module)?)?;
    module.add_function(wrap_pyfunction!(move_experiment, module)?)?;
    module.add_function(wrap_pyfunction!(delete_params_and_tags, module)?)?;
    module.add_function(wrap_pyfunction!(log_input, module)?)?;
    module.add_function(wrap_pyfunction!(get_run, module)?)?;
    module.add_function(wrap_pyfunction!(list_experiments, module)?)?;
    module.add_function(wrap_pyfunction!(delete_experiment, module)?)?;
    module.add_function(wrap_pyfunction!(restore_experiment, module)?)?;
    module.add_function(wrap_pyfunction!(update_experiment, module)?)?;
    module.add_function(wrap_pyfunction!(collect_garbage, module)?)
}
