//! A call that is described but not made yet: [`Call::wait`] makes it and blocks, `await` makes it in an event loop.
//!
//! Invariant: the work of every call is written once, as a future that knows nothing of Python; its answer becomes a
//! Python object at the end, while attached. A blocked call reacts to Ctrl-C (and drops the work), and lets other
//! Python threads run.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Mutex,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use pyo3::{
    IntoPyObjectExt as _,
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyModule, PyType},
};
use tokio::{task::AbortHandle, time::MissedTickBehavior};

use crate::{
    errors,
    progress::Progress,
    runtime::{lock, runtime},
    trace,
};

/// How often a blocked call looks for signals and shows progress.
const TICK: Duration = Duration::from_millis(50);

/// Makes the Python object of an answer.
type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = mlplat::Result<Finish>> + Send>>;

/// A call to the server. Nothing happens before it is waited for or awaited, which can be done once.
#[pyclass(frozen, module = "mlplat._native")]
pub(crate) struct Call {
    work: Mutex<Option<Work>>,
    progress: Option<Progress>,
    then: Mutex<Option<Py<PyAny>>>,
}

impl Call {
    /// A call whose answer Python understands.
    pub(crate) fn new<T>(work: impl Future<Output = mlplat::Result<T>> + Send + 'static) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Self::with(work, |py, answer| answer.into_py_any(py))
    }

    /// A call whose answer is made into a Python object by `finish`.
    pub(crate) fn with<T: Send + 'static>(
        work: impl Future<Output = mlplat::Result<T>> + Send + 'static,
        finish: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        let work: Work = Box::pin(async move {
            let answer = work.await?;
            Ok(Box::new(move |py: Python<'_>| finish(py, answer)) as Finish)
        });
        Self {
            work: Mutex::new(Some(work)),
            progress: None,
            then: Mutex::new(None),
        }
    }

    /// Shows this progress while a thread waits.
    pub(crate) fn showing(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The work, as a part of the trace that is active where the call is made, and what is done with its answer.
    fn take(&self, py: Python<'_>) -> PyResult<(Work, Option<Py<PyAny>>)> {
        let Some(work) = lock(&self.work).take() else {
            return Err(PyRuntimeError::new_err("this call was made already"));
        };
        let work: Work = match trace::active(py) {
            Some(parent) => Box::pin(parent.scope(work)),
            None => work,
        };
        Ok((work, lock(&self.then).take()))
    }
}

fn finish(
    py: Python<'_>,
    result: mlplat::Result<Finish>,
    then: Option<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    let value = match result {
        Ok(finish) => finish(py)?,
        Err(error) => return Err(errors::raise(py, &error)),
    };
    match then {
        Some(then) => then.call1(py, (value,)),
        None => Ok(value),
    }
}

#[pymethods]
impl Call {
    /// The same call, whose answer goes through a Python function before it is returned.
    fn then(slf: PyRef<'_, Self>, function: Py<PyAny>) -> PyRef<'_, Self> {
        *lock(&slf.then) = Some(function);
        slf
    }

    /// Makes the call and blocks until it is answered.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (mut work, then) = self.take(py)?;
        let runtime = runtime(py)?;
        let progress = self.progress.as_ref();
        let started = Instant::now();
        let result: PyResult<mlplat::Result<Finish>> = py.detach(|| {
            runtime.block_on(async {
                let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
                tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        biased;
                        result = &mut work => return Ok(result),
                        _ = tick.tick() => Python::attach(|py| {
                            py.check_signals()?;
                            progress.map_or(Ok(()), |progress| progress.show(py, started.elapsed()))
                        })?,
                    }
                }
            })
        });
        drop(work);
        if let Some(progress) = progress {
            progress.clear(py, matches!(result, Ok(Ok(_))))?;
        }
        finish(py, result?, then)
    }

    /// Makes the call in the running asyncio event loop.
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (work, then) = self.take(py)?;
        let event_loop = py.import("asyncio")?.call_method0("get_running_loop")?;
        let future = event_loop.call_method0("create_future")?;
        let (target, waiting) = (event_loop.unbind(), future.clone().unbind());
        let task = runtime(py)?.spawn(async move {
            // A task that panics would leave the event loop waiting for ever.
            let result = AssertUnwindSafe(work).catch_unwind().await;
            // Waiting for the interpreter must not hold up the other tasks.
            let delivery = tokio::task::spawn_blocking(move || {
                Python::attach(|py| {
                    let result = match result {
                        Ok(result) => finish(py, result, then),
                        Err(_) => Err(PyRuntimeError::new_err("the client panicked; see stderr")),
                    };
                    deliver(py, &target, waiting, result);
                });
            });
            // The event loop is gone only when nobody waits any more.
            let _ = delivery.await;
        });
        future.call_method1("add_done_callback", (Abort(task.abort_handle()),))?;
        future.call_method0("__await__")
    }

    /// `Call[T]`, as the stubs write it.
    #[classmethod]
    fn __class_getitem__(cls: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        cls.clone().unbind()
    }
}

/// Hands an answer to the event loop, which may have been closed meanwhile.
fn deliver(py: Python<'_>, event_loop: &Py<PyAny>, future: Py<PyAny>, result: PyResult<Py<PyAny>>) {
    let (value, error) = match result {
        Ok(value) => (value, py.None()),
        Err(error) => (py.None(), error.into_value(py).into_any()),
    };
    let arguments = (Settle, future, value, error);
    if let Err(closed) = event_loop.call_method1(py, "call_soon_threadsafe", arguments) {
        closed.write_unraisable(py, None);
    }
}

/// Ends the task of a call that is not waited for any more.
#[pyclass(frozen)]
struct Abort(AbortHandle);

#[pymethods]
impl Abort {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        self.0.abort();
    }
}

/// Gives an asyncio future its result, unless it was cancelled.
#[pyclass(frozen)]
struct Settle;

#[pymethods]
impl Settle {
    fn __call__(
        &self,
        future: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if future.call_method0("done")?.is_truthy()? {
            return Ok(());
        }
        if error.is_none() {
            future.call_method1("set_result", (value,))?;
        } else {
            future.call_method1("set_exception", (error,))?;
        }
        Ok(())
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Call>()
}
