//! One cell of an Arrow array as a Python object.
//!
//! Invariant: null becomes None, whatever the type; values keep what Python's own types can hold (`datetime` ends at
//! microseconds). Types that have no counterpart in Python become text.

use arrow::{
    array::{Array, ArrayRef, AsArray as _, OffsetSizeTrait},
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type,
        DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
        DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use pyo3::{
    IntoPyObjectExt as _,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyList, PyTzInfo},
};

use crate::{
    errors::raise,
    time::{datetime, delta},
};

/// The Python object for row `at`.
pub(crate) fn cell(py: Python<'_>, array: &dyn Array, at: usize) -> PyResult<Py<PyAny>> {
    if array.is_null(at) {
        return Ok(py.None());
    }
    macro_rules! number {
        ($type:ty) => {
            array.as_primitive::<$type>().value(at).into_py_any(py)
        };
    }
    match array.data_type() {
        DataType::Null => Ok(py.None()),
        DataType::Boolean => array.as_boolean().value(at).into_py_any(py),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => {
            f32::from(array.as_primitive::<Float16Type>().value(at)).into_py_any(py)
        }
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::Utf8 => array.as_string::<i32>().value(at).into_py_any(py),
        DataType::LargeUtf8 => array.as_string::<i64>().value(at).into_py_any(py),
        DataType::Utf8View => array.as_string_view().value(at).into_py_any(py),
        DataType::Binary => array.as_binary::<i32>().value(at).into_py_any(py),
        DataType::LargeBinary => array.as_binary::<i64>().value(at).into_py_any(py),
        DataType::BinaryView => array.as_binary_view().value(at).into_py_any(py),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().value(at).into_py_any(py),
        DataType::Decimal128(..) => decimal(py, array, at),
        DataType::Date32 => date(py, i64::from(array.as_primitive::<Date32Type>().value(at))),
        DataType::Date64 => date(
            py,
            array
                .as_primitive::<Date64Type>()
                .value(at)
                .div_euclid(86_400_000),
        ),
        DataType::Timestamp(unit, zone) => timestamp(py, array, at, *unit, zone.as_deref()),
        DataType::Duration(unit) => Ok(delta(py, duration_micros(array, at, *unit))?
            .into_any()
            .unbind()),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys()[at];
            cell(py, dictionary.values(), key)
        }
        DataType::List(_) => list::<i32>(py, array, at),
        DataType::LargeList(_) => list::<i64>(py, array, at),
        DataType::FixedSizeList(..) => items(py, &array.as_fixed_size_list().value(at)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let dict = PyDict::new(py);
            for (field, column) in fields.iter().zip(columns) {
                dict.set_item(field.name(), cell(py, column, at)?)?;
            }
            dict.into_py_any(py)
        }
        _ => text(py, array, at)?.into_py_any(py),
    }
}

fn list<O: OffsetSizeTrait>(py: Python<'_>, array: &dyn Array, at: usize) -> PyResult<Py<PyAny>> {
    items(py, &array.as_list::<O>().value(at))
}

fn items(py: Python<'_>, values: &ArrayRef) -> PyResult<Py<PyAny>> {
    let cells = (0..values.len()).map(|at| cell(py, values, at));
    PyList::new(py, cells.collect::<PyResult<Vec<_>>>()?)?.into_py_any(py)
}

fn value<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array, at: usize) -> i64 {
    array.as_primitive::<T>().value(at)
}

fn duration_micros(array: &dyn Array, at: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => value::<DurationSecondType>(array, at).saturating_mul(1_000_000),
        TimeUnit::Millisecond => value::<DurationMillisecondType>(array, at).saturating_mul(1000),
        TimeUnit::Microsecond => value::<DurationMicrosecondType>(array, at),
        TimeUnit::Nanosecond => value::<DurationNanosecondType>(array, at).div_euclid(1000),
    }
}

/// A `datetime`: with the zone of the column, or without one.
fn timestamp(
    py: Python<'_>,
    array: &dyn Array,
    at: usize,
    unit: TimeUnit,
    zone: Option<&str>,
) -> PyResult<Py<PyAny>> {
    let micros = match unit {
        TimeUnit::Second => value::<TimestampSecondType>(array, at).saturating_mul(1_000_000),
        TimeUnit::Millisecond => value::<TimestampMillisecondType>(array, at).saturating_mul(1000),
        TimeUnit::Microsecond => value::<TimestampMicrosecondType>(array, at),
        TimeUnit::Nanosecond => value::<TimestampNanosecondType>(array, at).div_euclid(1000),
    };
    let time = match zone {
        Some("UTC" | "Etc/UTC" | "Z" | "+00:00") => datetime(py, micros, None)?,
        Some(zone) => datetime(py, micros, Some(&zone_info(py, zone)?))?,
        None => {
            let none = PyDict::new(py);
            none.set_item("tzinfo", py.None())?;
            datetime(py, micros, None)?.call_method("replace", (), Some(&none))?
        }
    };
    Ok(time.unbind())
}

/// A zone by name; an offset like `+02:00`, or a name that this machine does not know, is shown in UTC.
fn zone_info<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let zone = py.import("zoneinfo")?.getattr("ZoneInfo")?.call1((name,));
    match zone {
        Ok(zone) => Ok(zone),
        Err(_) => Ok(PyTzInfo::utc(py)?.to_owned().into_any()),
    }
}

fn date(py: Python<'_>, days: i64) -> PyResult<Py<PyAny>> {
    let time = datetime(py, days.saturating_mul(86_400_000_000), None)?;
    Ok(time.call_method0("date")?.unbind())
}

fn decimal(py: Python<'_>, array: &dyn Array, at: usize) -> PyResult<Py<PyAny>> {
    static DECIMAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = DECIMAL.get_or_try_init(py, || {
        py.import("decimal")?.getattr("Decimal").map(Bound::unbind)
    })?;
    class.call1(
        py,
        (array.as_primitive::<Decimal128Type>().value_as_string(at),),
    )
}

/// A cell as text, as tables show it.
pub(crate) fn text(py: Python<'_>, array: &dyn Array, at: usize) -> PyResult<String> {
    let options = FormatOptions::default()
        .with_null("")
        .with_display_error(true);
    let formatter =
        ArrayFormatter::try_new(array, &options).map_err(|e| raise(py, &mlplat::Error::from(e)))?;
    Ok(formatter.value(at).to_string())
}
