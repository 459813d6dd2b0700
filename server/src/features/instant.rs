//! Points in time as nanoseconds since 1970 UTC, in 128 bits, so that every unit fits and nothing is truncated.

use std::ops::Bound;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    },
};
use mlplat_proto::common::v1::TimeRange;

use crate::request::{self, Violations};

/// Bounds of event times.
pub(super) type Window = (Bound<i128>, Bound<i128>);

const SECOND: i128 = 1_000_000_000;

/// A timestamp of the contract, exactly.
pub(super) fn nanos(at: &prost_types::Timestamp) -> i128 {
    i128::from(at.seconds) * SECOND + i128::from(at.nanos)
}

/// The same the other way round.
pub(super) fn timestamp(nanos: i128) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(SECOND)).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos.rem_euclid(SECOND)).unwrap_or(0),
    }
}

/// The instants of an array of timestamps or dates; `None` for null, and for every row of any other type.
pub(super) fn of_array(array: &ArrayRef) -> Vec<Option<i128>> {
    fn scaled<T: ArrowPrimitiveType>(array: &ArrayRef, factor: i128) -> Vec<Option<i128>>
    where
        T::Native: Into<i128>,
    {
        let values = array.as_primitive::<T>().iter();
        values
            .map(|value| value.map(|value| value.into() * factor))
            .collect()
    }
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => scaled::<TimestampSecondType>(array, SECOND),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled::<TimestampMillisecondType>(array, 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            scaled::<TimestampMicrosecondType>(array, 1_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => scaled::<TimestampNanosecondType>(array, 1),
        DataType::Date64 => scaled::<Date64Type>(array, 1_000_000),
        DataType::Date32 => scaled::<Date32Type>(array, 86_400 * SECOND),
        _ => vec![None; array.len()],
    }
}

/// A window of the contract with both ends inclusive. `window` is the name of the field.
pub(super) fn window(range: &TimeRange, violations: &mut Violations) -> Window {
    let mut bound = |field: &str, at: &Option<prost_types::Timestamp>| {
        let Some(at) = at else {
            return Bound::Unbounded;
        };
        match violations.parse(format!("window.{field}"), request::timestamp(at)) {
            Some(_) => Bound::Included(nanos(at)),
            None => Bound::Unbounded,
        }
    };
    let window = (bound("start", &range.start), bound("end", &range.end));
    if let (Bound::Included(start), Bound::Included(end)) = window
        && start > end
    {
        violations.add("window", "begins after its end");
    }
    window
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_and_back() {
        for nanos_before in [0, -1, 1_767_312_000_123_456_789] {
            assert_eq!(nanos(&timestamp(nanos_before)), nanos_before);
        }
    }
}
