//! The handle of a process that does a run.
//!
//! Invariant: what logs is done when it returns, and does not touch the network; what does is a [`Call`]. In a process that
//! was forked off the handle logs to another journal, and has a connection of its own.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use mlplat::{
    artifacts::UploadOptions,
    catalogue::NewModelVersion,
    tracking::{ActiveRun, RunStatus},
};
use pyo3::{IntoPyObjectExt as _, prelude::*};

use super::{DatasetInput, RunRecord, keeping::NewInput, system::SystemMetrics};
use crate::{
    artifacts::uploaded_paths,
    call::Call,
    catalogue::ModelVersion,
    client::rebuilt,
    errors::{misuse, raise},
    numbers,
    progress::Progress,
    runtime::{PerProcess, runtime},
};

/// A run under way.
#[pyclass(frozen, module = "mlplat._native")]
pub(crate) struct RunHandle(PerProcess<ActiveRun>);

impl RunHandle {
    pub(super) fn into_py(py: Python<'_>, run: ActiveRun) -> PyResult<Py<PyAny>> {
        Self(PerProcess::new(py, run)).into_py_any(py)
    }

    /// The run, for what only logs.
    pub(super) fn peek(&self) -> ActiveRun {
        self.0.peek(ActiveRun::clone)
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
    fn log_params(&self, py: Python<'_>, params: BTreeMap<String, String>) -> PyResult<()> {
        let logged = self.peek().log_params(params);
        logged.map_err(|e| raise(py, &e))
    }

    /// Sets labels.
    fn set_tags(&self, py: Python<'_>, tags: BTreeMap<String, String>) -> PyResult<()> {
        let logged = self.peek().set_tags(tags);
        logged.map_err(|e| raise(py, &e))
    }

    /// Logs many values of one metric, with a step and a time each, where given.
    fn log_series(
        &self,
        py: Python<'_>,
        key: String,
        steps: Option<Bound<'_, PyAny>>,
        values: &Bound<'_, PyAny>,
        timestamps: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let what = |what: &str| format!("the {what} of metric `{key}`");
        let values = numbers::floats(&what("values"), values)?;
        let steps = steps.map(|steps| numbers::integers(&what("steps"), &steps));
        let steps = steps.transpose()?;
        let times = timestamps.map(|times| numbers::integers(&what("timestamps"), &times));
        let times = times.transpose()?;
        let run = self.peek();
        py.detach(|| run.log_series(&key, steps.as_deref(), &values, times.as_deref()))
            .map_err(|e| raise(py, &e))
    }

    /// Keeps a file, to be uploaded in the background.
    fn spool_file(
        &self,
        py: Python<'_>,
        path: PathBuf,
        artifact_path: String,
        media_type: String,
    ) -> PyResult<()> {
        let run = self.peek();
        py.detach(|| run.spool_artifact(path, &artifact_path, &media_type))
            .map_err(|e| raise(py, &e))
    }

    /// Keeps some bytes, to be uploaded as a file in the background.
    fn spool_bytes(
        &self,
        py: Python<'_>,
        content: &[u8],
        artifact_path: String,
        media_type: String,
    ) -> PyResult<()> {
        let run = self.peek();
        py.detach(|| run.spool_bytes(content, &artifact_path, &media_type))
            .map_err(|e| raise(py, &e))
    }

    /// Waits until all that was logged is stored; says whether it is.
    fn flush(&self, timeout: Option<Duration>) -> Call {
        let run = self.peek();
        Call::new(async move {
            Ok(match timeout {
                Some(timeout) => run.flush_within(timeout).await,
                None => run.flush().await,
            })
        })
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
            .progress(progress.of_transfer("uploading", path.display().to_string()));
        let work = async move { Ok(uploaded_paths(run.log_artifact_with(path, options).await?)) };
        Ok(Call::new(work).showing(progress))
    }

    /// Notes in the journal that the run read a data set.
    fn keep_input(&self, py: Python<'_>, input: NewInput) -> PyResult<()> {
        let kept = self.get(py)?.keep_inputs([input.made()]);
        kept.map_err(|e| raise(py, &e))
    }

    /// Notes that the run read a data set; the answer is the input as it is kept.
    fn log_input(&self, py: Python<'_>, input: NewInput) -> PyResult<Call> {
        let run = self.get(py)?;
        let made = input.made();
        Ok(Call::new(async move {
            let kept = DatasetInput::from(made.clone());
            run.log_inputs([made]).await?;
            Ok(kept)
        }))
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
            .progress(progress.of_transfer("uploading", path.display().to_string()));
        for (key, value) in tags {
            new = new.tag(key, value);
        }
        let work = async move {
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

    /// Ends the run, and waits until that is stored, for a while.
    fn end(&self, py: Python<'_>, status: &str, message: String) -> PyResult<Call> {
        let status = end_status(py, status)?;
        let run = self.peek();
        Ok(Call::new(async move {
            Ok(RunRecord::from(run.end(status, &message).await?))
        }))
    }

    /// Ends the run, without waiting.
    fn end_soon(&self, py: Python<'_>, status: &str, message: &str) -> PyResult<RunRecord> {
        let ended = self.peek().end_soon(end_status(py, status)?, message);
        ended.map(RunRecord::from).map_err(|e| raise(py, &e))
    }
}

fn end_status(py: Python<'_>, status: &str) -> PyResult<RunStatus> {
    match status {
        "FINISHED" => Ok(RunStatus::Finished),
        "FAILED" => Ok(RunStatus::Failed),
        "KILLED" => Ok(RunStatus::Killed),
        other => {
            let text = format!("a run ends as FINISHED, FAILED or KILLED, not as {other:?}");
            Err(misuse(py, text))
        }
    }
}
