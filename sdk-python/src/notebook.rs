//! Whether a person looks through a notebook, where output is drawn.
//!
//! Invariant: IPython is not imported; a notebook has done that.

use pyo3::{prelude::*, types::PyDict};

/// Whether the code runs in the kernel of a notebook.
pub(crate) fn is_running(py: Python<'_>) -> PyResult<bool> {
    let modules = py
        .import("sys")?
        .getattr("modules")?
        .cast_into::<PyDict>()?;
    let Some(ipython) = modules.get_item("IPython")? else {
        return Ok(false);
    };
    let shell = ipython.call_method0("get_ipython")?;
    Ok(!shell.is_none() && shell.hasattr("kernel")?)
}
