//! Instants as nanoseconds since 1970-01-01T00:00:00Z, in 128 bits, so that every unit mixes with every other one and
//! nothing is truncated or overflows.
//!
//! A zone only says how an instant is written, so it plays no part; a zone-less timestamp is UTC. This file must not
//! know which side a timestamp belongs to.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

/// No instant (null). Lower than every instant, which is where a null created timestamp ranks.
pub(super) const ABSENT: i128 = i128::MIN;

/// The event timestamp of a row that has always been valid. Lower than every instant, but not absent.
pub(super) const ALWAYS: i128 = i128::MIN + 1;

/// Nanoseconds in one unit of the type; `None` if it does not denote an instant.
fn nanos_per_unit(data_type: &DataType) -> Option<i128> {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => Some(1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => Some(1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(1),
        DataType::Date32 => Some(86_400_000_000_000),
        _ => None,
    }
}

/// Whether a column of this type can be read by [`read`]: instants, and a column without any value.
pub(super) fn is_instant(data_type: &DataType) -> bool {
    *data_type == DataType::Null || nanos_per_unit(data_type).is_some()
}

/// Appends the instants of `array` to `out`, one per row, [`ABSENT`] for null. The type must pass [`is_instant`];
/// anything else is read as absent.
pub(super) fn read(array: &dyn Array, out: &mut Vec<i128>) {
    let Some(factor) = nanos_per_unit(array.data_type()) else {
        out.extend(std::iter::repeat_n(ABSENT, array.len()));
        return;
    };
    let start = out.len();
    match array.data_type() {
        DataType::Date32 => {
            out.extend(
                array
                    .as_primitive::<Date32Type>()
                    .values()
                    .iter()
                    .map(|&days| i128::from(days) * factor),
            );
        }
        DataType::Date64 => extend(array.as_primitive::<Date64Type>().values(), factor, out),
        DataType::Timestamp(TimeUnit::Second, _) => {
            extend(units::<TimestampSecondType>(array), factor, out)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            extend(units::<TimestampMillisecondType>(array), factor, out)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            extend(units::<TimestampMicrosecondType>(array), factor, out)
        }
        _ => extend(units::<TimestampNanosecondType>(array), factor, out),
    }
    if let Some(nulls) = array.nulls() {
        for (instant, valid) in out[start..].iter_mut().zip(nulls) {
            if !valid {
                *instant = ABSENT;
            }
        }
    }
}

fn units<T: ArrowTimestampType>(array: &dyn Array) -> &[i64] {
    array.as_primitive::<T>().values()
}

fn extend(values: &[i64], factor: i128, out: &mut Vec<i128>) {
    out.extend(values.iter().map(|&value| i128::from(value) * factor));
}

/// A bound on a timestamp column, written in the column's own type.
pub(super) enum Literal {
    /// One value, as an array of length 1.
    Value(ArrayRef),
    /// The bound lies below everything the type can hold.
    BelowAll,
    /// The bound lies above everything the type can hold.
    AboveAll,
}

/// The greatest value of `data_type` that is not after `instant`; `None` if the type does not denote an instant.
pub(super) fn at_most(data_type: &DataType, instant: i128) -> Option<Literal> {
    let factor = nanos_per_unit(data_type)?;
    Some(literal(data_type, instant.div_euclid(factor)))
}

/// The least value of `data_type` that is not before `instant`; `None` if the type does not denote an instant.
pub(super) fn at_least(data_type: &DataType, instant: i128) -> Option<Literal> {
    let factor = nanos_per_unit(data_type)?;
    Some(literal(data_type, -(-instant).div_euclid(factor)))
}

fn literal(data_type: &DataType, value: i128) -> Literal {
    let (least, greatest) = match data_type {
        DataType::Date32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    if value < least {
        return Literal::BelowAll;
    }
    if value > greatest {
        return Literal::AboveAll;
    }
    let value = value as i64; // in range: checked above
    Literal::Value(match data_type {
        DataType::Date32 => Arc::new(PrimitiveArray::<Date32Type>::from_value(value as i32, 1)),
        DataType::Date64 => Arc::new(PrimitiveArray::<Date64Type>::from_value(value, 1)),
        DataType::Timestamp(TimeUnit::Second, _) => {
            timestamp::<TimestampSecondType>(value, data_type)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            timestamp::<TimestampMillisecondType>(value, data_type)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            timestamp::<TimestampMicrosecondType>(value, data_type)
        }
        _ => timestamp::<TimestampNanosecondType>(value, data_type),
    })
}

fn timestamp<T: ArrowTimestampType>(value: i64, data_type: &DataType) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_value(value, 1).with_data_type(data_type.clone()))
}
