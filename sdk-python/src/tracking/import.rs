//! What importers write: runs, numbered records and files, with the times and ids that they have elsewhere.
//!
//! Invariant: every call can be repeated. Columns come in as the bytes of `array.array`, in the order of this machine.

use std::{collections::BTreeMap, path::PathBuf};

use mlplat::{
    artifacts::UploadOptions,
    tracking::{ImportedBatch, ImportedSeries, NewRun, RunStatus},
};
use pyo3::{prelude::*, pybacked::PyBackedBytes, types::PyModule};

use super::RunRecord;
use crate::{
    artifacts::uploaded_paths, call::Call, client::Client, errors::misuse, progress::Progress,
    time::from_nanos,
};

const WORD: usize = 8;

/// A run of somewhere else.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ImportedRun {
    run_id: String,
    experiment: String,
    name: String,
    parent: Option<String>,
    description: String,
    tags: BTreeMap<String, String>,
    /// Nanoseconds since 1970 UTC.
    started_at: i128,
}

/// One metric: key, and the bytes of steps (int64), times (int64, microseconds) and values (float64).
type Columns = (String, PyBackedBytes, PyBackedBytes, PyBackedBytes);

/// Creates a run with its time; one that exists is returned.
#[pyfunction]
fn import_run(py: Python<'_>, client: &Client, run: ImportedRun) -> PyResult<Call> {
    let client = client.get(py)?;
    let mut new = NewRun::new(run.experiment)
        .id(run.run_id)
        .name(run.name)
        .description(run.description)
        .started_at(from_nanos(run.started_at));
    if let Some(parent) = run.parent {
        new = new.parent(parent);
    }
    for (key, value) in run.tags {
        new = new.tag(key, value);
    }
    Ok(Call::new(async move {
        Ok(RunRecord::from(client.tracking().import_run(new).await?))
    }))
}

/// Stores records with these numbers; the answer is whether they were there before, and the greatest number stored.
#[pyfunction]
fn import_batch(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    writer: (String, u64, u64),
    metrics: Vec<Columns>,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let series: Option<Vec<ImportedSeries>> = metrics.into_iter().map(series).collect();
    let Some(series) = series else {
        return Err(misuse(py, "the columns of a metric differ in length"));
    };
    let (writer_id, first_sequence, sequence) = writer;
    let batch = ImportedBatch {
        run_id,
        writer_id,
        first_sequence,
        sequence,
        series,
        params,
        tags,
    };
    Ok(Call::new(async move {
        let stored = client.tracking().import_batch(batch).await?;
        Ok((stored.replayed, stored.stored_sequence))
    }))
}

/// The columns as numbers; none unless they have one length.
fn series((key, steps, times, values): Columns) -> Option<ImportedSeries> {
    let same = steps.len() == values.len() && times.len() == values.len();
    if !same || !values.len().is_multiple_of(WORD) {
        return None;
    }
    let whole = |bytes: &[u8]| {
        bytes
            .as_chunks::<WORD>()
            .0
            .iter()
            .map(|word| i64::from_ne_bytes(*word))
            .collect()
    };
    Some(ImportedSeries {
        key,
        steps: whole(&steps),
        timestamps_us: whole(&times),
        values: values
            .as_chunks::<WORD>()
            .0
            .iter()
            .map(|word| f64::from_ne_bytes(*word))
            .collect(),
    })
}

/// Uploads a file or directory to a run, ended or not.
#[pyfunction]
fn import_artifact(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    path: PathBuf,
    directory: String,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let progress = Progress::default();
    let options = UploadOptions::default()
        .directory(directory)
        .progress(progress.of_transfer("uploading", path.display().to_string()));
    let work = async move {
        let uploaded = client.artifacts().upload(&run_id, path, options).await?;
        Ok(uploaded_paths(uploaded))
    };
    Ok(Call::new(work).showing(progress))
}

/// Takes up a run again that has ended; nothing goes on in the background.
#[pyfunction]
fn import_resume(py: Python<'_>, client: &Client, run_id: String) -> PyResult<Call> {
    let client = client.get(py)?;
    Ok(Call::new(async move {
        let run = client.tracking().import_resume(&run_id).await?;
        Ok(RunRecord::from(run))
    }))
}

/// Ends a run at a time of the past.
#[pyfunction]
fn import_end(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    status: &str,
    message: String,
    ended_at: i128,
) -> PyResult<Call> {
    let status = match status {
        "FINISHED" => RunStatus::Finished,
        "FAILED" => RunStatus::Failed,
        "KILLED" => RunStatus::Killed,
        other => {
            let text = format!("a run ends as FINISHED, FAILED or KILLED, not as {other:?}");
            return Err(misuse(py, text));
        }
    };
    let client = client.get(py)?;
    Ok(Call::new(async move {
        let tracking = client.tracking();
        let ended = tracking.import_end(&run_id, status, &message, from_nanos(ended_at));
        Ok(RunRecord::from(ended.await?))
    }))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(import_run, module)?)?;
    module.add_function(wrap_pyfunction!(import_batch, module)?)?;
    module.add_function(wrap_pyfunction!(import_artifact, module)?)?;
    module.add_function(wrap_pyfunction!(import_resume, module)?)?;
    module.add_function(wrap_pyfunction!(import_end, module)?)
}
