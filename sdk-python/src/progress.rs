//! How far a long call is, shown on standard error while a thread waits for it.
//!
//! Invariant: shown only where a person looks (a terminal, or one line in a notebook), only after a moment, and gone when
//! the call is over.

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
    /// What stands there now; empty when nothing does.
    shown: Mutex<String>,
    /// Where it stands, once that is known.
    place: Mutex<Option<Place>>,
}

/// Where lines are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Terminal,
    Notebook,
    Nowhere,
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
        let place = self.place(py)?;
        if text.is_empty() || place == Place::Nowhere {
            return Ok(());
        }
        let seconds = elapsed.as_secs();
        let line = format!("mlplat: {text} ({seconds} s)");
        {
            let mut shown = lock(&self.0.shown);
            // Every line of a notebook is a message to a browser, and is kept in the file.
            let same_second = shown.ends_with(&format!("({seconds} s)"));
            if *shown == line || (place == Place::Notebook && same_second) {
                return Ok(());
            }
            shown.clone_from(&line);
        }
        let start = match place {
            Place::Terminal => "\r\x1b[K",
            Place::Notebook | Place::Nowhere => "\r",
        };
        write(py, &format!("{start}{line}"))
    }

    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let shown = std::mem::take(&mut *lock(&self.0.shown));
        if shown.is_empty() {
            return Ok(());
        }
        match self.place(py)? {
            Place::Terminal => write(py, "\r\x1b[K"),
            Place::Notebook => write(py, &format!("\r{}\r", " ".repeat(shown.chars().count()))),
            Place::Nowhere => Ok(()),
        }
    }

    /// Where the package says that a person looks.
    fn place(&self, py: Python<'_>) -> PyResult<Place> {
        if let Some(place) = *lock(&self.0.place) {
            return Ok(place);
        }
        let found: String = py
            .import("mlplat._place")?
            .call_method0("place")?
            .extract()?;
        let place = match found.as_str() {
            "terminal" => Place::Terminal,
            "notebook" => Place::Notebook,
            _ => Place::Nowhere,
        };
        *lock(&self.0.place) = Some(place);
        Ok(place)
    }
}

fn write(py: Python<'_>, text: &str) -> PyResult<()> {
    let stderr = py.import("sys")?.getattr("stderr")?;
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
