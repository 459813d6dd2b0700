//! [`Latest`]: the winner per key in a window, in pieces, and its agreement with [`AsOf`].

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, TimestampSecondArray,
    new_empty_array,
};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type};

use super::super::{AsOfError, ErrorKind, Latest};
use super::{AMPLE, batch, ints, join, options, side};

const SECOND: i128 = 1_000_000_000;

/// Key, event and created second (if any) of each row; "n" counts from `first`.
fn view(first: i64, rows: &[(Option<i64>, Option<i64>, Option<i64>)]) -> RecordBatch {
    batch(&[
        ("k", ints(&rows.iter().map(|row| row.0).collect::<Vec<_>>())),
        (
            "event",
            Arc::new(TimestampSecondArray::from(
                rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            )) as ArrayRef,
        ),
        (
            "created",
            Arc::new(TimestampSecondArray::from(
                rows.iter().map(|row| row.2).collect::<Vec<_>>(),
            )),
        ),
        (
            "n",
            ints(
                &(first..first + rows.len() as i64)
                    .map(Some)
                    .collect::<Vec<_>>(),
            ),
        ),
    ])
}

fn latest(like: &RecordBatch, window: (Bound<i128>, Bound<i128>)) -> Latest {
    Latest::new(&side(like, &["k"], &["n"]), window, AMPLE).expect("valid")
}

/// Key to "n".
fn taken(latest: &mut Latest) -> BTreeMap<i64, i64> {
    let mut all = BTreeMap::new();
    for batch in latest.take().expect("no push failed") {
        assert_eq!(batch.schema(), *latest.schema());
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .expect("in the schema")
                .as_primitive::<Int64Type>()
                .clone()
        };
        for (key, n) in column("k").iter().zip(column("n").iter()) {
            assert_eq!(
                all.insert(key.expect("no null keys"), n.expect("no null values")),
                None,
                "one row per key"
            );
        }
    }
    all
}

#[test]
fn the_greatest_row_of_each_key_wins() {
    let rows = view(
        0,
        &[
            (Some(1), Some(5), Some(9)),
            (Some(1), Some(7), None),
            (Some(1), Some(7), Some(1)),
            (Some(1), Some(6), Some(8)),
            (Some(2), Some(3), None),
            (Some(2), Some(3), None),
            (None, Some(9), None),
            (Some(3), None, Some(1)),
        ],
    );
    let mut latest = latest(&rows, (Unbounded, Unbounded));
    latest.push(&rows).expect("valid");
    assert_eq!(latest.len(), 2);
    let names: Vec<_> = latest
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(names, ["k", "event", "created", "n"]);
    assert_eq!(taken(&mut latest), BTreeMap::from([(1, 2), (2, 5)]));
}

#[test]
fn the_window_bounds_events() {
    let rows = view(
        0,
        &[
            (Some(1), Some(1), None),
            (Some(1), Some(2), None),
            (Some(1), Some(3), None),
            (Some(1), Some(4), None),
        ],
    );
    for (window, expected) in [
        ((Excluded(SECOND), Included(3 * SECOND)), Some(2)),
        ((Included(3 * SECOND + 1), Excluded(4 * SECOND)), None),
        ((Unbounded, Excluded(3 * SECOND)), Some(1)),
        ((Included(4 * SECOND), Unbounded), Some(3)),
    ] {
        let mut latest = latest(&rows, window);
        latest.push(&rows).expect("valid");
        assert_eq!(taken(&mut latest).get(&1).copied(), expected, "{window:?}");
    }
}

#[test]
fn what_was_taken_is_gone_and_later_rows_start_anew() {
    let rows = view(0, &[(Some(1), Some(9), None), (Some(2), Some(9), None)]);
    let mut latest = latest(&rows, (Unbounded, Unbounded));
    let empty = latest.retained_bytes();
    assert_eq!(taken(&mut latest), BTreeMap::new());
    latest.push(&rows).expect("valid");
    assert!(latest.retained_bytes() > empty && !latest.is_empty());
    assert_eq!(taken(&mut latest).len(), 2);
    assert!(latest.is_empty());
    assert_eq!(latest.retained_bytes(), empty);
    latest
        .push(&view(7, &[(Some(1), Some(3), None)]))
        .expect("valid");
    assert_eq!(taken(&mut latest), BTreeMap::from([(1, 7)]));
}

#[test]
fn it_agrees_with_the_join_at_the_end_of_the_window() {
    let mut state = 42u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below) as i64
    };
    let batches: Vec<RecordBatch> = (0..60)
        .map(|number| {
            let rows: Vec<_> = (0..200)
                .map(|_| {
                    (
                        Some(random(500)),
                        Some(random(50)),
                        Some(random(3)).filter(|c| *c > 0),
                    )
                })
                .collect();
            view(number * 200, &rows)
        })
        .collect();
    let mut latest = latest(&batches[0], (Unbounded, Included(40 * SECOND)));
    for batch in &batches {
        latest.push(batch).expect("valid");
    }
    let entities = batch(&[
        ("k", ints(&(0..500).map(Some).collect::<Vec<_>>())),
        (
            "time",
            Arc::new(TimestampSecondArray::from(vec![40; 500])) as ArrayRef,
        ),
    ]);
    let matches = join(&entities, &batches, &["k"], &["n"], &options(None, false)).expect("valid");
    let joined: BTreeMap<i64, i64> = super::all_ints(&matches)
        .into_iter()
        .enumerate()
        .filter_map(|(key, n)| Some((key as i64, n?)))
        .collect();
    assert_eq!(taken(&mut latest), joined);
}

#[test]
fn memory_follows_keys_and_has_a_limit() {
    let rows: Vec<_> = (0..1_000)
        .map(|row| (Some(row % 100), Some(row), None))
        .collect();
    let like = view(0, &rows);
    let mut latest = Latest::new(
        &side(&like, &["k"], &["n"]),
        (Unbounded, Unbounded),
        1_000_000,
    )
    .expect("valid");
    for number in 0..200 {
        latest.push(&view(number * 1_000, &rows)).expect("100 keys");
    }
    assert_eq!(latest.len(), 100);
    let many = batch(&[
        (
            "k",
            Arc::new(Int64Array::from_iter_values(0..100_000)) as ArrayRef,
        ),
        (
            "event",
            Arc::new(TimestampSecondArray::from(vec![1; 100_000])),
        ),
        ("created", new_empty_created(100_000)),
        ("n", Arc::new(Int64Array::from(vec![0; 100_000]))),
    ]);
    let error = latest.push(&many).expect_err("100,000 keys");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(matches!(latest.take(), Err(AsOfError::Failed { .. })));
}

fn new_empty_created(rows: usize) -> ArrayRef {
    Arc::new(TimestampSecondArray::from(vec![None; rows]))
}

#[test]
fn static_and_entity_less_views_and_encoded_columns() {
    let tags: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
    let rows = batch(&[
        ("k", Arc::new(tags) as ArrayRef),
        ("n", ints(&[Some(0), Some(1), Some(2)])),
    ]);
    // a window has nothing to bound in a static view
    let mut latest = Latest::new(
        &side(&rows, &["k"], &["n"]),
        (Included(5), Included(6)),
        AMPLE,
    )
    .expect("valid");
    latest.push(&rows).expect("valid");
    let taken = latest.take().expect("valid");
    assert_eq!(
        taken[0].schema().field(0).data_type(),
        rows.schema().field(0).data_type()
    );
    assert_eq!(taken[0].column(1), &ints(&[Some(1), Some(2)]));

    let mut latest =
        Latest::new(&side(&rows, &[], &["n"]), (Unbounded, Unbounded), AMPLE).expect("valid");
    latest.push(&rows).expect("valid");
    assert_eq!(
        latest.take().expect("valid")[0].columns(),
        [ints(&[Some(2)])]
    );
}

#[test]
fn a_key_must_be_comparable() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    let rows = batch(&[("k", new_empty_array(&list)), ("n", ints(&[]))]);
    let error = Latest::new(&side(&rows, &["k"], &["n"]), (Unbounded, Unbounded), AMPLE)
        .expect_err("a list");
    assert!(matches!(error, AsOfError::KeyUnsupported { .. }), "{error}");
}
