//! Times between Python and Rust: `datetime` objects going out, nanoseconds since 1970 coming in.
//!
//! Invariant: what comes in was checked and made UTC by `_arguments.py`; what goes out always has the zone UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDateTime, PyDelta, PyTzInfo},
};

/// A point in time that becomes a `datetime` in UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(pub(crate) SystemTime);

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        Self(time)
    }
}

impl<'py> IntoPyObject<'py> for Time {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let micros = match self.0.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_micros() as i128,
            Err(before) => -(before.duration().as_micros() as i128),
        };
        datetime(py, i64::try_from(micros).unwrap_or(i64::MAX), None)
    }
}

impl<'py> IntoPyObject<'py> for &Time {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        (*self).into_pyobject(py)
    }
}

/// The `datetime` so many microseconds after 1970 UTC, in UTC or in the zone given.
pub(crate) fn datetime<'py>(
    py: Python<'py>,
    micros: i64,
    zone: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static EPOCH: PyOnceLock<Py<PyDateTime>> = PyOnceLock::new();
    let epoch = EPOCH.get_or_try_init(py, || {
        let utc = PyTzInfo::utc(py)?;
        PyDateTime::new(py, 1970, 1, 1, 0, 0, 0, 0, Some(&utc)).map(Bound::unbind)
    })?;
    let utc = epoch.bind(py).add(delta(py, micros)?)?;
    match zone {
        Some(zone) => utc.call_method1("astimezone", (zone,)),
        None => Ok(utc),
    }
}

/// The `timedelta` of so many microseconds.
pub(crate) fn delta(py: Python<'_>, micros: i64) -> PyResult<Bound<'_, PyDelta>> {
    const DAY: i64 = 86_400_000_000;
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    PyDelta::new(
        py,
        days as i32,
        (rest / 1_000_000) as i32,
        (rest % 1_000_000) as i32,
        false,
    )
}

/// The time so many nanoseconds after (or before) 1970 UTC; what cannot be is the nearest that can.
pub(crate) fn from_nanos(nanos: i128) -> SystemTime {
    let distance = nanos.unsigned_abs();
    let distance = Duration::new(
        u64::try_from(distance / 1_000_000_000).unwrap_or(u64::MAX),
        (distance % 1_000_000_000) as u32,
    );
    let time = if nanos >= 0 {
        UNIX_EPOCH.checked_add(distance)
    } else {
        UNIX_EPOCH.checked_sub(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}
