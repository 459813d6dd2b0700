//! What a training loop calls: values of metrics, from Python objects into the journal.
//!
//! Invariant: a call is one crossing into Rust that makes no copy of a key and, for up to eight metrics, no allocation. While
//! the journal is written no Python code runs. What is no number is refused by `_arguments.py`, which knows the words.

use mlplat::tracking::ActiveRun;
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyFloat, PyInt, PyModule, PyString},
};
use smallvec::SmallVec;

use super::RunHandle;
use crate::errors::raise;

/// Metrics that fit into one call without an allocation.
const INLINE: usize = 8;

/// The part of a run under way that logs metrics; `ActiveRun` of the package is made of it.
#[pyclass(frozen, subclass, module = "mlplat._native")]
pub(crate) struct RunLog(ActiveRun);

/// A metric whose value is known, or has yet to be asked for.
enum Found<'py> {
    Number(f64),
    Object(Bound<'py, PyAny>),
}

#[pymethods]
impl RunLog {
    #[new]
    #[pyo3(signature = (client, handle, joined=false))]
    fn new(client: &Bound<'_, PyAny>, handle: &Bound<'_, RunHandle>, joined: bool) -> Self {
        let (_, _) = (client, joined);
        Self(handle.get().peek())
    }

    /// Logs values of several metrics at one step: any numbers, numpy and torch scalars included.
    ///
    /// Without `step` it is one more than the last of each key, from 0. It costs microseconds, needs no server, and what
    /// is logged survives the death of the process.
    #[pyo3(signature = (metrics, step=None, *, timestamp=None))]
    fn log_metrics(
        &self,
        metrics: &Bound<'_, PyAny>,
        step: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = metrics.py();
        let step = step.map(whole).transpose()?;
        let at = timestamp.map(micros).transpose()?;
        let mut pairs: SmallVec<[(Bound<'_, PyString>, Found<'_>); INLINE]> = SmallVec::new();
        match metrics.cast::<PyDict>() {
            Ok(dict) => {
                for (key, value) in dict {
                    pairs.push((text(key, "a metric key")?, found(value)));
                }
            }
            Err(_) => {
                for item in arguments(py)?
                    .call_method1(intern!(py, "pairs"), (metrics,))?
                    .try_iter()?
                {
                    let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
                    pairs.push((text(key, "a metric key")?, found(value)));
                }
            }
        }
        // Only now, as this may run code that changes the dict.
        for (key, value) in &mut pairs {
            if let Found::Object(object) = value {
                *value = Found::Number(number(key, object)?);
            }
        }
        let mut views: SmallVec<[(&str, f64); INLINE]> = SmallVec::new();
        for (key, value) in &pairs {
            if let Found::Number(value) = value {
                views.push((utf8(key)?, *value));
            }
        }
        self.0
            .log_pairs(views.iter().copied(), step, at)
            .map_err(|e| raise(py, &e))
    }

    /// Logs a value of a metric: any number, numpy and torch scalars included.
    ///
    /// Without `step` it is one more than the last of this key, from 0. It costs microseconds, needs no server, and what
    /// is logged survives the death of the process.
    #[pyo3(signature = (key, value, step=None, *, timestamp=None))]
    fn log_metric(
        &self,
        key: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
        step: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = key.py();
        let step = step.map(whole).transpose()?;
        let at = timestamp.map(micros).transpose()?;
        let key = text(key, "key")?;
        let value = match found(value) {
            Found::Number(number) => number,
            Found::Object(object) => number(&key, &object)?,
        };
        let pair = std::iter::once((utf8(&key)?, value));
        self.0.log_pairs(pair, step, at).map_err(|e| raise(py, &e))
    }
}

fn arguments(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "mlplat._arguments"))
}

fn text<'py>(key: Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyString>> {
    match key.cast_into::<PyString>() {
        Ok(key) => Ok(key),
        Err(other) => {
            let other = other.into_inner();
            let py = other.py();
            let text = arguments(py)?.call_method1(intern!(py, "text"), (other, what))?;
            Ok(text.cast_into()?)
        }
    }
}

/// The text of a key; half of a character is refused in plain words.
fn utf8<'a>(key: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    key.to_str().or_else(|error| {
        let py = key.py();
        arguments(py)?.call_method1(intern!(py, "text"), (key, "a metric key"))?;
        Err(error)
    })
}

fn found(value: Bound<'_, PyAny>) -> Found<'_> {
    match value.cast::<PyFloat>() {
        Ok(float) => Found::Number(float.value()),
        Err(_) => Found::Object(value),
    }
}

/// The value of an object that is no float.
fn number(key: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(number) = value.extract::<f64>() {
        return Ok(number);
    }
    let py = value.py();
    arguments(py)?
        .call_method1(intern!(py, "number"), (key, value))?
        .extract()
}

/// A step.
fn whole(step: &Bound<'_, PyAny>) -> PyResult<i64> {
    if let Ok(int) = step.cast_exact::<PyInt>()
        && let Ok(step) = int.extract()
    {
        return Ok(step);
    }
    let py = step.py();
    arguments(py)?
        .call_method1(intern!(py, "integer"), (step, "step"))?
        .extract()
}

/// A time, as microseconds since 1970.
fn micros(time: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = time.py();
    let nanos: i128 = arguments(py)?
        .call_method1(intern!(py, "nanos"), (time, "timestamp"))?
        .extract()?;
    Ok(i64::try_from(nanos.div_euclid(1000)).unwrap_or(i64::MAX))
}
