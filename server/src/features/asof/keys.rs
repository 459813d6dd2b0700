//! Join keys: how the two sides' columns are brought to one type, encoded to bytes and looked up.
//!
//! Two keys are equal when every column is non-null and equal, column by column; the row encoding keeps columns
//! apart, so ("1", "11") is never ("11", "1"). A conversion that could make unequal values equal is refused. One that
//! merely cannot represent a value (a u64 above i64::MAX against signed keys) yields null, because such a value
//! equals nothing on the other side. This file must not know about time.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};

use super::{AsOfError, Result, time};

/// The form in which one join key of both sides is compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum KeyForm {
    /// Both sides in this type; a value that it cannot hold becomes null.
    Exact(DataType),
    /// Doubles, with NaN as null and one zero.
    Float,
    /// Instants of different units or zones, as nanoseconds.
    Instant,
}

impl KeyForm {
    /// The form in which columns of these two types compare without loss, if there is one.
    pub(super) fn of(entity: &DataType, feature: &DataType) -> Option<Self> {
        use DataType::{Boolean, Decimal128, Int64, Null, UInt64};
        let (a, b) = match (plain(entity), plain(feature)) {
            (Null, Null) => return Some(Self::Exact(Boolean)),
            (Null, other) | (other, Null) => (other, other),
            both => both,
        };
        if a.is_floating() && b.is_floating() {
            return Some(Self::Float);
        }
        let numbers = |t: &DataType| t.is_integer() || t.is_floating();
        let decimal_integer = |t: &DataType| t.is_integer() || matches!(t, Decimal128(_, 0));
        let exact = match (a, b) {
            _ if a == b => a.clone(),
            _ if a.is_unsigned_integer() && b.is_unsigned_integer() => UInt64,
            _ if a.is_integer() && b.is_integer() => Int64,
            // a data frame turns an integer column with missing values into floats
            (integer, float) | (float, integer) if float.is_floating() && integer.is_integer() => {
                match integer {
                    UInt64 => UInt64,
                    _ => Int64,
                }
            }
            _ if numbers(a) && numbers(b) => return None,
            _ if decimal_integer(a) && decimal_integer(b) => Decimal128(38, 0),
            (Decimal128(p, s), Decimal128(q, t)) if s == t => Decimal128(*p.max(q), *s),
            _ if is_string(a) && is_string(b) => DataType::LargeUtf8,
            _ if is_binary(a) && is_binary(b) => DataType::LargeBinary,
            _ if *a != Null && time::is_instant(a) && time::is_instant(b) => {
                return Some(Self::Instant);
            }
            _ => return None,
        };
        (!exact.is_nested()).then_some(Self::Exact(exact))
    }

    /// The type of the converted arrays.
    fn data_type(&self) -> DataType {
        match self {
            Self::Exact(data_type) => data_type.clone(),
            Self::Float => DataType::Float64,
            Self::Instant => Decimal128Array::from(Vec::<i128>::new())
                .data_type()
                .clone(),
        }
    }

    /// `array` in this form. `column` and `table` are for messages.
    fn convert(&self, array: &ArrayRef, column: &str, table: &str) -> Result<ArrayRef> {
        let values = match plain(array.data_type()) {
            data_type if data_type == array.data_type() => array.clone(),
            data_type => cast(array, data_type)?,
        };
        match self {
            Self::Exact(to) if to == values.data_type() => Ok(values),
            Self::Exact(to) if values.data_type().is_floating() => {
                integers(&values, to, column, table)
            }
            Self::Exact(to) => Ok(cast(&values, to)?),
            Self::Float => {
                let doubles = cast(&values, &DataType::Float64)?;
                let doubles = doubles.as_primitive::<Float64Type>();
                // adding zero turns -0.0 into 0.0
                let keys = doubles
                    .iter()
                    .map(|value| value.filter(|v| !v.is_nan()).map(|v| v + 0.0));
                Ok(Arc::new(keys.collect::<Float64Array>()))
            }
            Self::Instant => {
                let mut instants = Vec::with_capacity(values.len());
                time::read(values.as_ref(), &mut instants);
                let keys = instants
                    .into_iter()
                    .map(|instant| (instant != time::ABSENT).then_some(instant));
                Ok(Arc::new(keys.collect::<Decimal128Array>()))
            }
        }
    }
}

/// The type of the values behind a dictionary or run-end encoding.
pub(super) fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        _ => data_type,
    }
}

fn is_string(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(
        data_type,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_)
    )
}

/// Floating-point keys as integers of type `to`. NaN is how data frames write "missing"; everything else must be an
/// integer that the float type holds exactly, for otherwise it may already be another number than the one meant.
fn integers(values: &ArrayRef, to: &DataType, column: &str, table: &str) -> Result<ArrayRef> {
    let exact_below = match values.data_type() {
        DataType::Float16 => 2f64.powi(11),
        DataType::Float32 => 2f64.powi(24),
        _ => 2f64.powi(53),
    };
    let doubles = cast(values, &DataType::Float64)?;
    let doubles = doubles
        .as_primitive::<Float64Type>()
        .iter()
        .map(|value| value.filter(|v| !v.is_nan()));
    let checked: Vec<Option<i64>> = doubles
        .map(|value| match value {
            Some(value) if value.fract() != 0.0 || value.abs() > exact_below => {
                Err(AsOfError::KeyValue {
                    table: table.to_owned(),
                    column: column.to_owned(),
                    data_type: values.data_type().clone(),
                    value,
                })
            }
            value => Ok(value.map(|v| v as i64)),
        })
        .collect::<Result<_>>()?;
    if *to == DataType::UInt64 {
        let unsigned = checked
            .into_iter()
            .map(|value| value.and_then(|v| u64::try_from(v).ok()));
        return Ok(Arc::new(unsigned.collect::<UInt64Array>()));
    }
    let signed: ArrayRef = Arc::new(Int64Array::from(checked));
    if *to == DataType::Int64 {
        Ok(signed)
    } else {
        Ok(cast(&signed, to)?)
    }
}

/// Encodes the join keys of one side as bytes that are equal exactly when the keys are.
#[derive(Debug)]
pub(super) struct KeyEncoder {
    forms: Vec<KeyForm>,
    names: Vec<String>,
    table: String,
    converter: RowConverter,
}

impl KeyEncoder {
    /// An encoder for columns called `names` of `table`. Encoders with equal `forms` yield comparable bytes.
    pub(super) fn new(forms: Vec<KeyForm>, names: Vec<String>, table: String) -> Result<Self> {
        let fields = forms
            .iter()
            .map(|form| SortField::new(form.data_type()))
            .collect();
        Ok(Self {
            converter: RowConverter::new(fields)?,
            forms,
            names,
            table,
        })
    }

    /// The keys of `columns`, which are in the order of the forms and have `rows` rows each.
    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<Keys> {
        let columns = self.convert(columns)?;
        self.encode_converted(&columns, rows)
    }

    /// The columns in the form in which they are compared.
    pub(super) fn convert(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let each = columns.iter().zip(&self.forms).zip(&self.names);
        each.map(|((column, form), name)| form.convert(column, name, &self.table))
            .collect()
    }

    /// The keys of columns that [`KeyEncoder::convert`] returned.
    pub(super) fn encode_converted(&self, columns: &[ArrayRef], rows: usize) -> Result<Keys> {
        let nulls = columns.iter().fold(None, |all, column| {
            NullBuffer::union(all.as_ref(), column.logical_nulls().as_ref())
        });
        let encoded = (!columns.is_empty())
            .then(|| self.converter.convert_columns(columns))
            .transpose()?;
        Ok(Keys {
            encoded,
            nulls,
            rows,
        })
    }
}

/// The encoded keys of one batch.
#[derive(Debug)]
pub(super) struct Keys {
    /// Absent when there are no key columns: then all rows have the same, empty key.
    encoded: Option<Rows>,
    nulls: Option<NullBuffer>,
    rows: usize,
}

impl Keys {
    /// The key of a row; `None` if any of its columns is null. Panics if there is no such row.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        Some(
            self.encoded
                .as_ref()
                .map_or(&[], |rows| rows.row(row).data()),
        )
    }
}

/// Numbers distinct keys from 0 in the order of their first appearance.
#[derive(Debug, Default)]
pub(super) struct KeyMap {
    numbers: HashMap<Box<[u8]>, u32>,
    key_bytes: usize,
}

impl KeyMap {
    pub(super) fn get(&self, key: &[u8]) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The number of `key`, and whether it is new.
    pub(super) fn intern(&mut self, key: &[u8]) -> (u32, bool) {
        if let Some(&number) = self.numbers.get(key) {
            return (number, false);
        }
        let number = u32::try_from(self.numbers.len()).expect("callers count rows in u32");
        self.key_bytes += key.len();
        self.numbers.insert(key.into(), number);
        (number, true)
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn retained_bytes(&self) -> usize {
        /// What an allocator adds to each key, about.
        const PER_KEY: usize = 16;
        let entry = size_of::<(Box<[u8]>, u32)>() + 1;
        self.numbers.capacity() * entry + self.key_bytes + self.numbers.len() * PER_KEY
    }
}
