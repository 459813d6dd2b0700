//! How far a long call is, while a thread waits for it: what there is to show. `_progress.py` says where and how.
//!
//! Invariant: Python is asked for nothing before a moment has passed, so that short calls pay nothing for it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mlplat::artifacts::OnProgress;
use pyo3::prelude::*;

use crate::runtime::lock;

/// A call that takes no longer shows nothing.
const PATIENCE: Duration = Duration::from_millis(400);

/// How far one call is: the work sets it, and the waiting thread shows it.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<Option<State>>,
    /// The `_progress.Line`, once something is shown.
    line: Mutex<Option<Py<PyAny>>>,
}

#[derive(Clone)]
enum State {
    Text(String),
    Transfer {
        doing: &'static str,
        name: String,
        done: u64,
        total: u64,
    },
}

impl Progress {
    /// Says how far the work is.
    pub(crate) fn set(&self, text: String) {
        *lock(&self.0.state) = Some(State::Text(text));
    }

    /// The progress of files on their way; `doing` is e.g. "uploading".
    pub(crate) fn of_transfer(&self, doing: &'static str, name: String) -> OnProgress {
        let progress = self.clone();
        OnProgress::new(move |transfer| {
            *lock(&progress.0.state) = Some(State::Transfer {
                doing,
                name: name.clone(),
                done: transfer.done_bytes,
                total: transfer.total_bytes,
            });
        })
    }

    pub(crate) fn show(&self, py: Python<'_>, elapsed: Duration) -> PyResult<()> {
        if elapsed < PATIENCE {
            return Ok(());
        }
        let Some(state) = lock(&self.0.state).clone() else {
            return Ok(());
        };
        let line = self.line(py)?;
        let seconds = elapsed.as_secs_f64();
        match state {
            State::Text(text) => {
                let facts: Vec<String> = Vec::new();
                line.call_method1(py, "count", (text, "", facts, py.None(), seconds))?;
            }
            State::Transfer {
                doing,
                name,
                done,
                total,
            } => {
                line.call_method1(py, "transfer", (doing, name, done, total, seconds))?;
            }
        }
        Ok(())
    }

    /// Takes away what is shown; `finished` unless the call failed or was interrupted.
    pub(crate) fn clear(&self, py: Python<'_>, finished: bool) -> PyResult<()> {
        let line = lock(&self.0.line).take();
        match line {
            Some(line) => line.call_method1(py, "clear", (finished,)).map(drop),
            None => Ok(()),
        }
    }

    fn line(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(line) = lock(&self.0.line).as_ref() {
            return Ok(line.clone_ref(py));
        }
        let line = py
            .import("mlplat._progress")?
            .call_method0("Line")?
            .unbind();
        *lock(&self.0.line) = Some(line.clone_ref(py));
        Ok(line)
    }
}
