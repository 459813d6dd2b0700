//! Feature values of every kind come out as they went in: type, nulls, encoding.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int32Array,
    ListArray, MapArray, RecordBatch, RunArray, StringArray, StringDictionaryBuilder,
    StringViewArray, StructArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, Schema};

use super::super::{AsOf, AsOfError, EntitySide, ErrorKind};
use super::{batch, instants, ints, join, options, side, strings};

/// Rows of key 0, 1, 2, … with the values of `column`.
fn view(first_key: i64, column: ArrayRef) -> RecordBatch {
    let keys: Vec<_> = (0..column.len() as i64)
        .map(|key| Some(first_key + key))
        .collect();
    batch(&[
        ("k", ints(&keys)),
        ("event", instants(&vec!["2026-01-01"; column.len()])),
        ("x", column),
    ])
}

fn entities(keys: &[Option<i64>]) -> RecordBatch {
    batch(&[
        ("k", ints(keys)),
        ("time", instants(&vec!["2026-01-02"; keys.len()])),
    ])
}

/// Pushes `columns` as batches of one view and reads all their rows back, each twice and with an unmatched row between.
fn round_trip(columns: &[ArrayRef]) {
    let mut first_key = 0;
    let mut batches = Vec::new();
    for column in columns {
        batches.push(view(first_key, column.clone()));
        first_key += column.len() as i64;
    }
    let keys: Vec<_> = (0..first_key)
        .flat_map(|key| [Some(key), None, Some(key)])
        .collect();
    let matches = join(
        &entities(&keys),
        &batches,
        &["k"],
        &["x"],
        &options(None, false),
    )
    .expect("valid");
    let data_type = columns[0].data_type();
    assert_eq!(matches.fields()[0].data_type(), data_type);
    // in pieces of five rows, the last one shorter
    let pieces: Vec<ArrayRef> = (0..keys.len())
        .step_by(5)
        .map(|start| matches.features(start..start + 5).expect("fits").remove(0))
        .collect();
    assert!(
        pieces.iter().all(|piece| piece.data_type() == data_type),
        "{data_type}"
    );
    let rows: Vec<ArrayRef> = pieces
        .iter()
        .flat_map(|piece| (0..piece.len()).map(|row| plain(&piece.slice(row, 1))))
        .collect();
    let inputs: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    let all = concat(&inputs)
        .map(|all| plain(&all))
        .expect("concatenates");
    let null = plain(&new_null_array(data_type, 1));
    assert_eq!(rows.len(), keys.len());
    for (index, row) in rows.iter().enumerate() {
        let expected = if index % 3 == 1 {
            null.clone()
        } else {
            all.slice(index / 3, 1)
        };
        assert_eq!(
            row.to_data(),
            expected.to_data(),
            "row {index} of {data_type}"
        );
    }
}

/// Encoded columns as plain values, so that they compare by value.
fn plain(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values).expect("decodes"),
        DataType::RunEndEncoded(_, values) => cast(array, values.data_type()).expect("decodes"),
        _ => array.clone(),
    }
}

fn list(values: ArrayRef, lengths: &[usize]) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    Arc::new(ListArray::new(
        field,
        OffsetBuffer::from_lengths(lengths.iter().copied()),
        values,
        None,
    ))
}

const LONG: &str = "a string that is too long to be held inside a view";

#[test]
fn flat_types() {
    let bytes =
        FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([1u8, 2]), None].into_iter(), 2)
            .expect("two bytes");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(StringArray::from(vec![Some(LONG), None, Some("")])),
        Arc::new(StringViewArray::from(vec![Some(LONG), None, Some("short")])),
        Arc::new(bytes),
        new_null_array(&DataType::Null, 2),
        instants(&["2026-01-01", "", "1969-12-31T23:59:59.999999"]),
    ];
    for column in columns {
        round_trip(&[column.clone(), column]);
    }
}

#[test]
fn nested_types() {
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![
        Some(LONG),
        None,
        Some("b"),
        Some(LONG),
    ]));
    let lists = list(texts.clone(), &[2, 0, 2]);
    round_trip(&[lists.clone(), lists.clone()]);
    round_trip(&[list(lists, &[1, 2])]);
    // a required field inside an optional struct
    let fields = vec![
        Field::new("id", DataType::Int32, false),
        Field::new("text", DataType::Utf8View, true),
    ];
    let ids: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
    let structs: ArrayRef = Arc::new(StructArray::new(
        fields.into(),
        vec![ids, texts],
        Some(vec![true, true, false, true].into()),
    ));
    round_trip(&[structs.clone(), structs]);
    let map = MapArray::new_from_strings(
        ["a", "b", "c"].into_iter(),
        &Int32Array::from(vec![1, 2, 3]),
        &[0, 1, 1, 3],
    );
    round_trip(&[Arc::new(map.expect("a valid map"))]);
}

#[test]
fn encoded_types() {
    let first: DictionaryArray<Int8Type> = [Some("a"), None, Some(LONG)].into_iter().collect();
    let second: DictionaryArray<Int8Type> = [Some("z"), Some("a")].into_iter().collect();
    round_trip(&[Arc::new(first.clone()), Arc::new(second)]);
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    round_trip(&[Arc::new(DictionaryArray::<Int8Type>::new(
        vec![0, 1, 0].into(),
        flags,
    ))]);
    let runs = RunArray::<Int32Type>::try_new(
        &Int32Array::from(vec![2, 3]),
        &StringArray::from(vec![Some("a"), None]),
    );
    round_trip(&[Arc::new(runs.expect("valid runs"))]);
    round_trip(&[list(Arc::new(first), &[1, 2])]);
}

#[test]
fn dictionaries_merge_when_what_is_needed_fits_and_say_so_when_not() {
    // 40 batches, each with its own 100 values: far more than an index of 8 bits can number
    let mut batches = Vec::new();
    for number in 0..40 {
        let mut builder = StringDictionaryBuilder::<Int8Type>::new();
        (0..100).for_each(|value| builder.append_value(format!("{number}-{value}")));
        let column: ArrayRef = Arc::new(builder.finish());
        batches.push(view(number * 100, column));
    }
    let few: Vec<_> = (0..40).map(|number| Some(number * 100 + 7)).collect();
    let matches = join(
        &entities(&few),
        &batches,
        &["k"],
        &["x"],
        &options(None, false),
    )
    .expect("valid");
    let column = matches.features(0..40).expect("40 values fit").remove(0);
    let texts = plain(&column);
    assert!((0..40).all(|row| texts.as_string::<i32>().value(row) == format!("{row}-7")));

    let all: Vec<_> = (0..4_000).map(Some).collect();
    let matches = join(
        &entities(&all),
        &batches,
        &["k"],
        &["x"],
        &options(None, false),
    )
    .expect("valid");
    let error = matches
        .features(0..4_000)
        .expect_err("4,000 values do not fit");
    assert!(
        matches!(error, AsOfError::DictionaryOverflow { .. }) && error.kind() == ErrorKind::Invalid,
        "{error}"
    );
    assert_eq!(
        plain(&matches.features(100..200).expect("100 values fit")[0])
            .as_string::<i32>()
            .value(99),
        "1-99"
    );
}

#[test]
fn features_keep_their_order_metadata_and_may_be_keys() {
    let metadata = [("unit".to_owned(), "m/s".to_owned())].into();
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("speed", DataType::Int64, false).with_metadata(metadata),
    ]));
    let view =
        RecordBatch::try_new(schema, vec![ints(&[Some(1)]), ints(&[Some(70)])]).expect("valid");
    let matches = join(
        &entities(&[Some(1), Some(2)]),
        &[view],
        &["k"],
        &["speed", "k"],
        &options(None, false),
    )
    .expect("valid");
    assert_eq!(
        matches.fields()[0]
            .metadata()
            .get("unit")
            .map(String::as_str),
        Some("m/s")
    );
    assert!(matches.fields().iter().all(|field| field.is_nullable()));
    let features = matches.features(0..2).expect("fits");
    assert_eq!(features, [ints(&[Some(70), None]), ints(&[Some(1), None])]);
    assert_eq!(matches.features(5..9).expect("beyond the end")[0].len(), 0);
}

#[test]
fn a_join_without_any_batch_or_feature_has_all_rows() {
    let entities = entities(&[Some(1), None, Some(1)]);
    let entity_side = EntitySide {
        schema: entities.schema(),
        batches: &[entities.slice(0, 1), entities.slice(1, 2)],
        keys: strings(&["k"]),
        timestamp: "time".to_owned(),
    };
    let like = view(0, ints(&[Some(1)]));
    for features in [&["x"][..], &[]] {
        let join = AsOf::new(
            &entity_side,
            &side(&like, &["k"], features),
            &options(None, false),
        )
        .expect("valid");
        let matches = join.finish().expect("valid");
        let columns = matches.features(0..3).expect("fits");
        assert_eq!((matches.len(), columns.len()), (3, features.len()));
        assert!(
            columns
                .iter()
                .all(|column| column.len() == 3 && column.null_count() == 3)
        );
    }
}
