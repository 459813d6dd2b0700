//! The handle of a process that does a run.
//!
//! Invariant: in a process that was forked off, the handle is another writer of the same run, so that the sequence
//! numbers of its parent are not used twice.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use mlplat::{
    artifacts::UploadOptions,
    catalogue::NewModelVersion,
    tracking::{ActiveRun, MetricPoint, RunStatus},
};
use pyo3::{IntoPyObjectExt as _, prelude::*};

use super::{RunRecord, system::SystemMetrics};
use crate::{
    artifacts::uploaded_paths,
    call::Call,
    catalogue::ModelVersion,
    client::rebuilt,
    errors::{misuse, raise},
    progress::Progress,
    runtime::{PerProcess, runtime},
    time::from_nanos,
};

/// A run under way.
#[pyclass(frozen, module = "mlplat._native")]
pub(crate) struct RunHandle(PerProcess<ActiveRun>);

impl RunHandle {
    pub(super) fn into_py(py: Python<'_>, run: ActiveRun) -> PyResult<Py<PyAny>> {
        Self(PerProcess::new(py, run)).into_py_any(py)
    }

    fn get(&self, py: Python<'_>) -> PyResult<ActiveRun> {
        self.0
            .get(py, |old| Ok(old.with_client(rebuilt(py, old.client())?)))
    }
}

#[pymethods]
impl RunHandle {
    /// The run as it was when this handle was made.
    #[getter]
    fn started(&self) -> RunRecord {
        self.0.peek(|run| run.started().clone().into())
    }

    /// The run as the server knows it now.
    fn refresh(&self, py: Python<'_>) -> PyResult<Call> {
        let run = self.get(py)?;
        Ok(Call::new(async move {
            Ok(RunRecord::from(run.refresh().await?))
        }))
    }

    /// Logs params.
    fn log_params(&self, py: Python<'_>, params: BTreeMap<String, String>) -> PyResult<Call> {
        let run = self.get(py)?;
        Ok(Call::new(async move { run.log_params(params).await }))
    }

    /// Sets labels.
    fn set_tags(&self, py: Python<'_>, tags: BTreeMap<String, String>) -> PyResult<Call> {
        let run = self.get(py)?;
        Ok(Call::new(async move { run.set_tags(tags).await }))
    }

    /// Logs points: key, value, step, nanoseconds since 1970.
    fn log_metrics(
        &self,
        py: Python<'_>,
        points: Vec<(String, f64, Option<i64>, Option<i128>)>,
    ) -> PyResult<Call> {
        let run = self.get(py)?;
        let point = |(key, value, step, nanos): (String, f64, Option<i64>, Option<i128>)| {
            let point = MetricPoint::new(key, value).at_step(step);
            match nanos {
                Some(nanos) => point.at_time(from_nanos(nanos)),
                None => point,
            }
        };
        let points: Vec<MetricPoint> = points.into_iter().map(point).collect();
        Ok(Call::new(async move { run.log_metrics(points).await }))
    }

    /// Waits until all that was logged is stored.
    fn flush(&self, py: Python<'_>) -> PyResult<Call> {
        let run = self.get(py)?;
        Ok(Call::new(async move { run.flush().await }))
    }

    /// Uploads a file or directory; the answer is its path in the run, and what was left out of a directory.
    fn log_artifact(
        &self,
        py: Python<'_>,
        path: PathBuf,
        directory: String,
        media_type: String,
    ) -> PyResult<Call> {
        let run = self.get(py)?;
        let progress = Progress::default();
        let options = UploadOptions::default()
            .directory(directory)
            .media_type(media_type)
            .progress(progress.of_transfer(format!("uploading {}", path.display())));
        let work = async move { Ok(uploaded_paths(run.log_artifact_with(path, options).await?)) };
        Ok(Call::new(work).showing(progress))
    }

    /// Publishes a file or directory as the next version of a model.
    fn publish_model(
        &self,
        py: Python<'_>,
        model: String,
        path: PathBuf,
        description: String,
        tags: BTreeMap<String, String>,
    ) -> PyResult<Call> {
        let run = self.get(py)?;
        let progress = Progress::default();
        let mut new = NewModelVersion::new(model, run.id())
            .description(description)
            .progress(progress.of_transfer(format!("uploading {}", path.display())));
        for (key, value) in tags {
            new = new.tag(key, value);
        }
        let work = async move {
            run.flush().await?;
            let version = run.client().catalogue().publish(new, path).await?;
            Ok(ModelVersion::from(version))
        };
        Ok(Call::new(work).showing(progress))
    }

    /// Logs measurements of the machine from now on.
    fn log_system_metrics(&self, py: Python<'_>, every: Duration) -> PyResult<SystemMetrics> {
        let run = self.get(py)?;
        let _entered = runtime(py)?.enter();
        let sampling = run.log_system_metrics(every).map_err(|e| raise(py, &e))?;
        Ok(SystemMetrics::new(sampling))
    }

    /// Ends the run.
    fn end(&self, py: Python<'_>, status: &str, message: String) -> PyResult<Call> {
        let status = match status {
            "FINISHED" => RunStatus::Finished,
            "FAILED" => RunStatus::Failed,
            "KILLED" => RunStatus::Killed,
            other => {
                let text = format!("a run ends as FINISHED, FAILED or KILLED, not as {other:?}");
                return Err(misuse(py, text));
            }
        };
        let run = self.get(py)?;
        Ok(Call::new(async move {
            Ok(RunRecord::from(run.end(status, &message).await?))
        }))
    }
}
