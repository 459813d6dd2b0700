//! Whether a person may be looking, and where: what `_place.py` says.

use pyo3::prelude::*;

/// Whether the code runs in the kernel of a notebook.
pub(crate) fn is_running(py: Python<'_>) -> PyResult<bool> {
    ask(py, "in_notebook")
}

/// Whether this is a job of continuous integration, at which nobody looks while it runs.
pub(crate) fn is_quiet(py: Python<'_>) -> PyResult<bool> {
    ask(py, "quiet")
}

fn ask(py: Python<'_>, question: &str) -> PyResult<bool> {
    py.import("mlplat._place")?
        .call_method0(question)?
        .extract()
}
