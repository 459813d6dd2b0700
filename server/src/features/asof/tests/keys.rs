//! Join keys: composite ones, nulls, and the types that compare with each other.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray,
    Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, LargeBinaryArray,
    LargeStringArray, NullArray, RecordBatch, StringArray, StringViewArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
    UInt64Array, new_empty_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type};

use super::super::{AsOfError, Result};
use super::{all_ints, batch, instants, ints, join, options};

fn view(key: ArrayRef) -> RecordBatch {
    let n = key.len();
    batch(&[
        ("k", key),
        ("event", instants(&vec!["2026-01-01"; n])),
        ("n", ints(&(0..n as i64).map(Some).collect::<Vec<_>>())),
    ])
}

/// Which of the feature keys (by position) each entity key meets.
fn meet(entity: ArrayRef, feature: ArrayRef) -> Result<Vec<Option<i64>>> {
    let entities = batch(&[
        ("time", instants(&vec!["2026-01-02"; entity.len()])),
        ("k", entity),
    ]);
    Ok(all_ints(&join(
        &entities,
        &[view(feature)],
        &["k"],
        &["n"],
        &options(None, false),
    )?))
}

fn array<A: arrow::array::Array + 'static>(array: A) -> ArrayRef {
    Arc::new(array)
}

#[test]
fn composite_keys_compare_column_by_column() {
    let text = |values: &[Option<&str>]| array(StringArray::from(values.to_vec()));
    let view = batch(&[
        ("a", text(&[Some("1"), Some("11"), None])),
        ("b", text(&[Some("11"), Some("1"), Some("1")])),
        ("event", instants(&["2026-01-01"; 3])),
        ("n", ints(&[Some(0), Some(1), Some(2)])),
    ]);
    let entities = batch(&[
        (
            "a",
            text(&[
                Some("1"),
                Some("11"),
                Some("111"),
                None,
                Some("1"),
                Some(""),
            ]),
        ),
        (
            "b",
            text(&[
                Some("11"),
                Some("1"),
                Some(""),
                Some("1"),
                None,
                Some("111"),
            ]),
        ),
        ("time", instants(&["2026-01-02"; 6])),
    ]);
    let matches = join(
        &entities,
        &[view],
        &["a", "b"],
        &["n"],
        &options(None, false),
    )
    .expect("valid");
    assert_eq!(
        all_ints(&matches),
        [Some(0), Some(1), None, None, None, None]
    );
}

#[test]
fn integers_of_all_widths_meet() {
    let entity = || array(Int32Array::from(vec![Some(5), Some(-1), Some(300), None]));
    let expect = [Some(0), None, Some(1), None];
    let features: Vec<ArrayRef> = vec![
        array(Int64Array::from(vec![5, 300])),
        array(UInt64Array::from(vec![5, 300, u64::MAX])),
        array(UInt32Array::from(vec![5, 300])),
        array(
            Decimal128Array::from(vec![5, 300])
                .with_precision_and_scale(20, 0)
                .expect("valid"),
        ),
    ];
    for feature in features {
        assert_eq!(
            meet(entity(), feature.clone()).expect("comparable"),
            expect,
            "{}",
            feature.data_type()
        );
    }
    assert_eq!(
        meet(
            array(Int8Array::from(vec![5])),
            array(Int64Array::from(vec![261, 5]))
        )
        .expect("comparable"),
        [Some(1)]
    );
    // what wraps around must not meet
    assert_eq!(
        meet(
            array(Int64Array::from(vec![-1])),
            array(UInt64Array::from(vec![u64::MAX]))
        )
        .expect("comparable"),
        [None]
    );
    assert_eq!(
        meet(
            array(UInt64Array::from(vec![u64::MAX, 1])),
            array(UInt32Array::from(vec![1, u32::MAX]))
        )
        .expect("comparable"),
        [None, Some(0)]
    );
}

#[test]
fn floats_from_data_frames_meet_integers_only_when_exact() {
    let floats = array(Float64Array::from(vec![
        Some(2.0),
        Some(f64::NAN),
        None,
        Some(-0.0),
    ]));
    let integers = array(Int32Array::from(vec![0, 2]));
    assert_eq!(
        meet(floats.clone(), integers.clone()).expect("exact"),
        [Some(1), None, None, Some(0)]
    );
    assert_eq!(
        meet(integers.clone(), floats).expect("exact"),
        [Some(3), Some(0)]
    );
    for wrong in [1.5, 9_007_199_254_740_994.0, f64::INFINITY] {
        let error =
            meet(array(Float64Array::from(vec![wrong])), integers.clone()).expect_err("inexact");
        assert!(
            matches!(&error, AsOfError::KeyValue { value, .. } if *value == wrong),
            "{error}"
        );
        assert!(
            error.to_string().contains("`k`") && error.to_string().contains("Float64"),
            "{error}"
        );
    }
    assert!(meet(array(Float32Array::from(vec![16_777_218.0])), integers).is_err());
    // floats among themselves: one zero, and NaN is nothing
    let doubles = array(Float64Array::from(vec![0.5, 0.0, f64::NAN]));
    assert_eq!(
        meet(
            array(Float32Array::from(vec![0.5, -0.0, f32::NAN])),
            doubles
        )
        .expect("exact"),
        [Some(0), Some(1), None]
    );
}

#[test]
fn strings_of_all_layouts_meet() {
    let values = vec![
        Some("a"),
        None,
        Some("a string longer than a view holds inline"),
    ];
    let dictionary: DictionaryArray<Int8Type> = values.iter().copied().collect();
    let layouts: Vec<ArrayRef> = vec![
        array(StringArray::from(values.clone())),
        array(LargeStringArray::from(values.clone())),
        array(StringViewArray::from(values.clone())),
        array(dictionary),
        cast(&array(StringArray::from(values)), &run_ends()).expect("castable"),
    ];
    for entity in &layouts {
        for feature in &layouts {
            let met = meet(entity.clone(), feature.clone()).expect("comparable");
            assert_eq!(
                met,
                [Some(0), None, Some(2)],
                "{} with {}",
                entity.data_type(),
                feature.data_type()
            );
        }
    }
}

fn run_ends() -> DataType {
    let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, name == "values"));
    DataType::RunEndEncoded(
        field("run_ends", DataType::Int32),
        field("values", DataType::Utf8),
    )
}

#[test]
fn nulls_inside_a_dictionary_are_nulls() {
    let keys = Int32Array::from(vec![0, 1]);
    let dictionary =
        DictionaryArray::<Int32Type>::new(keys, array(StringArray::from(vec![None, Some("x")])));
    assert_eq!(
        meet(array(dictionary.clone()), array(dictionary)).expect("comparable"),
        [None, Some(1)]
    );
}

#[test]
fn binaries_dates_and_instants_meet() {
    let met = meet(
        array(BinaryArray::from(vec![&b"x"[..], b"y"])),
        array(LargeBinaryArray::from(vec![&b"y"[..]])),
    );
    assert_eq!(met.expect("comparable"), [None, Some(0)]);
    let seconds = || array(TimestampSecondArray::from(vec![86_400, 1]));
    let zoned = array(
        TimestampNanosecondArray::from(vec![1_000_000_001, 86_400_000_000_000])
            .with_timezone("Europe/Berlin"),
    );
    assert_eq!(meet(seconds(), zoned).expect("comparable"), [Some(1), None]);
    assert_eq!(
        meet(seconds(), array(Date32Array::from(vec![1]))).expect("comparable"),
        [Some(0), None]
    );
    let millis = array(TimestampMillisecondArray::from(vec![86_400_000]));
    assert_eq!(
        meet(array(Date64Array::from(vec![86_400_000])), millis).expect("comparable"),
        [Some(0)]
    );
}

#[test]
fn an_untyped_column_of_nulls_meets_nothing() {
    assert_eq!(
        meet(array(NullArray::new(2)), ints(&[Some(1)])).expect("comparable"),
        [None, None]
    );
    assert_eq!(
        meet(ints(&[Some(1)]), array(NullArray::new(2))).expect("comparable"),
        [None]
    );
    assert_eq!(
        meet(array(NullArray::new(1)), array(NullArray::new(2))).expect("comparable"),
        [None]
    );
}

#[test]
fn types_that_do_not_compare_are_refused_by_name() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    let pairs = [
        (DataType::Utf8, DataType::Int64),
        (DataType::Int64, DataType::LargeUtf8),
        (DataType::Boolean, DataType::Int8),
        (DataType::Decimal128(10, 2), DataType::Int64),
        (DataType::Date32, DataType::Int32),
        (DataType::Utf8, DataType::Binary),
        (list.clone(), list),
    ];
    for (entity, feature) in pairs {
        let error =
            meet(new_empty_array(&entity), new_empty_array(&feature)).expect_err("not comparable");
        let text = error.to_string();
        assert!(matches!(error, AsOfError::KeyTypes { .. }), "{text}");
        assert!(
            text.contains("`k`")
                && text.contains(&entity.to_string())
                && text.contains(&feature.to_string()),
            "{text}"
        );
    }
}
