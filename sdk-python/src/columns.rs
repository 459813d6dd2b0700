//! Python values as Arrow columns and as the scalars of online requests.
//!
//! Invariant: the type of a column is that of its values; values that do not fit together are an error that names the
//! column and the types, never a guess.

use std::{sync::Arc, time::SystemTime};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, DurationMicrosecondArray, Float64Array,
        Int64Array, NullArray, RecordBatch, RecordBatchOptions, StringArray,
        TimestampMicrosecondArray, UInt64Array,
    },
    compute::concat,
    datatypes::{Field, Schema},
};
use mlplat::Value;
use pyo3::{
    prelude::*,
    types::{
        PyBool, PyBytes, PyDate, PyDateTime, PyDelta, PyFloat, PyInt, PyString, PyTzInfoAccess as _,
    },
};
use pyo3_arrow::input::AnyArray;

use crate::{
    errors::{misuse, raise},
    table::Batches,
    time::from_nanos,
};

/// One Python value.
enum Scalar {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Microseconds since 1970 in UTC, with the name of its zone; without a zone it counts as UTC.
    Time(i64, Option<String>),
    /// Days since 1970.
    Date(i32),
    Span(i64),
}

impl Scalar {
    fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::UInt(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::Time(_, Some(_)) => "datetime with a zone",
            Self::Time(_, None) => "datetime without a zone",
            Self::Date(_) => "date",
            Self::Span(_) => "timedelta",
        }
    }
}

/// Reads one value; None is null.
fn scalar(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Scalar>> {
    let py = value.py();
    // numpy and friends have scalars of their own; pandas says NaT and NA where it means None.
    let item = if is_foreign(value) {
        value.call_method0("item").ok()
    } else {
        None
    };
    let value = item.as_ref().unwrap_or(value);
    if value.is_none() || matches!(value.get_type().name()?.to_str(), Ok("NaTType" | "NAType")) {
        return Ok(None);
    }
    // The order matters: bool is an int, and datetime is a date.
    Ok(Some(if value.is_instance_of::<PyBool>() {
        Scalar::Bool(value.extract()?)
    } else if value.is_instance_of::<PyInt>() {
        match (value.extract::<i64>(), value.extract::<u64>()) {
            (Ok(int), _) => Scalar::Int(int),
            (_, Ok(int)) => Scalar::UInt(int),
            _ => {
                return Err(misuse(
                    py,
                    format!("column `{name}`: {value} does not fit into 64 bits"),
                ));
            }
        }
    } else if value.is_instance_of::<PyFloat>() {
        Scalar::Float(value.extract()?)
    } else if value.is_instance_of::<PyString>() {
        Scalar::Text(value.extract()?)
    } else if value.is_instance_of::<PyBytes>() {
        Scalar::Bytes(value.extract()?)
    } else if let Ok(time) = value.cast::<PyDateTime>() {
        Scalar::Time(micros(time)?, zone_name(time)?)
    } else if value.is_instance_of::<PyDate>() {
        let days: i64 = value.call_method0("toordinal")?.extract()?;
        Scalar::Date((days - 719_163) as i32)
    } else if value.is_instance_of::<PyDelta>() {
        Scalar::Span(delta_micros(value)?)
    } else {
        let class = value.get_type().name()?;
        return Err(misuse(
            py,
            format!(
                "column `{name}` has a value of type {class}, which is not understood here; give a pyarrow, polars or \
                 pandas table instead"
            ),
        ));
    }))
}

fn is_foreign(value: &Bound<'_, PyAny>) -> bool {
    let module = value.get_type().module();
    module.is_ok_and(|module| module.to_string_lossy().starts_with("numpy"))
}

fn delta_micros(delta: &Bound<'_, PyAny>) -> PyResult<i64> {
    let part = |name: &str| delta.getattr(name)?.extract::<i64>();
    Ok((part("days")? * 86_400 + part("seconds")?) * 1_000_000 + part("microseconds")?)
}

/// Microseconds since 1970 UTC; without a zone it counts as UTC.
fn micros(time: &Bound<'_, PyDateTime>) -> PyResult<i64> {
    let days: i64 = time.call_method0("toordinal")?.extract()?;
    let part = |name: &str| time.getattr(name)?.extract::<i64>();
    let seconds =
        (days - 719_163) * 86_400 + part("hour")? * 3600 + part("minute")? * 60 + part("second")?;
    let local = seconds * 1_000_000 + part("microsecond")?;
    let offset = time.call_method0("utcoffset")?;
    Ok(if offset.is_none() {
        local
    } else {
        local - delta_micros(&offset)?
    })
}

/// The name of a zone as Arrow writes it: that of a ZoneInfo, else UTC (the instant is what counts).
fn zone_name(time: &Bound<'_, PyDateTime>) -> PyResult<Option<String>> {
    let Some(zone) = time.get_tzinfo() else {
        return Ok(None);
    };
    let key = zone.getattr("key").and_then(|key| key.extract::<String>());
    Ok(Some(key.unwrap_or_else(|_| "UTC".to_owned())))
}

/// A column of Python values, or of anything that speaks Arrow.
fn column(name: &str, values: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let py = values.py();
    if values.hasattr("__arrow_c_array__")? || values.hasattr("__arrow_c_stream__")? {
        let chunked = values.extract::<AnyArray>()?.into_chunked_array()?;
        let empty = arrow::array::new_empty_array(chunked.field().data_type());
        let chunks: Vec<_> = chunked.chunks().iter().map(AsRef::as_ref).collect();
        if chunks.is_empty() {
            return Ok(empty);
        }
        return concat(&chunks).map_err(|e| raise(py, &e.into()));
    }
    let mut scalars = Vec::new();
    for value in values.try_iter()? {
        scalars.push(scalar(name, &value?)?);
    }
    array(py, name, scalars)
}

fn array(py: Python<'_>, name: &str, scalars: Vec<Option<Scalar>>) -> PyResult<ArrayRef> {
    use Scalar::{Bool, Bytes, Date, Float, Int, Span, Text, Time, UInt};
    let Some(first) = scalars.iter().flatten().next() else {
        return Ok(Arc::new(NullArray::new(scalars.len())));
    };
    let mixed = |other: &Scalar| {
        let kinds = (first.kind(), other.kind());
        misuse(
            py,
            format!(
                "column `{name}` has both {} and {}; make them one type",
                kinds.0, kinds.1
            ),
        )
    };
    /// All values of one variant, or the first that is not.
    macro_rules! all {
        ($($pattern:pat => $value:expr),+) => {
            scalars.iter().map(|s| match s {
                None => Ok(None),
                $(Some($pattern) => Ok(Some($value)),)+
                Some(other) => Err(mixed(other)),
            }).collect::<PyResult<Vec<_>>>()?
        };
    }
    Ok(match first {
        Bool(_) => Arc::new(BooleanArray::from(all!(Bool(v) => *v))),
        Int(_) | UInt(_) | Float(_) if scalars.iter().flatten().any(|s| matches!(s, Float(_))) => {
            Arc::new(Float64Array::from(
                all!(Float(v) => *v, Int(v) => *v as f64, UInt(v) => *v as f64),
            ))
        }
        Int(_) | UInt(_) if scalars.iter().flatten().any(|s| matches!(s, UInt(_))) => {
            let fits = all!(UInt(v) => Some(*v), Int(v) => u64::try_from(*v).ok());
            if fits.contains(&Some(None)) {
                let text =
                    format!("column `{name}` has both negative integers and ones above 2^63");
                return Err(misuse(py, text));
            }
            Arc::new(UInt64Array::from_iter(
                fits.into_iter().map(Option::flatten),
            ))
        }
        Int(_) | UInt(_) => Arc::new(Int64Array::from(all!(Int(v) => *v))),
        Float(_) => Arc::new(Float64Array::from(all!(Float(v) => *v))),
        Text(_) => Arc::new(StringArray::from(all!(Text(v) => v.as_str()))),
        Bytes(_) => Arc::new(BinaryArray::from(all!(Bytes(v) => v.as_slice()))),
        Date(_) => Arc::new(Date32Array::from(all!(Date(v) => *v))),
        Span(_) => Arc::new(DurationMicrosecondArray::from(all!(Span(v) => *v))),
        Time(_, None) => Arc::new(TimestampMicrosecondArray::from(all!(Time(v, None) => *v))),
        Time(_, Some(zone)) => {
            let same = scalars
                .iter()
                .flatten()
                .all(|s| matches!(s, Time(_, Some(z)) if z == zone));
            let zone = if same { zone.as_str() } else { "UTC" };
            let values = all!(Time(v, Some(_)) => *v);
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone(zone))
        }
    })
}

/// A table of columns of Python values, all of one length.
#[pyfunction]
pub(crate) fn from_columns(
    py: Python<'_>,
    columns: Vec<(String, Bound<'_, PyAny>)>,
) -> PyResult<Batches> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for (name, values) in &columns {
        let array = column(name, values)?;
        if let Some(before) = arrays.first().filter(|before| before.len() != array.len()) {
            let (a, b) = (before.len(), array.len());
            let text = format!(
                "column `{name}` has {b} rows where `{}` has {a}",
                columns[0].0
            );
            return Err(misuse(py, text));
        }
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let rows = arrays.first().map_or(0, |array| array.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
    batch.map(Batches::from).map_err(|e| raise(py, &e.into()))
}

/// One value of an online request.
pub(crate) fn value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let at = |micros: i64| -> SystemTime { from_nanos(i128::from(micros) * 1000) };
    Ok(match scalar(name, value)? {
        None => Value::Null,
        Some(Scalar::Bool(v)) => v.into(),
        Some(Scalar::Int(v)) => v.into(),
        Some(Scalar::UInt(v)) => v.into(),
        Some(Scalar::Float(v)) => v.into(),
        Some(Scalar::Text(v)) => v.into(),
        Some(Scalar::Bytes(v)) => v.into(),
        Some(Scalar::Time(v, _)) => at(v).into(),
        Some(Scalar::Date(v)) => at(i64::from(v) * 86_400_000_000).into(),
        Some(Scalar::Span(v)) => Value::Arrow(Arc::new(DurationMicrosecondArray::from(vec![v]))),
    })
}
