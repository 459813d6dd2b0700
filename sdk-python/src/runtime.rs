//! The one async runtime of the process.
//!
//! Invariant: everything here happens while attached to the interpreter, so no thread can hold a lock of this module
//! when Python forks. The threads of a runtime do not survive a `fork()`, so the child forgets the runtime of its
//! parent (dropping it would wait for threads that are not there) and makes its own at the first call; whatever is
//! bound to a runtime compares generations and makes itself anew.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use pyo3::{prelude::*, types::PyModule};
use tokio::runtime::{Builder, Runtime};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static RUNTIME: Mutex<Option<&'static Runtime>> = Mutex::new(None);

/// Takes a lock whose holder cannot have left broken data behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the forks that lead to this process.
pub(crate) fn generation(_py: Python<'_>) -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// The runtime, made at the first call.
pub(crate) fn runtime(_py: Python<'_>) -> PyResult<&'static Runtime> {
    let mut current = lock(&RUNTIME);
    if let Some(runtime) = *current {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mlplat")
        .enable_all()
        .build()?;
    // It lives as long as the process: calls hold it across threads, and nothing would be won by ending it at exit.
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    *current = Some(runtime);
    Ok(runtime)
}

/// To be called in the child after a fork.
#[pyfunction]
fn after_fork(_py: Python<'_>) {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    *lock(&RUNTIME) = None;
}

/// Something bound to a runtime, made anew from its old self in every process.
pub(crate) struct PerProcess<T>(Mutex<(u64, T)>);

impl<T: Clone> PerProcess<T> {
    pub(crate) fn new(py: Python<'_>, value: T) -> Self {
        Self(Mutex::new((generation(py), value)))
    }

    /// The value of this process; after a fork `renew` makes it from that of the parent.
    pub(crate) fn get(&self, py: Python<'_>, renew: impl FnOnce(&T) -> PyResult<T>) -> PyResult<T> {
        let generation = generation(py);
        let mut held = lock(&self.0);
        if held.0 != generation {
            let fresh = renew(&held.1)?;
            let stale = std::mem::replace(&mut *held, (generation, fresh));
            // Its locks may have been held by threads that only the parent has.
            std::mem::forget(stale);
        }
        Ok(held.1.clone())
    }

    /// A look at the value for what does not depend on the process.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&lock(&self.0).1)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(after_fork, module)?)
}
