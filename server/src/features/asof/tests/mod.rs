//! Tests of the join: the golden cases, the rules one by one, memory, and random cases against the oracle.

mod golden;
mod keys;
mod latest;
mod memory;
mod properties;
mod refusals;
mod rules;
mod values;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, Scalar,
    TimestampMicrosecondArray,
};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use arrow::compute::{and_kleene, cast, filter_record_batch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::{AsOf, AsOfOptions, EntitySide, FeatureSide, Matches, Pruning, Result};

/// A limit that no small test meets.
pub(super) const AMPLE: usize = 1 << 30;

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Nanoseconds of a time such as "2026-01-02T00:10:00".
pub(super) fn nanos(text: &str) -> i64 {
    string_to_timestamp_nanos(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A column of microseconds; "" is null.
pub(super) fn instants(texts: &[&str]) -> ArrayRef {
    let values = texts
        .iter()
        .map(|text| (!text.is_empty()).then(|| nanos(text) / 1_000));
    Arc::new(values.collect::<TimestampMicrosecondArray>())
}

pub(super) fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// A batch of nullable columns.
pub(super) fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let columns = columns
        .iter()
        .map(|(name, column)| (*name, column.clone(), true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

pub(super) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A view called "v" with the columns of `like`: `keys`, "event" and "created" where present, and `features`.
pub(super) fn side(like: &RecordBatch, keys: &[&str], features: &[&str]) -> FeatureSide {
    let present = |name: &str| {
        like.schema()
            .column_with_name(name)
            .map(|_| name.to_owned())
    };
    FeatureSide {
        view: "v".to_owned(),
        schema: like.schema(),
        keys: strings(keys),
        event_timestamp: present("event"),
        created_timestamp: present("created"),
        features: strings(features),
    }
}

pub(super) fn options(ttl: Option<Duration>, known_at_entity: bool) -> AsOfOptions {
    AsOfOptions {
        ttl,
        known_at_entity,
        memory_limit: AMPLE,
    }
}

/// Joins `batches` (at least one) of a view keyed by `keys` with `entities`, whose key columns have the same names and
/// whose timestamps are in "time".
pub(super) fn join(
    entities: &RecordBatch,
    batches: &[RecordBatch],
    keys: &[&str],
    features: &[&str],
    options: &AsOfOptions,
) -> Result<Matches> {
    let entity_side = EntitySide {
        schema: entities.schema(),
        batches: std::slice::from_ref(entities),
        keys: strings(keys),
        timestamp: "time".to_owned(),
    };
    let mut join = AsOf::new(&entity_side, &side(&batches[0], keys, features), options)?;
    for batch in batches {
        join.push(batch)?;
    }
    let matches = join.finish()?;
    assert_eq!(
        matches.len(),
        entities.num_rows(),
        "one output row per input row"
    );
    Ok(matches)
}

/// All rows of the only feature, as integers.
pub(super) fn all_ints(matches: &Matches) -> Vec<Option<i64>> {
    let features = matches.features(0..matches.len()).expect("a small result");
    features[0].as_primitive::<Int64Type>().iter().collect()
}

/// All rows of the only feature, as doubles.
pub(super) fn all_doubles(matches: &Matches) -> Vec<Option<f64>> {
    let features = matches.features(0..matches.len()).expect("a small result");
    assert_eq!(features[0].len(), matches.len());
    features[0].as_primitive::<Float64Type>().iter().collect()
}

/// What is left of a batch that a scan has pruned.
pub(super) fn prune(batch: &RecordBatch, pruning: &Pruning) -> RecordBatch {
    let mut keep = BooleanArray::from(vec![!pruning.nothing; batch.num_rows()]);
    for range in &pruning.ranges {
        let column = batch
            .column_by_name(&range.column)
            .expect("a column of the view");
        let column = match column.data_type() {
            DataType::Dictionary(_, values) => cast(column, values).expect("decodes"),
            _ => column.clone(),
        };
        let min = range
            .min
            .as_ref()
            .map(|min| gt_eq(&column, &Scalar::new(min)).expect("of one type"));
        let max = range
            .max
            .as_ref()
            .map(|max| lt_eq(&column, &Scalar::new(max)).expect("of one type"));
        for inside in [min, max].into_iter().flatten() {
            keep = and_kleene(&keep, &inside).expect("of one length");
        }
    }
    filter_record_batch(batch, &keep).expect("of one length")
}
