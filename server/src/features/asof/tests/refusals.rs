//! What the join refuses, and that the message says what to do.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use super::super::{AsOf, AsOfError, EntitySide, ErrorKind, FeatureSide};
use super::{batch, instants, ints, options, side, strings};

fn entities() -> RecordBatch {
    batch(&[
        ("k", ints(&[Some(1)])),
        ("time", instants(&["2026-01-02"])),
        ("text", text()),
    ])
}

fn view() -> RecordBatch {
    batch(&[
        ("k", ints(&[Some(1)])),
        ("event", instants(&["2026-01-01"])),
        ("n", ints(&[Some(1)])),
        ("text", text()),
    ])
}

fn text() -> ArrayRef {
    Arc::new(StringArray::from(vec!["x"]))
}

/// The refusal of a join whose sides were changed by `change`.
fn refusal(known_at: bool, change: impl Fn(&mut EntitySide<'_>, &mut FeatureSide)) -> AsOfError {
    let entities = entities();
    let mut entity_side = EntitySide {
        schema: entities.schema(),
        batches: std::slice::from_ref(&entities),
        keys: strings(&["k"]),
        timestamp: "time".to_owned(),
    };
    let mut feature_side = side(&view(), &["k"], &["n"]);
    change(&mut entity_side, &mut feature_side);
    let error =
        AsOf::new(&entity_side, &feature_side, &options(None, known_at)).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error
}

#[test]
fn missing_columns_are_named_with_those_that_exist() {
    let error = refusal(false, |entity, _| entity.keys = strings(&["nope"])).to_string();
    assert!(
        error.contains("entity table") && error.contains("`nope`") && error.contains("`text`"),
        "{error}"
    );
    let error = refusal(false, |entity, _| entity.timestamp = "when".to_owned()).to_string();
    assert!(
        error.contains("entity table") && error.contains("`when`"),
        "{error}"
    );
    let error = refusal(false, |_, feature| feature.features = strings(&["m"])).to_string();
    assert!(
        error.contains("feature view `v`") && error.contains("`m`") && error.contains("`n`"),
        "{error}"
    );
    let error = refusal(false, |_, feature| {
        feature.created_timestamp = Some("c".to_owned())
    })
    .to_string();
    assert!(
        error.contains("feature view `v`") && error.contains("`c`"),
        "{error}"
    );
}

#[test]
fn columns_of_one_name_are_ambiguous() {
    let twice = |like: &RecordBatch| {
        let mut fields: Vec<_> = like.schema().fields().iter().cloned().collect();
        fields.push(fields[0].clone());
        Arc::new(arrow::datatypes::Schema::new(fields))
    };
    let error = refusal(false, |entity, _| entity.schema = twice(&entities()));
    assert!(
        matches!(error, AsOfError::AmbiguousColumn { .. }),
        "{error}"
    );
}

#[test]
fn a_timestamp_must_be_an_instant() {
    let error = refusal(false, |entity, _| entity.timestamp = "text".to_owned()).to_string();
    assert!(
        error.contains("`text`") && error.contains("Utf8") && error.contains("Date32"),
        "{error}"
    );
    let error = refusal(false, |_, feature| {
        feature.event_timestamp = Some("n".to_owned())
    })
    .to_string();
    assert!(
        error.contains("`n`") && error.contains("Int64") && error.contains("Timestamp"),
        "{error}"
    );
}

#[test]
fn known_at_needs_a_created_timestamp() {
    let error = refusal(true, |_, _| {});
    assert!(
        matches!(error, AsOfError::KnownAtWithoutCreated { .. }),
        "{error}"
    );
}

#[test]
fn each_join_key_needs_one_entity_column() {
    let error = refusal(false, |entity, _| entity.keys.clear());
    assert!(
        matches!(
            error,
            AsOfError::KeyCount {
                expected: 1,
                given: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_batch_of_another_schema_ends_the_join() {
    let entities = entities();
    let entity_side = EntitySide {
        schema: entities.schema(),
        batches: std::slice::from_ref(&entities),
        keys: strings(&["k"]),
        timestamp: "time".to_owned(),
    };
    let mut join = AsOf::new(
        &entity_side,
        &side(&view(), &["k"], &["n"]),
        &options(None, false),
    )
    .expect("valid");
    let other = batch(&[
        ("k", ints(&[Some(1)])),
        ("event", instants(&["2026-01-01"])),
        ("n", text()),
    ]);
    let error = join.push(&other).expect_err("another schema");
    assert!(
        matches!(error, AsOfError::BatchSchema { .. }) && error.to_string().contains("`n`"),
        "{error}"
    );
    assert!(matches!(join.push(&view()), Err(AsOfError::Failed { .. })));
    assert!(matches!(join.finish(), Err(AsOfError::Failed { .. })));
}

#[test]
fn an_entity_batch_of_another_schema_is_refused() {
    let entities = entities();
    let entity_side = EntitySide {
        schema: batch(&[("k", text()), ("time", instants(&["2026-01-02"]))]).schema(),
        batches: std::slice::from_ref(&entities),
        keys: strings(&["k"]),
        timestamp: "time".to_owned(),
    };
    let like = batch(&[
        ("k", text()),
        ("event", instants(&["2026-01-01"])),
        ("n", ints(&[Some(1)])),
    ]);
    let error = AsOf::new(
        &entity_side,
        &side(&like, &["k"], &["n"]),
        &options(None, false),
    )
    .expect_err("another schema");
    assert!(matches!(error, AsOfError::BatchSchema { .. }), "{error}");
}
