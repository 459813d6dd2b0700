//! Whether a person looks at a notebook: what `_place.py` says.

use pyo3::prelude::*;

/// Whether the code runs in the kernel of a notebook.
pub(crate) fn is_running(py: Python<'_>) -> PyResult<bool> {
    py.import("mlplat._place")?
        .call_method0("in_notebook")?
        .extract()
}
