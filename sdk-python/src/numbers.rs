//! Columns of numbers from Python: bytes of a numpy array, anything that speaks Arrow, or a sequence.

use arrow::{
    array::{Array as _, AsArray as _},
    compute::{cast, concat},
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit},
};
use pyo3::{prelude::*, types::PyBytes};
use pyo3_arrow::input::AnyArray;

use crate::errors::{misuse, raise};

/// What a column is made of.
fn arrow(
    what: &str,
    values: &Bound<'_, PyAny>,
    to: &DataType,
) -> PyResult<Option<arrow::array::ArrayRef>> {
    let py = values.py();
    if !(values.hasattr("__arrow_c_array__")? || values.hasattr("__arrow_c_stream__")?) {
        return Ok(None);
    }
    let chunked = values.extract::<AnyArray>()?.into_chunked_array()?;
    let chunks: Vec<_> = chunked.chunks().iter().map(AsRef::as_ref).collect();
    let array = if chunks.is_empty() {
        arrow::array::new_empty_array(chunked.field().data_type())
    } else {
        concat(&chunks).map_err(|e| raise(py, &e.into()))?
    };
    // A time is a number only after it has a unit.
    let array = match (array.data_type(), to) {
        (DataType::Timestamp(_, zone), DataType::Int64) => {
            let unit = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            cast(&array, &unit).map_err(|e| raise(py, &e.into()))?
        }
        (kind, _) if kind.is_numeric() || *kind == DataType::Boolean => array,
        (kind, _) => return Err(misuse(py, format!("{what} are {kind}; give numbers"))),
    };
    let array = cast(&array, to).map_err(|e| raise(py, &e.into()))?;
    if array.null_count() > 0 && *to == DataType::Int64 {
        return Err(misuse(
            py,
            format!("{what} have {} nulls", array.null_count()),
        ));
    }
    Ok(Some(array))
}

/// A column of floats; null is NaN.
pub(crate) fn floats(what: &str, values: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    if let Ok(bytes) = values.cast::<PyBytes>() {
        let (chunks, _) = bytes.as_bytes().as_chunks::<8>();
        return Ok(chunks
            .iter()
            .map(|chunk| f64::from_ne_bytes(*chunk))
            .collect());
    }
    if let Some(array) = arrow(what, values, &DataType::Float64)? {
        let array = array.as_primitive::<Float64Type>();
        if array.null_count() == 0 {
            return Ok(array.values().to_vec());
        }
        return Ok(array
            .iter()
            .map(|value| value.unwrap_or(f64::NAN))
            .collect());
    }
    values
        .extract()
        .map_err(|error| wrong(what, values.py(), &error))
}

/// A column of whole numbers; times are microseconds since 1970.
pub(crate) fn integers(what: &str, values: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
    if let Ok(bytes) = values.cast::<PyBytes>() {
        let (chunks, _) = bytes.as_bytes().as_chunks::<8>();
        return Ok(chunks
            .iter()
            .map(|chunk| i64::from_ne_bytes(*chunk))
            .collect());
    }
    if let Some(array) = arrow(what, values, &DataType::Int64)? {
        return Ok(array.as_primitive::<Int64Type>().values().to_vec());
    }
    values
        .extract()
        .map_err(|error| wrong(what, values.py(), &error))
}

fn wrong(what: &str, py: Python<'_>, error: &PyErr) -> PyErr {
    misuse(
        py,
        format!("{what} are not a column of numbers: {}", error.value(py)),
    )
}
