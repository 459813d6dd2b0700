//! Arrow arrays as values of the contract, and back.
//!
//! Every type has a way: scalars as what they are, everything else as an Arrow IPC stream of one value.

use std::sync::Arc;

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BinaryArray, BooleanArray, Float32Array, Float64Array,
        Int64Array, NullArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
        new_null_array,
    },
    compute::{cast, concat},
    datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema, UInt64Type},
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use mlplat_proto::common::v1::{Value, value::Kind};

use crate::features::{coerce::lossless, instant};

/// The values of an array.
pub(super) fn of_array(array: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
    let rows = 0..array.len();
    let each = |kind: &dyn Fn(usize) -> Kind, array: &ArrayRef| -> Vec<Value> {
        let kinds = rows
            .clone()
            .map(|row| array.is_valid(row).then(|| kind(row)));
        kinds.map(|kind| Value { kind }).collect()
    };
    Ok(match array.data_type() {
        DataType::Null => vec![Value { kind: None }; array.len()],
        DataType::Dictionary(_, values) => of_array(&cast(array, values)?)?,
        DataType::Boolean => {
            let values = array.as_boolean();
            each(&|row| Kind::BoolValue(values.value(row)), array)
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let wide = cast(array, &DataType::UInt64)?;
            let values = wide.as_primitive::<UInt64Type>();
            each(&|row| Kind::Uint64Value(values.value(row)), &wide)
        }
        other if other.is_integer() => {
            let wide = cast(array, &DataType::Int64)?;
            let values = wide.as_primitive::<Int64Type>();
            each(&|row| Kind::Int64Value(values.value(row)), &wide)
        }
        DataType::Float16 | DataType::Float32 => {
            let wide = cast(array, &DataType::Float32)?;
            let values = wide.as_primitive::<Float32Type>();
            each(&|row| Kind::FloatValue(values.value(row)), &wide)
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            each(&|row| Kind::DoubleValue(values.value(row)), array)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let plain = cast(array, &DataType::LargeUtf8)?;
            let values = plain.as_string::<i64>();
            each(
                &|row| Kind::StringValue(values.value(row).to_owned()),
                &plain,
            )
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            let plain = cast(array, &DataType::LargeBinary)?;
            let values = plain.as_binary::<i64>();
            each(&|row| Kind::BytesValue(values.value(row).to_vec()), &plain)
        }
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => {
            let instants = instant::of_array(array);
            let at = |row: usize| instant::timestamp(instants[row].unwrap_or_default());
            each(&|row| Kind::TimestampValue(at(row)), array)
        }
        _ => {
            let mut values = Vec::with_capacity(array.len());
            for row in rows {
                let kind = array.is_valid(row).then(|| encode(&array.slice(row, 1)));
                values.push(Value {
                    kind: kind.transpose()?.map(Kind::ArrowValue),
                });
            }
            values
        }
    })
}

/// An array of values in their natural type, which they must have in common; `Null` where all of them are.
///
/// # Errors
/// A text that says which values do not fit together.
pub(super) fn to_natural_array(values: &[&Value]) -> Result<ArrayRef, String> {
    let mut cells = Vec::with_capacity(values.len());
    for value in values {
        cells.push(match &value.kind {
            None => None,
            Some(kind) => Some(natural(kind)?),
        });
    }
    let mut types: Vec<&DataType> = Vec::new();
    for cell in cells.iter().flatten() {
        if !types.contains(&cell.data_type()) {
            types.push(cell.data_type());
        }
    }
    // A client may write 1, 2.5, and an unsigned number in one column.
    let data_type = match types.as_slice() {
        [] => return Ok(Arc::new(NullArray::new(values.len()))),
        [one] => (*one).clone(),
        several if several.iter().all(|t| t.is_integer()) => DataType::Int64,
        several if several.iter().all(|t| t.is_numeric()) => DataType::Float64,
        [first, second, ..] => return Err(format!("holds both {first} and {second}")),
    };
    let cells = cells.into_iter().map(|cell| match cell {
        None => Ok(new_null_array(&data_type, 1)),
        Some(cell) => lossless(&cell, &data_type),
    });
    let cells: Vec<ArrayRef> = cells.collect::<Result<_, _>>()?;
    join(&cells)
}

/// An array of stored values in the type that they were stored from.
pub(super) fn to_array(values: &[&Value], data_type: &DataType) -> Result<ArrayRef, String> {
    if values.is_empty() {
        return Ok(new_null_array(data_type, 0));
    }
    let cells = values.iter().map(|value| match &value.kind {
        None => Ok(new_null_array(data_type, 1)),
        Some(kind) => cast(&natural(kind)?, data_type).map_err(|error| error.to_string()),
    });
    join(&cells.collect::<Result<Vec<_>, String>>()?)
}

fn join(cells: &[ArrayRef]) -> Result<ArrayRef, String> {
    let cells: Vec<&dyn arrow::array::Array> = cells.iter().map(AsRef::as_ref).collect();
    concat(&cells).map_err(|error| error.to_string())
}

fn natural(kind: &Kind) -> Result<ArrayRef, String> {
    Ok(match kind {
        Kind::BoolValue(v) => Arc::new(BooleanArray::from(vec![*v])),
        Kind::Int64Value(v) => Arc::new(Int64Array::from(vec![*v])),
        Kind::Uint64Value(v) => Arc::new(UInt64Array::from(vec![*v])),
        Kind::FloatValue(v) => Arc::new(Float32Array::from(vec![*v])),
        Kind::DoubleValue(v) => Arc::new(Float64Array::from(vec![*v])),
        Kind::StringValue(v) => Arc::new(StringArray::from(vec![v.as_str()])),
        Kind::BytesValue(v) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
        Kind::TimestampValue(at) => {
            let total = i64::try_from(instant::nanos(at));
            match total {
                Ok(total) => {
                    Arc::new(TimestampNanosecondArray::from(vec![total]).with_timezone("UTC"))
                }
                // Beyond 2262, where nanoseconds do not reach.
                Err(_) => {
                    let micros = at.seconds * 1_000_000 + i64::from(at.nanos / 1_000);
                    let array = arrow::array::TimestampMicrosecondArray::from(vec![micros]);
                    Arc::new(array.with_timezone("UTC"))
                }
            }
        }
        Kind::ArrowValue(bytes) => decode(bytes)?,
    })
}

fn encode(array: &ArrayRef) -> Result<Vec<u8>, ArrowError> {
    let schema = Schema::new(vec![Field::new("value", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![array.clone()])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn decode(bytes: &[u8]) -> Result<ArrayRef, String> {
    let unreadable = |error: ArrowError| format!("is not an Arrow IPC stream: {error}");
    let mut reader = StreamReader::try_new(bytes, None).map_err(unreadable)?;
    let batch = reader.next().transpose().map_err(unreadable)?;
    match batch {
        Some(batch) if batch.num_rows() == 1 && batch.num_columns() == 1 => {
            Ok(batch.column(0).clone())
        }
        _ => Err("is not an Arrow IPC stream of one column and one row".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Decimal128Array, Int16Array, ListArray, TimestampSecondArray},
        datatypes::Int32Type,
    };

    use super::*;

    #[test]
    fn every_type_survives() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None]), None]);
        let decimal = Decimal128Array::from(vec![Some(12_345), None]);
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int16Array::from(vec![Some(-3), None])),
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])),
            Arc::new(Float32Array::from(vec![Some(0.1), None])),
            Arc::new(StringArray::from(vec![Some("é"), None])),
            Arc::new(TimestampSecondArray::from(vec![Some(-1), None]).with_timezone("Europe/Oslo")),
            Arc::new(decimal.with_precision_and_scale(10, 2).unwrap()),
            Arc::new(list),
            Arc::new(NullArray::new(2)),
        ];
        for array in arrays {
            let values = of_array(&array).unwrap();
            let values: Vec<&Value> = values.iter().collect();
            let back = to_array(&values, array.data_type()).unwrap();
            assert_eq!(&back, &array, "{}", array.data_type());
        }
    }

    #[test]
    fn request_values_take_a_common_type() {
        let value = |kind| Value { kind: Some(kind) };
        let mixed = [value(Kind::Int64Value(1)), value(Kind::DoubleValue(2.5))];
        let array = to_natural_array(&mixed.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(array.data_type(), &DataType::Float64);
        let bad = [
            value(Kind::Int64Value(1)),
            value(Kind::StringValue("x".into())),
        ];
        assert!(to_natural_array(&bad.iter().collect::<Vec<_>>()).is_err());
        let broken = [value(Kind::ArrowValue(vec![1, 2, 3]))];
        assert!(to_natural_array(&broken.iter().collect::<Vec<_>>()).is_err());
    }
}
