//! One typed scalar, as used for entity keys and online features, and columns of them as Arrow arrays.
//!
//! Invariant: a value keeps its type and bits on the way to the server and back.

use std::{sync::Arc, time::SystemTime};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array,
        RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array, new_null_array,
    },
    compute::{cast, concat},
    datatypes::{DataType, Field, Schema},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use mlplat_proto::common::v1::{self as pb, value::Kind};

use crate::{
    convert::{system_time, timestamp},
    error::{Error, Result},
};

/// One scalar.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Value {
    /// No value.
    Null,
    /// A boolean.
    Bool(bool),
    /// Any signed integer type.
    Int(i64),
    /// Any unsigned integer type.
    UInt(u64),
    /// A 16- or 32-bit float.
    Float32(f32),
    /// A 64-bit float.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// Binary data.
    Bytes(Vec<u8>),
    /// A date or a point in time.
    Timestamp(SystemTime),
    /// Any other type: an Arrow array of length one.
    Arrow(ArrayRef),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::UInt(a), Self::UInt(b)) => a == b,
            (Self::Float32(a), Self::Float32(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Arrow(a), Self::Arrow(b)) => a.to_data() == b.to_data(),
            _ => false,
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })+
    };
}

from! {
    bool => Bool, i8 => Int, i16 => Int, i32 => Int, i64 => Int, u8 => UInt, u16 => UInt, u32 => UInt, u64 => UInt,
    f32 => Float32, f64 => Float, &str => Text, String => Text, Vec<u8> => Bytes, SystemTime => Timestamp,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Value {
    /// True for [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn into_proto(self) -> Result<pb::Value> {
        let kind = match self {
            Self::Null => None,
            Self::Bool(v) => Some(Kind::BoolValue(v)),
            Self::Int(v) => Some(Kind::Int64Value(v)),
            Self::UInt(v) => Some(Kind::Uint64Value(v)),
            Self::Float32(v) => Some(Kind::FloatValue(v)),
            Self::Float(v) => Some(Kind::DoubleValue(v)),
            Self::Text(v) => Some(Kind::StringValue(v)),
            Self::Bytes(v) => Some(Kind::BytesValue(v)),
            Self::Timestamp(v) => Some(Kind::TimestampValue(timestamp(v))),
            Self::Arrow(array) => Some(Kind::ArrowValue(encode_scalar(&array)?)),
        };
        Ok(pb::Value { kind })
    }

    pub(crate) fn from_proto(value: pb::Value) -> Result<Self> {
        Ok(match value.kind {
            None => Self::Null,
            Some(Kind::BoolValue(v)) => Self::Bool(v),
            Some(Kind::Int64Value(v)) => Self::Int(v),
            Some(Kind::Uint64Value(v)) => Self::UInt(v),
            Some(Kind::FloatValue(v)) => Self::Float32(v),
            Some(Kind::DoubleValue(v)) => Self::Float(v),
            Some(Kind::StringValue(v)) => Self::Text(v),
            Some(Kind::BytesValue(v)) => Self::Bytes(v),
            Some(Kind::TimestampValue(v)) => Self::Timestamp(system_time(v)),
            Some(Kind::ArrowValue(bytes)) => Self::Arrow(decode_scalar(&bytes)?),
        })
    }

    /// An array of length one in the natural Arrow type; none for null.
    fn to_array(&self) -> Result<Option<ArrayRef>> {
        Ok(Some(match self {
            Self::Null => return Ok(None),
            Self::Bool(v) => Arc::new(BooleanArray::from(vec![*v])),
            Self::Int(v) => Arc::new(Int64Array::from(vec![*v])),
            Self::UInt(v) => Arc::new(UInt64Array::from(vec![*v])),
            Self::Float32(v) => Arc::new(Float32Array::from(vec![*v])),
            Self::Float(v) => Arc::new(Float64Array::from(vec![*v])),
            Self::Text(v) => Arc::new(StringArray::from(vec![v.as_str()])),
            Self::Bytes(v) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
            Self::Timestamp(v) => {
                Arc::new(TimestampNanosecondArray::from(vec![nanos(*v)?]).with_timezone("UTC"))
            }
            Self::Arrow(array) => array.clone(),
        }))
    }

    fn natural_type(&self) -> Option<DataType> {
        self.to_array()
            .ok()
            .flatten()
            .map(|array| array.data_type().clone())
    }
}

fn nanos(time: SystemTime) -> Result<i64> {
    let t = timestamp(time);
    let total = i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
    i64::try_from(total)
        .map_err(|_| Error::misuse(format!("{time:?} does not fit into 64-bit nanoseconds")))
}

/// A column of values. Without a type it is the natural one of the first value that is not null, or `Null`.
///
/// # Errors
/// [`Error::Arrow`] when a value cannot be of that type.
pub(crate) fn column(values: &[Value], data_type: Option<&DataType>) -> Result<ArrayRef> {
    let natural = || {
        values
            .iter()
            .find_map(Value::natural_type)
            .unwrap_or(DataType::Null)
    };
    let data_type = data_type.cloned().unwrap_or_else(natural);
    let mut cells = Vec::with_capacity(values.len());
    for value in values {
        cells.push(match value.to_array()? {
            None => new_null_array(&data_type, 1),
            Some(cell) if cell.data_type() == &data_type => cell,
            Some(cell) => cast(&cell, &data_type)?,
        });
    }
    if cells.is_empty() {
        return Ok(new_null_array(&data_type, 0));
    }
    let cells: Vec<&dyn Array> = cells.iter().map(AsRef::as_ref).collect();
    Ok(concat(&cells)?)
}

fn encode_scalar(array: &ArrayRef) -> Result<Vec<u8>> {
    if array.len() != 1 {
        return Err(Error::misuse(format!(
            "an Arrow value must have length 1, not {}",
            array.len()
        )));
    }
    let schema = Schema::new(vec![Field::new("value", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![array.clone()])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

fn decode_scalar(bytes: &[u8]) -> Result<ArrayRef> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    let batch = reader
        .next()
        .transpose()?
        .filter(|batch| batch.num_rows() == 1 && batch.num_columns() == 1);
    batch
        .map(|batch| batch.column(0).clone())
        .ok_or_else(|| Error::protocol("single value in an Arrow value"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use arrow::{
        array::{AsArray as _, ListArray},
        datatypes::{Int32Type, TimeUnit, TimestampMicrosecondType},
    };

    use super::*;

    #[test]
    fn values_survive_the_wire() {
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([
            Some(1),
            None,
        ])]));
        let values = [
            Value::Null,
            true.into(),
            (-5_i64).into(),
            u64::MAX.into(),
            1.5_f32.into(),
            0.1_f64.into(),
            "JFK".into(),
            vec![0_u8, 255].into(),
            (UNIX_EPOCH - Duration::from_nanos(1)).into(),
            Value::Arrow(list),
        ];
        for value in values {
            assert_eq!(
                Value::from_proto(value.clone().into_proto().unwrap()).unwrap(),
                value
            );
        }
        let broken = pb::Value {
            kind: Some(Kind::ArrowValue(vec![1, 2, 3])),
        };
        assert!(Value::from_proto(broken).is_err());
    }

    #[test]
    fn columns_take_the_type_asked_for() {
        let values = [Value::Null, Value::Int(7)];
        let array = column(&values, Some(&DataType::Int32)).unwrap();
        assert_eq!(
            array.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
            [None, Some(7)]
        );
        assert_eq!(column(&values, None).unwrap().data_type(), &DataType::Int64);
        assert_eq!(
            column(&[Value::Null], None).unwrap().data_type(),
            &DataType::Null
        );

        let time = [Value::Timestamp(UNIX_EPOCH + Duration::from_micros(3))];
        let array = column(
            &time,
            Some(&DataType::Timestamp(TimeUnit::Microsecond, None)),
        )
        .unwrap();
        assert_eq!(array.as_primitive::<TimestampMicrosecondType>().value(0), 3);
    }
}
