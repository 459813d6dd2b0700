//! Entity keys as bytes that are equal exactly when the keys are, whatever integer or string type they come in.
//!
//! Invariant: the encoding is ours and stays: stored keys must be found by later versions of this program.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    compute::cast,
    datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type},
};

use crate::{
    error::{Error, Result},
    features::instant,
};

/// The form in which a key column is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Boolean,
    Signed,
    Unsigned,
    Float,
    Text,
    Bytes,
    Instant,
    Decimal,
}

/// Encodes the keys of one view.
#[derive(Debug)]
pub(in crate::features) struct KeyEncoder {
    forms: Vec<Form>,
    types: Vec<DataType>,
}

impl KeyEncoder {
    /// An encoder for key columns of these types.
    pub(in crate::features) fn new(view: &str, types: Vec<DataType>) -> Result<Self> {
        let forms = types.iter().map(|data_type| {
            form(data_type).ok_or_else(|| {
                let text = format!("feature view `{view}` has a key of type {data_type}, which the online store does not take");
                Error::precondition("KEY_NOT_SUPPORTED", text)
            })
        });
        Ok(Self {
            forms: forms.collect::<Result<_>>()?,
            types,
        })
    }

    /// The types of the columns.
    pub(in crate::features) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The keys of some rows; `None` where a part of the key is null (or not a number), which equals nothing.
    pub(in crate::features) fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let mut keys = vec![Some(Vec::new()); rows];
        for (column, form) in columns.iter().zip(&self.forms) {
            append(&mut keys, column, *form).map_err(Error::internal)?;
        }
        Ok(keys)
    }
}

fn form(data_type: &DataType) -> Option<Form> {
    Some(match data_type {
        DataType::Dictionary(_, values) => return form(values),
        DataType::RunEndEncoded(_, values) => return form(values.data_type()),
        DataType::Boolean => Form::Boolean,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Form::Unsigned,
        other if other.is_integer() => Form::Signed,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Form::Float,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Form::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Form::Bytes,
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => Form::Instant,
        DataType::Decimal128(_, _) => Form::Decimal,
        _ => return None,
    })
}

/// Appends one column to all keys.
fn append(
    keys: &mut [Option<Vec<u8>>],
    column: &ArrayRef,
    form: Form,
) -> Result<(), arrow::error::ArrowError> {
    match form {
        Form::Boolean => {
            let values = cast(column, &DataType::Boolean)?;
            let values = values.as_boolean();
            fill(keys, |row| {
                values
                    .is_valid(row)
                    .then(|| vec![u8::from(values.value(row))])
            });
        }
        Form::Signed => {
            let values = cast(column, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>();
            fill(keys, |row| {
                values
                    .is_valid(row)
                    .then(|| integer(i128::from(values.value(row))))
            });
        }
        Form::Unsigned => {
            let values = cast(column, &DataType::UInt64)?;
            let values = values.as_primitive::<UInt64Type>();
            fill(keys, |row| {
                values
                    .is_valid(row)
                    .then(|| integer(i128::from(values.value(row))))
            });
        }
        Form::Float => {
            let values = cast(column, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            fill(keys, |row| {
                let value = values.is_valid(row).then(|| values.value(row))?;
                // Adding zero makes one of the two zeros.
                (!value.is_nan()).then(|| (value + 0.0).to_bits().to_be_bytes().to_vec())
            });
        }
        Form::Text => {
            let values = cast(column, &DataType::LargeUtf8)?;
            let values = values.as_string::<i64>();
            fill(keys, |row| {
                values
                    .is_valid(row)
                    .then(|| values.value(row).as_bytes().to_vec())
            });
        }
        Form::Bytes => {
            let values = cast(column, &DataType::LargeBinary)?;
            let values = values.as_binary::<i64>();
            fill(keys, |row| {
                values.is_valid(row).then(|| values.value(row).to_vec())
            });
        }
        // In nanoseconds, so that units do not matter.
        Form::Instant => {
            let values = match column.data_type() {
                DataType::Dictionary(_, values) => instant::of_array(&cast(column, values)?),
                _ => instant::of_array(column),
            };
            fill(keys, |row| values[row].map(integer));
        }
        Form::Decimal => {
            let values = match column.data_type() {
                DataType::Dictionary(_, values) => cast(column, values)?,
                _ => column.clone(),
            };
            let values = values.as_primitive::<Decimal128Type>();
            fill(keys, |row| {
                values.is_valid(row).then(|| integer(values.value(row)))
            });
        }
    }
    Ok(())
}

fn integer(value: i128) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// Each part with its length before it, so that ("1", "11") is not ("11", "1").
fn fill(keys: &mut [Option<Vec<u8>>], part: impl Fn(usize) -> Option<Vec<u8>>) {
    for (row, key) in keys.iter_mut().enumerate() {
        *key = match (key.take(), part(row)) {
            (Some(mut key), Some(part)) => {
                key.extend((part.len() as u32).to_be_bytes());
                key.extend(part);
                Some(key)
            }
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampSecondArray,
    };
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn encode(columns: Vec<ArrayRef>) -> Vec<Option<Vec<u8>>> {
        let types = columns.iter().map(|c| c.data_type().clone()).collect();
        let encoder = KeyEncoder::new("v", types).unwrap();
        encoder.encode(&columns, columns[0].len()).unwrap()
    }

    #[test]
    fn composite_keys_are_not_concatenated() {
        let text = |a: &str, b: &str| -> Vec<ArrayRef> {
            vec![
                Arc::new(StringArray::from(vec![a])),
                Arc::new(StringArray::from(vec![b])),
            ]
        };
        assert_ne!(encode(text("1", "11")), encode(text("11", "1")));
    }

    #[test]
    fn widths_and_units_do_not_matter_but_nulls_do() {
        let narrow = encode(vec![Arc::new(Int32Array::from(vec![Some(7), None]))]);
        let wide = encode(vec![Arc::new(Int64Array::from(vec![Some(7), None]))]);
        assert_eq!(narrow, wide);
        assert_eq!(narrow[1], None);
        let seconds = encode(vec![Arc::new(TimestampSecondArray::from(vec![5]))]);
        let micros: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![5_000_000]).with_timezone("UTC"));
        assert_eq!(seconds, encode(vec![micros]));
        let unsupported = DataType::Time64(TimeUnit::Nanosecond);
        assert!(KeyEncoder::new("v", vec![unsupported]).is_err());
    }
}
