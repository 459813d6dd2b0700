//! The rules one by one: knowledge, units, ties, static and entity-less views, nulls, pruning.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Date32Array, Date64Array, NullArray, RecordBatch, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::datatypes::{Int64Type, TimestampSecondType};

use super::super::{AsOf, EntitySide};
use super::{all_ints, batch, instants, ints, join, options, side, strings};

fn numbered(rows: usize) -> ArrayRef {
    ints(&(0..rows as i64).map(Some).collect::<Vec<_>>())
}

fn ones(rows: usize) -> ArrayRef {
    ints(&vec![Some(1); rows])
}

/// A view of key 1 whose feature "n" is the number of the row.
fn view(event: &[&str], created: &[&str]) -> RecordBatch {
    let n = event.len();
    batch(&[
        ("k", ones(n)),
        ("event", instants(event)),
        ("created", instants(created)),
        ("n", numbered(n)),
    ])
}

fn entities(times: &[&str]) -> RecordBatch {
    batch(&[("k", ones(times.len())), ("time", instants(times))])
}

#[test]
fn known_at_hides_what_was_written_later() {
    let view = view(
        &["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-03"],
        &["2026-01-01", "2026-01-02T06:00:00", "2026-01-05", ""],
    );
    let entities = entities(&[
        "2026-01-02T05:59:59",
        "2026-01-02T06:00:00",
        "2026-01-04",
        "2026-01-05",
        "2026-01-06",
    ]);
    let run = |ttl, known| {
        all_ints(
            &join(
                &entities,
                std::slice::from_ref(&view),
                &["k"],
                &["n"],
                &options(ttl, known),
            )
            .expect("valid"),
        )
    };
    assert_eq!(
        run(None, true),
        [Some(0), Some(1), Some(1), Some(2), Some(2)]
    );
    assert_eq!(
        run(None, false),
        [Some(2), Some(2), Some(3), Some(3), Some(3)]
    );
    // the ttl counts from the event, not from when it was known
    assert_eq!(
        run(Some(Duration::from_secs(2 * 86_400)), true),
        [Some(0), Some(1), Some(1), None, None]
    );
}

#[test]
fn a_late_backfill_does_not_displace_a_newer_event() {
    let view = view(&["2026-01-02", "2026-01-01"], &["2026-01-02", "2026-01-09"]);
    let matches = join(
        &entities(&["2026-01-10"]),
        &[view],
        &["k"],
        &["n"],
        &options(None, true),
    )
    .expect("valid");
    assert_eq!(all_ints(&matches), [Some(0)]);
}

#[test]
fn units_and_zones_mix_without_truncation() {
    // one nanosecond after, at, and before each feature row's instant
    let entity_times = TimestampNanosecondArray::from(vec![
        86_399_999_999_999,
        86_400_000_000_000,
        86_400_000_000_001,
    ]);
    let entities = batch(&[("k", ones(3)), ("time", Arc::new(entity_times) as ArrayRef)]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampSecondArray::from(vec![86_400])),
        Arc::new(TimestampMillisecondArray::from(vec![86_400_000]).with_timezone("+02:00")),
        Arc::new(
            TimestampMicrosecondArray::from(vec![86_400_000_000]).with_timezone("America/New_York"),
        ),
        Arc::new(TimestampNanosecondArray::from(vec![86_400_000_000_000]).with_timezone("UTC")),
        Arc::new(Date32Array::from(vec![1])),
        Arc::new(Date64Array::from(vec![86_400_000])),
    ];
    for column in columns {
        let data_type = column.data_type().clone();
        let view = batch(&[("k", ones(1)), ("event", column), ("n", numbered(1))]);
        let run = |ttl| {
            all_ints(
                &join(
                    &entities,
                    std::slice::from_ref(&view),
                    &["k"],
                    &["n"],
                    &options(ttl, false),
                )
                .expect("valid"),
            )
        };
        assert_eq!(run(None), [None, Some(0), Some(0)], "{data_type}");
        assert_eq!(
            run(Some(Duration::ZERO)),
            [None, Some(0), None],
            "{data_type}"
        );
        assert_eq!(
            run(Some(Duration::from_nanos(1))),
            [None, Some(0), Some(0)],
            "{data_type}"
        );
    }
}

#[test]
fn a_fractional_ttl_is_exact_against_coarse_units() {
    let view = batch(&[
        ("k", ones(1)),
        (
            "event",
            Arc::new(TimestampSecondArray::from(vec![10])) as ArrayRef,
        ),
        ("n", numbered(1)),
    ]);
    let times = TimestampMillisecondArray::from(vec![10_499, 10_500, 10_501]);
    let entities = batch(&[("k", ones(3)), ("time", Arc::new(times) as ArrayRef)]);
    let matches = join(
        &entities,
        &[view],
        &["k"],
        &["n"],
        &options(Some(Duration::from_millis(500)), false),
    )
    .expect("valid");
    assert_eq!(all_ints(&matches), [Some(0), Some(0), None]);
}

#[test]
fn extreme_instants_and_ttls_do_not_overflow() {
    let view = batch(&[
        ("k", ones(2)),
        (
            "event",
            Arc::new(TimestampSecondArray::from(vec![i64::MIN, i64::MAX])) as ArrayRef,
        ),
        ("n", numbered(2)),
    ]);
    let times = TimestampSecondArray::from(vec![i64::MIN, 0, i64::MAX]);
    let entities = batch(&[("k", ones(3)), ("time", Arc::new(times) as ArrayRef)]);
    for ttl in [None, Some(Duration::MAX)] {
        let matches = join(
            &entities,
            std::slice::from_ref(&view),
            &["k"],
            &["n"],
            &options(ttl, false),
        )
        .expect("valid");
        assert_eq!(all_ints(&matches), [Some(0), Some(0), Some(1)]);
    }
}

#[test]
fn ties_go_to_created_then_to_the_last_written() {
    let at = "2026-01-01";
    let first = view(&[at, at, at], &["2026-01-03", "", "2026-01-02"]);
    let entities = entities(&["2026-01-10"]);
    let matches = join(&entities, &[first], &["k"], &["n"], &options(None, false)).expect("valid");
    assert_eq!(all_ints(&matches), [Some(0)], "null is the lowest");

    // full ties across pushes, with and without created timestamps
    let tied = |n: i64| {
        batch(&[
            ("k", ones(1)),
            ("event", instants(&[at])),
            ("n", ints(&[Some(n)])),
        ])
    };
    let batches: Vec<_> = (0..40).map(tied).collect();
    let matches = join(&entities, &batches, &["k"], &["n"], &options(None, false)).expect("valid");
    assert_eq!(all_ints(&matches), [Some(39)]);
}

#[test]
fn parts_decide_ties_whatever_their_arrival() {
    let at = "2026-01-01";
    let tied = |n: i64| {
        batch(&[
            ("k", ones(1)),
            ("event", instants(&[at])),
            ("n", ints(&[Some(n)])),
        ])
    };
    let entities = entities(&["2026-01-10"]);
    let entity_side = EntitySide {
        schema: entities.schema(),
        batches: std::slice::from_ref(&entities),
        keys: strings(&["k"]),
        timestamp: "time".to_owned(),
    };
    for order in [
        [(0, 1), (2, 5), (2, 6), (1, 3)],
        [(2, 5), (1, 3), (0, 1), (2, 6)],
    ] {
        let mut join = AsOf::new(
            &entity_side,
            &side(&tied(0), &["k"], &["n"]),
            &options(None, false),
        )
        .expect("valid");
        for (part, n) in order {
            join.push_part(part, &tied(n)).expect("valid");
        }
        assert_eq!(all_ints(&join.finish().expect("valid")), [Some(6)]);
    }
}

#[test]
fn a_static_view_is_always_valid() {
    let entities = batch(&[
        ("k", ints(&[Some(1), Some(2), None])),
        (
            "time",
            instants(&["1970-01-01", "2026-01-01", "2026-01-01"]),
        ),
    ]);
    let view = batch(&[
        ("k", ints(&[Some(1), Some(1), Some(2)])),
        ("n", numbered(3)),
    ]);
    // a ttl has nothing to count from
    for ttl in [None, Some(Duration::ZERO)] {
        let matches = join(
            &entities,
            std::slice::from_ref(&view),
            &["k"],
            &["n"],
            &options(ttl, true),
        )
        .expect("valid");
        assert_eq!(all_ints(&matches), [Some(1), Some(2), None]);
    }
}

#[test]
fn a_static_view_prefers_the_last_created_and_honours_known_at() {
    let view = batch(&[
        ("k", ones(3)),
        ("created", instants(&["2026-01-05", "2026-01-03", ""])),
        ("n", numbered(3)),
    ]);
    let entities = entities(&["2026-01-01", "2026-01-04", "2026-01-06"]);
    let run = |known| {
        all_ints(
            &join(
                &entities,
                std::slice::from_ref(&view),
                &["k"],
                &["n"],
                &options(None, known),
            )
            .expect("valid"),
        )
    };
    assert_eq!(run(false), [Some(0), Some(0), Some(0)]);
    assert_eq!(run(true), [None, Some(1), Some(0)]);
}

#[test]
fn a_view_without_entities_applies_to_every_row() {
    let view = batch(&[
        ("event", instants(&["2026-01-01", "2026-01-03"])),
        ("n", numbered(2)),
    ]);
    let entities = entities(&["2026-01-02", "2025-12-31", "", "2026-01-03"]);
    let matches = join(&entities, &[view], &[], &["n"], &options(None, false)).expect("valid");
    assert_eq!(all_ints(&matches), [Some(0), None, None, Some(1)]);
}

#[test]
fn null_timestamps_never_match() {
    let view = view(&["", "2026-01-01"], &["2026-01-09", ""]);
    let entities = entities(&["2026-01-02", ""]);
    let matches = join(&entities, &[view], &["k"], &["n"], &options(None, false)).expect("valid");
    assert_eq!(all_ints(&matches), [Some(1), None]);

    // a column without any value has no type of its own
    let untyped = batch(&[
        ("k", ones(1)),
        ("event", Arc::new(NullArray::new(1)) as ArrayRef),
        ("n", numbered(1)),
    ]);
    let matches =
        join(&entities, &[untyped], &["k"], &["n"], &options(None, false)).expect("valid");
    assert_eq!(all_ints(&matches), [None, None]);
}

#[test]
fn pruning_bounds_are_inclusive_and_in_the_columns_own_type() {
    let times = TimestampMillisecondArray::from(vec![Some(10_500), Some(20_999), None]);
    let entities = batch(&[
        ("k", ints(&[Some(7), Some(3), Some(900)])),
        ("time", Arc::new(times) as ArrayRef),
    ]);
    let view = batch(&[
        ("k", ones(1)),
        (
            "event",
            Arc::new(TimestampSecondArray::from(vec![10])) as ArrayRef,
        ),
        ("n", numbered(1)),
    ]);
    let entity_side = EntitySide {
        schema: entities.schema(),
        batches: std::slice::from_ref(&entities),
        keys: strings(&["k"]),
        timestamp: "time".to_owned(),
    };
    let pruning = |ttl| {
        let join = AsOf::new(
            &entity_side,
            &side(&view, &["k"], &["n"]),
            &options(ttl, false),
        )
        .expect("valid");
        join.pruning().clone()
    };
    let second = |array: &Option<ArrayRef>| {
        array
            .as_ref()
            .map(|array| array.as_primitive::<TimestampSecondType>().value(0))
    };
    let with_ttl = pruning(Some(Duration::from_millis(1_100)));
    assert!(!with_ttl.nothing);
    assert_eq!(with_ttl.ranges[0].column, "event");
    assert_eq!(
        second(&with_ttl.ranges[0].min),
        Some(10),
        "9.4 s rounded up"
    );
    assert_eq!(
        second(&with_ttl.ranges[0].max),
        Some(20),
        "20.999 s rounded down"
    );
    assert_eq!(second(&pruning(None).ranges[0].min), None);
    let key = |array: &Option<ArrayRef>| {
        array
            .as_ref()
            .map(|array| array.as_primitive::<Int64Type>().value(0))
    };
    assert_eq!(with_ttl.ranges[1].column, "k");
    assert_eq!(
        (key(&with_ttl.ranges[1].min), key(&with_ttl.ranges[1].max)),
        (Some(3), Some(900))
    );
}

#[test]
fn pruning_says_when_nothing_can_match() {
    let view = view(&["2026-01-01"], &[""]);
    for entities in [
        entities(&[]),
        entities(&[""]),
        batch(&[("k", ints(&[None])), ("time", instants(&["2026-01-01"]))]),
    ] {
        let entity_side = EntitySide {
            schema: entities.schema(),
            batches: std::slice::from_ref(&entities),
            keys: strings(&["k"]),
            timestamp: "time".to_owned(),
        };
        let mut join = AsOf::new(
            &entity_side,
            &side(&view, &["k"], &["n"]),
            &options(None, false),
        )
        .expect("valid");
        assert!(join.pruning().nothing);
        join.push(&view).expect("valid");
        assert_eq!(
            all_ints(&join.finish().expect("valid")),
            vec![None; entities.num_rows()]
        );
    }
}
