//! Values in the type that somebody else wants them in, when nothing is lost.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Decimal128Type},
};

/// `array` as `to`, or what stands in the way. Numbers become other numbers only when they are the same number, and only
/// texts become texts.
pub(super) fn lossless(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let from = array.data_type();
    if from == to {
        return Ok(array.clone());
    }
    if *from == DataType::Null {
        return Ok(new_null_array(to, array.len()));
    }
    let refused = || format!("is {from}, and {to} is needed");
    if family(from) != family(to) {
        return Err(refused());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let there = cast_with_options(array, to, &options).map_err(|_| refused())?;
    let back = cast_with_options(&there, from, &options).map_err(|_| refused())?;
    // The way back rounds to the greatest integer, which hides that the way there did not.
    let beyond = to.is_floating() && exceeds(array, to);
    if !beyond && &back == array {
        return Ok(there);
    }
    Err(format!(
        "is {from} and holds values that {to} cannot hold exactly"
    ))
}

/// Whether an integer of `array` is beyond those that the float type holds one by one.
fn exceeds(array: &ArrayRef, float: &DataType) -> bool {
    if !array.data_type().is_integer() {
        return false;
    }
    let exact_below: i128 = match float {
        DataType::Float16 => 1 << 11,
        DataType::Float32 => 1 << 24,
        _ => 1 << 53,
    };
    let wide = cast_with_options(array, &DataType::Decimal128(20, 0), &CastOptions::default());
    let Ok(wide) = wide else { return true };
    let mut values = wide.as_primitive::<Decimal128Type>().iter().flatten();
    values.any(|value| value.abs() > exact_below)
}

/// Types whose values can be the same thing.
#[derive(PartialEq)]
enum Family {
    Number,
    Text,
    Bytes,
    Instant,
    Boolean,
    Other(DataType),
}

fn family(data_type: &DataType) -> Family {
    match data_type {
        DataType::Dictionary(_, values) => family(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Family::Bytes,
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => Family::Instant,
        DataType::Boolean => Family::Boolean,
        other if other.is_numeric() => Family::Number,
        other => Family::Other(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, NullArray, StringArray};

    use super::*;

    #[test]
    fn only_what_stays_the_same_is_converted() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
        assert_eq!(lossless(&ints, &DataType::Int32).unwrap().len(), 2);
        assert_eq!(lossless(&ints, &DataType::Float64).unwrap().null_count(), 1);
        let large: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert!(lossless(&large, &DataType::Int32).is_err());
        assert!(lossless(&large, &DataType::Float64).is_err());
        let half: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        assert!(lossless(&half, &DataType::Int64).is_err());
        let text: ArrayRef = Arc::new(StringArray::from(vec!["7"]));
        assert!(lossless(&text, &DataType::Int64).is_err());
        assert!(lossless(&text, &DataType::LargeUtf8).is_ok());
        let nothing: ArrayRef = Arc::new(NullArray::new(3));
        assert_eq!(lossless(&nothing, &DataType::Utf8).unwrap().null_count(), 3);
    }
}
