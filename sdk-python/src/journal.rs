//! The journal of what is logged: waiting for its delivery, and delivering what dead processes left.

use std::time::Duration;

use mlplat::journal::{self, JournalReport, SyncOptions};
use pyo3::{prelude::*, types::PyModule};

use crate::call::Call;

/// Waits until all that this process logged is delivered, or what is left was told.
#[pyfunction]
fn flush_all(timeout: Option<Duration>) -> Call {
    Call::new(async move { Ok(journal::flush_all(timeout).await) })
}

/// What became of the journal of a dead process.
#[pyclass(frozen, get_all, module = "mlplat._native")]
struct LeftJournal {
    /// Its folder.
    path: String,
    /// The server that it is for.
    url: String,
    /// The project that it is for.
    project: String,
    /// The process that wrote it, as `host:pid`.
    owner: String,
    /// Records that are delivered now.
    records: u64,
    /// Points among them.
    points: u64,
    /// Records that the server refused; they are kept.
    rejected: u64,
    /// Why something is left; None when all is delivered.
    left: Option<String>,
}

impl From<JournalReport> for LeftJournal {
    fn from(report: JournalReport) -> Self {
        Self {
            path: report.path.display().to_string(),
            url: report.url,
            project: report.project,
            owner: report.owner,
            records: report.records,
            points: report.points,
            rejected: report.rejected,
            left: report.left,
        }
    }
}

/// What a delivery of the journals of dead processes did.
#[pyclass(frozen, get_all, module = "mlplat._native")]
struct SyncReport {
    /// The journals of dead processes.
    journals: Vec<Py<LeftJournal>>,
    /// Journals of processes that live.
    live: usize,
    /// Journals of what the server refused.
    rejected: usize,
}

/// Delivers what dead processes left, for one server and project or for all.
#[pyfunction]
fn sync(
    url: Option<String>,
    project: Option<String>,
    rejected: bool,
    to: Option<String>,
    user_agent: String,
) -> PyResult<Call> {
    let mut options = SyncOptions::new().rejected(rejected);
    if let Some(url) = url {
        options = options.url(url);
    }
    if let Some(project) = project {
        options = options.project(project);
    }
    if let Some(to) = to {
        options = options.to(to);
    }
    let settings = mlplat::Client::builder().user_agent(user_agent);
    let work = async move { journal::sync(settings, options).await };
    Ok(Call::with(work, |py, report| {
        let journals = report.journals.into_iter();
        let report = SyncReport {
            journals: journals
                .map(|journal| Py::new(py, LeftJournal::from(journal)))
                .collect::<PyResult<_>>()?,
            live: report.live,
            rejected: report.rejected,
        };
        Ok(Py::new(py, report)?.into_any())
    }))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LeftJournal>()?;
    module.add_class::<SyncReport>()?;
    module.add_function(wrap_pyfunction!(flush_all, module)?)?;
    module.add_function(wrap_pyfunction!(sync, module)?)
}
