//! The golden cases, through the API: historical retrieval, and what the online store says of them.

use std::{sync::Arc, time::UNIX_EPOCH};

use arrow::{
    array::{ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::Float64Type,
};
use mlplat::{
    Value,
    features::{FeatureStatus, HistoricalQuery, KnownAt, Materialize, OnlineQuery},
};
use mlplat_tests::TestServer;

use super::{DAY, apply_view, instants, table, whole};

fn feature_rows() -> RecordBatch {
    let e = [1, 1, 1, 2, 2, 4, 5, 6, 6];
    let event = [
        "2026-01-01T00:00:00Z",
        "2026-01-02T00:00:00Z",
        "2026-01-02T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "2025-12-31T23:00:00Z",
        "2026-01-05T00:00:00Z",
        "2026-01-01T00:00:00.000001Z",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    ];
    let created = [
        "2026-01-01T00:10:00Z",
        "2026-01-02T00:10:00Z",
        "2026-01-02T00:20:00Z",
        "",
        "",
        "",
        "",
        "2026-01-01T00:10:00Z",
        "2026-01-01T00:10:00Z",
    ];
    let value = [
        Some(1.0),
        Some(2.0),
        Some(2.5),
        None,
        Some(9.0),
        Some(4.0),
        Some(5.0),
        Some(6.0),
        Some(6.5),
    ];
    table(vec![
        ("e", Arc::new(Int64Array::from(e.to_vec())) as ArrayRef),
        ("event", instants(&event)),
        ("created", instants(&created)),
        ("value", Arc::new(Float64Array::from(value.to_vec()))),
    ])
}

/// Key, time, value with a TTL of a day, value without.
type Case = (Option<i64>, &'static str, Option<f64>, Option<f64>);

const CASES: [Case; 12] = [
    (Some(1), "2026-01-02T00:00:00Z", Some(2.5), Some(2.5)),
    (Some(1), "2026-01-01T23:59:59.999999Z", Some(1.0), Some(1.0)),
    (Some(1), "2026-01-03T00:00:00Z", Some(2.5), Some(2.5)),
    (Some(1), "2026-01-03T00:00:00.000001Z", None, Some(2.5)),
    (Some(2), "2026-01-01T12:00:00Z", None, None),
    (Some(3), "2026-01-01T12:00:00Z", None, None),
    (Some(4), "2026-01-01T12:00:00Z", None, None),
    (Some(5), "2026-01-01T00:00:00Z", None, None),
    (Some(6), "2026-01-01T00:00:00Z", Some(6.5), Some(6.5)),
    (Some(1), "2026-01-02T12:00:00Z", Some(2.5), Some(2.5)),
    (Some(1), "2026-01-02T12:00:00Z", Some(2.5), Some(2.5)),
    (None, "2026-01-02T12:00:00Z", None, None),
];

fn entity_rows() -> RecordBatch {
    let labels: Vec<String> = (0..CASES.len()).map(|row| format!("row {row}")).collect();
    table(vec![
        ("label", Arc::new(StringArray::from(labels)) as ArrayRef),
        (
            "e",
            Arc::new(CASES.iter().map(|case| case.0).collect::<Int64Array>()),
        ),
        ("event_timestamp", instants(&CASES.map(|case| case.1))),
    ])
}

fn values(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    batch
        .column_by_name(column)
        .expect("the column")
        .as_primitive::<Float64Type>()
        .iter()
        .collect()
}

#[tokio::test]
async fn every_case_with_and_without_ttl() {
    let server = TestServer::start().await;
    let client = server.client();
    apply_view(
        &client,
        &server.folder(),
        "short",
        &feature_rows(),
        &["e"],
        Some(DAY),
    )
    .await;
    apply_view(
        &client,
        &server.folder(),
        "long",
        &feature_rows(),
        &["e"],
        None,
    )
    .await;
    let entities = entity_rows();
    let query = HistoricalQuery::new(["short:value", "long:value"])
        .timestamp("event_timestamp")
        .full_names(true);
    let result = client
        .features()
        .historical(query, entities.clone())
        .await
        .expect("sent")
        .collect()
        .await
        .expect("complete");
    let result = whole(&result);
    assert_eq!(result.num_rows(), CASES.len());
    // What came in comes out, unchanged and in order.
    for (index, field) in entities.schema().fields().iter().enumerate() {
        assert_eq!(result.schema().field(index), field.as_ref());
        assert_eq!(result.column(index), entities.column(index));
    }
    assert_eq!(values(&result, "short__value"), CASES.map(|case| case.2));
    assert_eq!(values(&result, "long__value"), CASES.map(|case| case.3));
    server.stop().await;
}

#[tokio::test]
async fn known_at_entity_leaves_out_what_was_written_later() {
    let server = TestServer::start().await;
    let client = server.client();
    apply_view(
        &client,
        &server.folder(),
        "v",
        &feature_rows(),
        &["e"],
        None,
    )
    .await;
    let entities = table(vec![
        ("e", Arc::new(Int64Array::from(vec![1, 1, 1])) as ArrayRef),
        (
            "t",
            instants(&[
                "2026-01-02T00:15:00Z",
                "2026-01-02T00:20:00Z",
                "2026-01-01T00:05:00Z",
            ]),
        ),
    ]);
    let query = HistoricalQuery::new(["v:value"])
        .timestamp("t")
        .known_at(KnownAt::Entity);
    let result = client
        .features()
        .historical(query, entities)
        .await
        .expect("sent")
        .collect()
        .await
        .expect("complete");
    assert_eq!(
        values(&whole(&result), "value"),
        [Some(2.0), Some(2.5), None]
    );
    server.stop().await;
}

#[tokio::test]
async fn online_says_the_same_and_why() {
    let server = TestServer::start().await;
    let client = server.client();
    apply_view(
        &client,
        &server.folder(),
        "v",
        &feature_rows(),
        &["e"],
        Some(DAY),
    )
    .await;
    let end = "2026-01-02T12:00:00Z";
    let end = UNIX_EPOCH
        + std::time::Duration::from_micros(
            mlplat_server::clock::Timestamp::parse(end)
                .expect("a time")
                .micros() as u64,
        );
    for _ in 0..2 {
        // The second time nothing is new, and nothing changes.
        client
            .features()
            .materialize(Materialize::new(["v"]).end(end))
            .await
            .expect("begun")
            .finish()
            .await
            .expect("done");
        let query = OnlineQuery::new(["v:value"]).columns(["e"]).at(end);
        let query = [1_i64, 2, 3, 4, 5, 6]
            .into_iter()
            .fold(query, |query, key| query.row([key]));
        let online = client.features().online(query).await.expect("an answer");
        let feature = &online.features[0];
        use FeatureStatus::{NotFound, OutsideMaxAge, Present};
        assert_eq!(
            feature.statuses,
            [
                Present,
                OutsideMaxAge,
                NotFound,
                NotFound,
                OutsideMaxAge,
                OutsideMaxAge
            ]
        );
        assert_eq!(feature.values[0], Value::from(2.5_f64));
    }
    // Within its day, the null of key 2 is a null and not a missing row.
    let noon = end - DAY;
    let query = OnlineQuery::new(["v:value"])
        .columns(["e"])
        .at(noon)
        .row([2_i64])
        .row([6_i64]);
    let online = client.features().online(query).await.expect("an answer");
    assert_eq!(
        online.features[0].statuses,
        [FeatureStatus::NullValue, FeatureStatus::Present]
    );
    assert_eq!(online.features[0].values[1], Value::from(6.5_f64));
    server.stop().await;
}
