//! Sampling of the machine for a run.

use std::sync::Mutex;

use pyo3::prelude::*;

use crate::runtime::lock;

/// Sampling that goes on until it is stopped or forgotten.
#[pyclass(frozen, module = "mlplat._native")]
pub(crate) struct SystemMetrics {
    sampling: Mutex<Option<mlplat::system::SystemMetrics>>,
    process: u32,
}

impl SystemMetrics {
    pub(super) fn new(sampling: mlplat::system::SystemMetrics) -> Self {
        Self {
            sampling: Mutex::new(Some(sampling)),
            process: std::process::id(),
        }
    }

    fn end(&self) {
        let sampling = lock(&self.sampling).take();
        if self.process == std::process::id() {
            drop(sampling);
        } else {
            // The task is the parent's, and its runtime is not here.
            std::mem::forget(sampling);
        }
    }
}

#[pymethods]
impl SystemMetrics {
    /// Ends the sampling.
    fn stop(&self) {
        self.end();
    }
}

impl Drop for SystemMetrics {
    fn drop(&mut self) {
        self.end();
    }
}
