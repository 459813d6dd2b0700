//! The files of runs.

use std::path::PathBuf;

use mlplat::artifacts::{self, Uploaded};
use pyo3::{
    IntoPyObjectExt as _,
    prelude::*,
    types::{PyBytes, PyModule},
};

use crate::{call::Call, client::Client, progress::Progress, time::Time};

/// The record of one file of a run.
#[pyclass(frozen, get_all, module = "mlplat")]
struct Artifact {
    /// Path inside the run.
    path: String,
    /// Size in bytes.
    size_bytes: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    sha256: String,
    /// Media type, e.g. `image/png`; empty when unknown.
    media_type: String,
    /// When it was logged.
    created_at: Time,
}

#[pymethods]
impl Artifact {
    fn __repr__(&self) -> String {
        format!("Artifact({:?}, {} bytes)", self.path, self.size_bytes)
    }
}

impl From<artifacts::Artifact> for Artifact {
    fn from(artifact: artifacts::Artifact) -> Self {
        Self {
            path: artifact.path,
            size_bytes: artifact.size_bytes,
            sha256: artifact.sha256,
            media_type: artifact.media_type,
            created_at: artifact.created_at.into(),
        }
    }
}

/// Path in the run of what was uploaded, and what was left out with the reason.
pub(crate) fn uploaded_paths(uploaded: Uploaded) -> (String, Vec<(String, String)>) {
    let skipped = uploaded.skipped.into_iter();
    let skipped = skipped.map(|s| (s.local.display().to_string(), s.why));
    (uploaded.path, skipped.collect())
}

/// The files of a run.
#[pyfunction]
fn list_artifacts(py: Python<'_>, client: &Client, run_id: String, path: String) -> PyResult<Call> {
    let client = client.get(py)?;
    Ok(Call::new(async move {
        let list = client
            .artifacts()
            .list(&run_id, &path)
            .collect(None)
            .await?;
        Ok(list.into_iter().map(Artifact::from).collect::<Vec<_>>())
    }))
}

/// The record of one file of a run.
#[pyfunction]
fn get_artifact(py: Python<'_>, client: &Client, run_id: String, path: String) -> PyResult<Call> {
    let client = client.get(py)?;
    Ok(Call::new(async move {
        let record = client.artifacts().get(&run_id, &path).await?;
        Ok(Artifact::from(record))
    }))
}

/// Reads a range of a file of a run, without a length to its end; where a digest is given, only of that content.
#[pyfunction]
fn read_artifact(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    path: String,
    sha256: String,
    offset: u64,
    length: Option<u64>,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let work = async move {
        let artifacts = client.artifacts();
        let (sha256, length) = match length {
            Some(length) => (sha256, length),
            None => {
                let record = artifacts.get(&run_id, &path).await?;
                (record.sha256, record.size_bytes.saturating_sub(offset))
            }
        };
        artifacts
            .read_of(&run_id, &path, &sha256, offset, length)
            .await
    };
    Ok(Call::with(work, |py, bytes| {
        PyBytes::new(py, &bytes).into_py_any(py)
    }))
}

/// Downloads a file or directory of a run; the answer is where it is now.
#[pyfunction]
fn download_artifact(
    py: Python<'_>,
    client: &Client,
    run_id: String,
    path: String,
    into: PathBuf,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let progress = Progress::default();
    let report = progress.of_transfer("downloading", path.clone());
    let work = async move {
        let target = client
            .artifacts()
            .download_with(&run_id, &path, into, report)
            .await?;
        Ok(target.to_string_lossy().into_owned())
    };
    Ok(Call::new(work).showing(progress))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Artifact>()?;
    module.add_function(wrap_pyfunction!(list_artifacts, module)?)?;
    module.add_function(wrap_pyfunction!(get_artifact, module)?)?;
    module.add_function(wrap_pyfunction!(read_artifact, module)?)?;
    module.add_function(wrap_pyfunction!(download_artifact, module)?)
}
