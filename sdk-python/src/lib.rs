//! The native part of the Python SDK: the Rust client behind plain functions and records, private to the package.
//!
//! Invariant: every call is described here once, as a [`call::Call`]; names, docstrings, defaults and the two flavours
//! (blocking and async) are Python's, in `python/mlplat`. This crate knows no policy of its own: no defaults, no
//! active run.

mod artifacts;
mod call;
mod catalogue;
mod cells;
mod client;
mod columns;
mod errors;
mod features;
mod html;
mod journal;
mod lineage;
mod notebook;
mod numbers;
mod progress;
mod projects;
mod runtime;
mod table;
mod time;
mod trace;
mod tracking;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    runtime::register(module)?;
    call::register(module)?;
    client::register(module)?;
    projects::register(module)?;
    table::register(module)?;
    tracking::register(module)?;
    journal::register(module)?;
    artifacts::register(module)?;
    catalogue::register(module)?;
    features::register(module)?;
    lineage::register(module)
}
