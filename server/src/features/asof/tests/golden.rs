//! The golden cases of the feature semantics, every row of the table, with and without a time to live.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

use super::{DAY, all_doubles, batch, instants, ints, join, options};

/// Event time, created time ("" is null) and value of a feature row.
type Row = (i64, &'static str, &'static str, Option<f64>);

fn view(rows: &[Row]) -> RecordBatch {
    batch(&[
        (
            "e",
            ints(&rows.iter().map(|row| Some(row.0)).collect::<Vec<_>>()),
        ),
        (
            "event",
            instants(&rows.iter().map(|row| row.1).collect::<Vec<_>>()),
        ),
        (
            "created",
            instants(&rows.iter().map(|row| row.2).collect::<Vec<_>>()),
        ),
        (
            "value",
            Arc::new(Float64Array::from(
                rows.iter().map(|row| row.3).collect::<Vec<_>>(),
            )) as ArrayRef,
        ),
    ])
}

fn entity(rows: &[(Option<i64>, &str)]) -> RecordBatch {
    batch(&[
        ("e", ints(&rows.iter().map(|row| row.0).collect::<Vec<_>>())),
        (
            "time",
            instants(&rows.iter().map(|row| row.1).collect::<Vec<_>>()),
        ),
    ])
}

fn all_rows() -> Vec<Row> {
    vec![
        (1, "2026-01-01T00:00:00", "2026-01-01T00:10:00", Some(1.0)),
        (1, "2026-01-02T00:00:00", "2026-01-02T00:10:00", Some(2.0)),
        (1, "2026-01-02T00:00:00", "2026-01-02T00:20:00", Some(2.5)),
        (2, "2026-01-01T00:00:00", "", None),
        (2, "2025-12-31T23:00:00", "", Some(9.0)),
        (4, "2026-01-05T00:00:00", "", Some(4.0)),
        (5, "2026-01-01T00:00:00.000001", "", Some(5.0)),
        (6, "2026-01-01T00:00:00", "2026-01-01T00:10:00", Some(6.0)),
        (6, "2026-01-01T00:00:00", "2026-01-01T00:10:00", Some(6.5)),
    ]
}

/// Key and time of an entity row, then what it gets with a ttl of a day and without one.
type Case = (Option<i64>, &'static str, Option<f64>, Option<f64>);

const CASES: [Case; 12] = [
    (Some(1), "2026-01-02T00:00:00", Some(2.5), Some(2.5)),
    (Some(1), "2026-01-01T23:59:59.999999", Some(1.0), Some(1.0)),
    (Some(1), "2026-01-03T00:00:00", Some(2.5), Some(2.5)),
    (Some(1), "2026-01-03T00:00:00.000001", None, Some(2.5)),
    (Some(2), "2026-01-01T12:00:00", None, None),
    (Some(3), "2026-01-01T12:00:00", None, None),
    (Some(4), "2026-01-01T12:00:00", None, None),
    (Some(5), "2026-01-01T00:00:00", None, None),
    (Some(6), "2026-01-01T00:00:00", Some(6.5), Some(6.5)),
    (Some(1), "2026-01-02T12:00:00", Some(2.5), Some(2.5)),
    (Some(1), "2026-01-02T12:00:00", Some(2.5), Some(2.5)),
    (None, "2026-01-02T12:00:00", None, None),
];

fn check(ttl: Option<Duration>, batches: &[RecordBatch]) {
    let entities = entity(&CASES.map(|case| (case.0, case.1)));
    let expected: Vec<_> = CASES
        .iter()
        .map(|case| if ttl.is_some() { case.2 } else { case.3 })
        .collect();
    let matches =
        join(&entities, batches, &["e"], &["value"], &options(ttl, false)).expect("a valid join");
    assert_eq!(
        all_doubles(&matches),
        expected,
        "ttl {ttl:?}, {} batches",
        batches.len()
    );
}

#[test]
fn every_case_with_and_without_ttl() {
    for ttl in [Some(DAY), None] {
        check(ttl, &[view(&all_rows())]);
    }
}

#[test]
fn a_batch_per_row_gives_the_same() {
    let single: Vec<_> = all_rows().into_iter().map(|row| view(&[row])).collect();
    for ttl in [Some(DAY), None] {
        check(ttl, &single);
    }
}

#[test]
fn each_case_alone_gives_the_same() {
    for (key, time, with_ttl, without) in CASES {
        for (ttl, expected) in [(Some(DAY), with_ttl), (None, without)] {
            let matches = join(
                &entity(&[(key, time)]),
                &[view(&all_rows())],
                &["e"],
                &["value"],
                &options(ttl, false),
            );
            assert_eq!(
                all_doubles(&matches.expect("a valid join")),
                [expected],
                "{key:?} at {time}"
            );
        }
    }
}

#[test]
fn duplicates_keep_their_own_rows() {
    let entities = batch(&[
        ("e", ints(&[Some(1), Some(1)])),
        (
            "time",
            instants(&["2026-01-02T12:00:00", "2026-01-02T12:00:00"]),
        ),
        (
            "label",
            Arc::new(StringArray::from(vec!["A", "B"])) as ArrayRef,
        ),
    ]);
    let matches = join(
        &entities,
        &[view(&all_rows())],
        &["e"],
        &["value"],
        &options(Some(DAY), false),
    );
    assert_eq!(
        all_doubles(&matches.expect("a valid join")),
        [Some(2.5), Some(2.5)]
    );
}

#[test]
fn null_in_the_winner_is_a_match_without_value() {
    let entities = entity(&[
        (Some(2), "2026-01-01T12:00:00"),
        (Some(3), "2026-01-01T12:00:00"),
    ]);
    let matches = join(
        &entities,
        &[view(&all_rows())],
        &["e"],
        &["value"],
        &options(None, false),
    )
    .expect("a valid join");
    assert!(matches.is_match(0) && !matches.is_match(1) && !matches.is_match(2));
}
