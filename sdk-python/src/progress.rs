//! How far a long call is, shown on standard error while a thread waits for it.
//!
//! Invariant: shown only after a moment. Where a person looks (a terminal, a notebook) it is one line that is gone when the
//! call is over; in the log of a job it is a line from time to time, so that a call which hangs can be told from one that works; in
//! CI it is nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mlplat::artifacts::OnProgress;
use pyo3::prelude::*;

use crate::{notebook, runtime::lock};

/// A call that takes no longer shows nothing.
const PATIENCE: Duration = Duration::from_millis(400);
/// Between two lines where lines stay.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What the line is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Screen {
    Terminal,
    Notebook,
    Log,
    /// Nobody looks while it runs.
    None,
}

impl Screen {
    fn of(stderr: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(if notebook::is_quiet(stderr.py())? {
            Self::None
        } else if stderr.call_method0("isatty")?.is_truthy()? {
            Self::Terminal
        } else if notebook::is_running(stderr.py())? {
            Self::Notebook
        } else {
            Self::Log
        })
    }
}

/// One line of text that the work sets and the waiting thread shows.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Line>);

#[derive(Default)]
struct Line {
    text: Mutex<String>,
    /// What stands on the screen now; empty when nothing does.
    shown: Mutex<String>,
    /// When the last line was logged, counted from the start of the call.
    logged: Mutex<Duration>,
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
        if text.is_empty() || stderr.is_none() {
            return Ok(());
        }
        let line = format!("mlplat: {text} ({} s)", elapsed.as_secs());
        let before = lock(&self.0.shown).clone();
        let written = match Screen::of(&stderr)? {
            Screen::None => return Ok(()),
            _ if line == before => return Ok(()),
            Screen::Terminal => format!("\r\x1b[K{line}"),
            Screen::Notebook => over(&line, &before),
            Screen::Log => {
                let mut logged = lock(&self.0.logged);
                if elapsed < *logged + LOG_INTERVAL {
                    return Ok(());
                }
                *logged = elapsed;
                return write(&stderr, format!("{line}\n"));
            }
        };
        *lock(&self.0.shown) = line;
        write(&stderr, written)
    }

    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let before = std::mem::take(&mut *lock(&self.0.shown));
        if before.is_empty() {
            return Ok(());
        }
        let stderr = py.import("sys")?.getattr("stderr")?;
        match Screen::of(&stderr)? {
            Screen::Notebook => write(&stderr, format!("{}\r", over("", &before))),
            _ => write(&stderr, "\r\x1b[K".to_owned()),
        }
    }
}

/// A line over the one before it, for notebooks, which do not erase.
fn over(line: &str, before: &str) -> String {
    let width = before.chars().count();
    format!("\r{line:width$}")
}

fn write(stderr: &Bound<'_, PyAny>, text: String) -> PyResult<()> {
    stderr.call_method1("write", (text,))?;
    stderr.call_method0("flush")?;
    Ok(())
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
