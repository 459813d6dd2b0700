//! From errors of the Rust client to the exceptions of `mlplat`, one class for each.
//!
//! Invariant: the classes and their attributes are defined in Python (`_errors.py`); this module only picks one.

use mlplat::Error;
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};

/// The exception for an error.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).unwrap_or_else(|failure| failure)
}

/// A misuse that is found on the Python side.
pub(crate) fn misuse(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, &Error::misuse(message))
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    if let Some(raised) = raised_by_reader(py, error) {
        return Ok(raised);
    }
    let class = match error {
        Error::NotFound(_) => "NotFoundError",
        Error::AlreadyExists(_) => "AlreadyExistsError",
        Error::InvalidArgument(_) => "InvalidArgumentError",
        Error::FailedPrecondition(_) => "FailedPreconditionError",
        Error::Aborted(_) => "AbortedError",
        Error::PermissionDenied(_) => "PermissionDeniedError",
        Error::Unauthenticated(_) => "UnauthenticatedError",
        Error::ResourceExhausted(_) => "ResourceExhaustedError",
        Error::Unavailable(_) => "UnavailableError",
        Error::DeadlineExceeded(_) => "DeadlineExceededError",
        Error::Cancelled(_) => "CancelledError",
        Error::Unimplemented(_) => "UnimplementedError",
        Error::DataLoss(_) => "DataLossError",
        Error::Internal(_) => "InternalError",
        Error::Misuse(_) => "MisuseError",
        Error::Io(..) => "FileError",
        Error::Arrow(_) => "ArrowError",
        _ => "MlplatError",
    };
    let module = py.import("mlplat._errors")?;
    let violation = module.getattr("FieldViolation")?;
    let violations = error
        .violations()
        .iter()
        .map(|v| violation.call1((v.field.as_str(), v.description.as_str())))
        .collect::<PyResult<Vec<_>>>()?;
    let facts = PyDict::new(py);
    facts.set_item("reason", error.reason())?;
    facts.set_item("violations", PyList::new(py, violations)?)?;
    facts.set_item("request_id", error.request_id())?;
    if let Some(detail) = error.detail() {
        facts.set_item("metadata", detail.metadata.clone())?;
    }
    let value = module
        .getattr(class)?
        .call((error.to_string(),), Some(&facts))?;
    Ok(PyErr::from_value(value))
}

/// A table that was being read may have raised an exception of its own; that one is the cause to show.
fn raised_by_reader(py: Python<'_>, error: &Error) -> Option<PyErr> {
    let Error::Arrow(arrow) = error else {
        return None;
    };
    match arrow.as_ref() {
        arrow::error::ArrowError::ExternalError(cause) => {
            cause.downcast_ref::<PyErr>().map(|e| e.clone_ref(py))
        }
        _ => None,
    }
}
