//! Memory follows entity rows and winners, not feature rows; it has a limit; and the join is quick.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, StringViewArray,
    TimestampSecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type};

use super::super::{AsOf, AsOfError, AsOfOptions, EntitySide, ErrorKind};
use super::{all_ints, batch, options, side, strings};

/// Rows of `keys` keys, one second after the other from `start`; "n" is the time, "text" is 100 bytes wide.
fn wide(start: i64, rows: i64, keys: i64) -> RecordBatch {
    let times: Vec<i64> = (start..start + rows).collect();
    let text = times.iter().map(|time| format!("{time:0>100}"));
    batch(&[
        (
            "k",
            Arc::new(Int64Array::from_iter_values(
                times.iter().map(|time| time % keys),
            )) as ArrayRef,
        ),
        ("event", Arc::new(TimestampSecondArray::from(times.clone()))),
        ("n", Arc::new(Int64Array::from(times.clone()))),
        (
            "text",
            Arc::new(text.map(Some).collect::<StringViewArray>()),
        ),
    ])
}

fn entities(keys: &[i64], times: &[i64]) -> RecordBatch {
    batch(&[
        ("k", Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef),
        ("time", Arc::new(TimestampSecondArray::from(times.to_vec()))),
    ])
}

fn start(
    entities: &RecordBatch,
    like: &RecordBatch,
    features: &[&str],
    options: &AsOfOptions,
) -> Result<AsOf, AsOfError> {
    let entity_side = EntitySide {
        schema: entities.schema(),
        batches: std::slice::from_ref(entities),
        keys: strings(&["k"]),
        timestamp: "time".to_owned(),
    };
    AsOf::new(&entity_side, &side(like, &["k"], features), options)
}

#[test]
fn superseded_rows_are_freed() {
    const KEYS: i64 = 1_000;
    let keys: Vec<i64> = (0..KEYS).collect();
    let entities = entities(&keys, &vec![10_000_000; keys.len()]);
    let mut join = start(
        &entities,
        &wide(0, 1, 1),
        &["n", "text"],
        &options(None, false),
    )
    .expect("valid");
    let empty = join.retained_bytes();
    let (mut peak, mut pushed) = (0, 0);
    for number in 0..300 {
        let batch = wide(number * 1_000, 1_000, KEYS);
        pushed += batch.get_array_memory_size();
        join.push(&batch).expect("within the limit");
        peak = peak.max(join.retained_bytes() - empty);
    }
    // 1,000 winners of about 150 bytes, and what is put up with before they are copied
    assert!(
        peak < 2_000_000 && pushed > 40_000_000,
        "held {peak} of {pushed} bytes"
    );
    let matches = join.finish().expect("valid");
    let features = matches.features(0..matches.len()).expect("fits");
    let numbers = features[0].as_primitive::<Int64Type>();
    let texts = features[1].as_string_view();
    for (row, key) in keys.iter().enumerate() {
        assert_eq!(numbers.value(row), 299_000 + key);
        assert_eq!(texts.value(row), format!("{:0>100}", 299_000 + key));
    }
}

#[test]
fn a_winner_does_not_keep_its_batch_alive() {
    let entities = entities(&[0], &[1_000_000]);
    let mut join =
        start(&entities, &wide(0, 1, 1), &["text"], &options(None, false)).expect("valid");
    let empty = join.retained_bytes();
    let batch = wide(0, 50_000, 1);
    let column: &StringViewArray = batch.column(3).as_string_view();
    let buffer = column.data_buffers()[0].clone();
    let held = buffer.strong_count();
    join.push(&batch).expect("valid");
    assert_eq!(
        buffer.strong_count(),
        held,
        "the strings of the batch are not referred to"
    );
    assert!(join.retained_bytes() - empty < 2_000);
}

#[test]
fn many_small_batches_are_merged_and_stay_right() {
    const KEYS: i64 = 3_000;
    let keys: Vec<i64> = (0..KEYS).collect();
    let entities = entities(&keys, &vec![10_000_000; keys.len()]);
    let mut join = start(&entities, &wide(0, 1, 1), &["n"], &options(None, false)).expect("valid");
    let before = join.retained_bytes();
    for time in (0..2 * KEYS).rev() {
        join.push(&wide(time, 1, KEYS)).expect("within the limit");
    }
    // one array per batch would be ten times as much
    assert!(
        join.retained_bytes() - before < 150_000,
        "{} bytes",
        join.retained_bytes() - before
    );
    let expected: Vec<_> = (KEYS..2 * KEYS).map(Some).collect();
    assert_eq!(all_ints(&join.finish().expect("valid")), expected);
}

#[test]
fn the_limit_is_kept_and_told() {
    let keys: Vec<i64> = (0..1_000).collect();
    let entities = entities(&keys, &vec![10_000_000; keys.len()]);
    let limited = |memory_limit| AsOfOptions {
        memory_limit,
        ..options(None, false)
    };
    let error = start(&entities, &wide(0, 1, 1), &["text"], &limited(10_000))
        .expect_err("too little for the entity rows");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");

    let mut join = start(&entities, &wide(0, 1, 1), &["text"], &limited(200_000))
        .expect("enough for the entity rows");
    join.push(&wide(0, 100, 1_000))
        .expect("enough for 100 winners");
    let error = join
        .push(&wide(100, 900, 1_000))
        .expect_err("too little for 1,000 winners");
    assert!(
        matches!(&error, AsOfError::MemoryLimit { limit: 200_000, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("`v`") && error.to_string().contains("200000"),
        "{error}"
    );

    // garbage alone never meets the limit
    let mut join = start(&entities, &wide(0, 1, 1), &["text"], &limited(400_000)).expect("enough");
    for number in 0..100 {
        join.push(&wide(number * 1_000, 1_000, 1_000))
            .expect("enough for 1,000 winners");
    }
}

#[test]
fn a_year_of_flights_against_hourly_weather() {
    const FLIGHTS: i64 = 336_776;
    const HOURS: i64 = 8_705;
    let origins = ["EWR", "JFK", "LGA"];
    // minutes and origins in no order, three hours of ttl
    let minute = |flight: i64| flight * 7_919 % (HOURS * 60);
    let flights = batch(&[
        (
            "k",
            Arc::new(
                (0..FLIGHTS)
                    .map(|flight| Some(origins[flight as usize % 3]))
                    .collect::<StringArray>(),
            ) as ArrayRef,
        ),
        (
            "time",
            Arc::new(TimestampSecondArray::from_iter_values(
                (0..FLIGHTS).map(|flight| minute(flight) * 60),
            )),
        ),
    ]);
    // weather is missing every fifth hour
    let hours: Vec<(usize, i64)> = (0..3)
        .flat_map(|origin| {
            (0..HOURS)
                .filter(|hour| hour % 5 != 0)
                .map(move |hour| (origin, hour))
        })
        .collect();
    let weather = batch(&[
        (
            "k",
            Arc::new(
                hours
                    .iter()
                    .map(|(origin, _)| Some(origins[*origin]))
                    .collect::<StringViewArray>(),
            ) as ArrayRef,
        ),
        (
            "event",
            Arc::new(TimestampSecondArray::from_iter_values(
                hours.iter().map(|(_, hour)| hour * 3_600),
            )),
        ),
        (
            "temp",
            Arc::new(
                hours
                    .iter()
                    .map(|(origin, hour)| Some((*origin as i64 * 10_000 + hour) as f64))
                    .collect::<Float64Array>(),
            ),
        ),
    ]);
    let began = Instant::now();
    let options = options(Some(std::time::Duration::from_secs(3 * 3_600)), false);
    let mut join = start(&flights, &weather, &["temp"], &options).expect("valid");
    for offset in (0..weather.num_rows()).step_by(8_192) {
        join.push(&weather.slice(offset, 8_192.min(weather.num_rows() - offset)))
            .expect("within the limit");
    }
    let held = join.retained_bytes();
    let matches = join.finish().expect("valid");
    let column = matches.features(0..matches.len()).expect("fits").remove(0);
    println!(
        "{FLIGHTS} rows with {} rows in {:?}, {} MB held",
        weather.num_rows(),
        began.elapsed(),
        held >> 20
    );
    assert!(held < 64 << 20, "{held} bytes");
    let temps = column.as_primitive::<Float64Type>();
    for flight in 0..FLIGHTS {
        let hour = minute(flight) / 60;
        let last = if hour % 5 == 0 { hour - 1 } else { hour };
        let expected = (last > 0).then_some(((flight % 3) * 10_000 + last) as f64);
        let row = flight as usize;
        assert_eq!(
            temps.is_valid(row).then(|| temps.value(row)),
            expected,
            "flight {flight}"
        );
    }
}
