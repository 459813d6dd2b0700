//! How far a long call is, shown on standard error while a thread waits for it.
//!
//! Invariant: shown only where a person looks (a terminal), only after a moment, and gone when the call is over.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mlplat::artifacts::OnProgress;
use pyo3::prelude::*;

use crate::runtime::lock;

/// A call that takes no longer shows nothing.
const PATIENCE: Duration = Duration::from_millis(400);

/// One line of text that the work sets and the waiting thread shows.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Line>);

#[derive(Default)]
struct Line {
    text: Mutex<String>,
    /// What stands on the terminal now; empty when nothing does.
    shown: Mutex<String>,
}

impl Progress {
    /// Says how far the work is.
    pub(crate) fn set(&self, text: String) {
        *lock(&self.0.text) = text;
    }

    /// The progress of files on their way.
    pub(crate) fn of_transfer(&self, what: String) -> OnProgress {
        let progress = self.clone();
        OnProgress::new(move |transfer| {
            let (done, total) = (transfer.done_bytes, transfer.total_bytes);
            progress.set(format!("{what}: {} of {}", size(done), size(total)));
        })
    }

    pub(crate) fn show(&self, py: Python<'_>, elapsed: Duration) -> PyResult<()> {
        if elapsed < PATIENCE {
            return Ok(());
        }
        let text = lock(&self.0.text).clone();
        let stderr = py.import("sys")?.getattr("stderr")?;
        if text.is_empty() || stderr.is_none() || !stderr.call_method0("isatty")?.is_truthy()? {
            return Ok(());
        }
        let line = format!("\r\x1b[Kmlplat: {text} ({} s)", elapsed.as_secs());
        if *lock(&self.0.shown) == line {
            return Ok(());
        }
        lock(&self.0.shown).clone_from(&line);
        stderr.call_method1("write", (line,))?;
        stderr.call_method0("flush")?;
        Ok(())
    }

    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        if !std::mem::take(&mut *lock(&self.0.shown)).is_empty() {
            let stderr = py.import("sys")?.getattr("stderr")?;
            stderr.call_method1("write", ("\r\x1b[K",))?;
            stderr.call_method0("flush")?;
        }
        Ok(())
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}
