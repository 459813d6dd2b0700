//! Bad definitions, bad queries, bad files: each a clear error with a reason, never an internal one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use mlplat::{
    Client, Error,
    features::{
        ApplyOptions, Definitions, Entity, FeatureView, HistoricalQuery, OnDemandFeatureView,
        ParquetSource, SqlSource,
    },
};
use mlplat_tests::{TestServer, s3::TestS3};

use super::{apply_view, instants, table};

fn rows() -> RecordBatch {
    table(vec![
        ("e", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        (
            "event",
            instants(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        ),
        ("value", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
    ])
}

async fn apply_error(
    client: &Client,
    uri: String,
    change: impl FnOnce(FeatureView) -> FeatureView,
) -> Error {
    let definitions = Definitions::new()
        .with(Entity::new("e", ["e"]))
        .with(ParquetSource::new(uri).name("s").timestamp("event"))
        .with(change(FeatureView::new("v", "s").entities(["e"])));
    client
        .features()
        .apply(definitions, ApplyOptions::default())
        .await
        .expect_err("refused")
}

async fn historical_error(client: &Client, query: HistoricalQuery, entities: RecordBatch) -> Error {
    match client.features().historical(query, entities).await {
        Err(error) => error,
        Ok(stream) => stream.collect().await.expect_err("refused"),
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidArgument(_)
            | Error::NotFound(_)
            | Error::FailedPrecondition(_)
            | Error::PermissionDenied(_)
    )
}

#[tokio::test]
async fn definitions_that_do_not_fit_the_data() {
    let server = TestServer::start().await;
    let (client, folder) = (server.client(), server.folder());
    let good = folder.join("good.parquet");
    mlplat_tests::parquet::write(&good, &rows());
    let good = good.display().to_string();
    let broken = folder.join("broken.parquet");
    std::fs::write(&broken, b"PAR1 this is not a Parquet file PAR1").expect("written");

    let missing_column = apply_error(&client, good.clone(), |view| {
        view.features(["no_such_column"])
    })
    .await;
    assert!(
        is_refusal(&missing_column) && missing_column.to_string().contains("no_such_column"),
        "{missing_column}"
    );
    for uri in [
        folder.join("missing.parquet").display().to_string(),
        broken.display().to_string(),
        folder.join("*.nothing").display().to_string(),
        "relative.parquet".to_owned(),
        format!("{}/../x.parquet", folder.display()),
        "ftp://host/x.parquet".to_owned(),
    ] {
        let error = apply_error(&client, uri.clone(), |view| view).await;
        assert!(
            is_refusal(&error) && !error.reason().is_empty(),
            "{uri}: {error:?}"
        );
    }
    let key = Definitions::new()
        .with(Entity::new("x", ["no_key"]))
        .with(ParquetSource::new(good).name("s").timestamp("event"))
        .with(FeatureView::new("v", "s").entities(["x"]));
    let error = client
        .features()
        .apply(key, ApplyOptions::default())
        .await
        .expect_err("no such key");
    assert!(
        is_refusal(&error) && error.to_string().contains("no_key"),
        "{error}"
    );
    server.stop().await;
}

#[tokio::test]
async fn queries_that_do_not_fit_the_definitions() {
    let server = TestServer::start().await;
    let client = server.client();
    apply_view(&client, &server.folder(), "v", &rows(), &["e"], None).await;
    let time = || instants(&["2026-01-02T00:00:00Z"]);
    let e = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let fine = table(vec![("e", e()), ("t", time())]);

    let cases: Vec<(&str, HistoricalQuery, RecordBatch)> = vec![
        (
            "no_such_view",
            HistoricalQuery::new(["no_such_view:value"]).timestamp("t"),
            fine.clone(),
        ),
        (
            "no_such_feature",
            HistoricalQuery::new(["v:no_such_feature"]).timestamp("t"),
            fine.clone(),
        ),
        (
            "no_time",
            HistoricalQuery::new(["v:value"]).timestamp("no_time"),
            fine.clone(),
        ),
        (
            "\"e\"",
            HistoricalQuery::new(["v:value"]).timestamp("t"),
            table(vec![("x", e()), ("t", time())]),
        ),
        (
            "\"t\"",
            HistoricalQuery::new(["v:value"]).timestamp("t"),
            table(vec![("e", e()), ("t", text("yesterday"))]),
        ),
        (
            "\"e\"",
            HistoricalQuery::new(["v:value"]).timestamp("t"),
            table(vec![("e", text("one")), ("t", time())]),
        ),
    ];
    for (named, query, entities) in cases {
        let error = historical_error(&client, query, entities).await;
        let text = error.to_string().replace(['`', '\''], "\"");
        assert!(
            is_refusal(&error) && text.contains(named),
            "{named}: {error:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_changed_since_is_refused_when_pinned() {
    let server = TestServer::start().await;
    let (client, folder) = (server.client(), server.folder());
    apply_view(&client, &folder, "v", &rows(), &["e"], None).await;
    let entities = table(vec![
        ("e", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("t", instants(&["2026-01-02T00:00:00Z"])),
    ]);
    let query = || HistoricalQuery::new(["v:value"]).timestamp("t");
    let first = client
        .features()
        .historical(query(), entities.clone())
        .await
        .expect("sent")
        .collect()
        .await
        .expect("complete");
    let again = query().snapshots(first.snapshots.clone());
    let again = client
        .features()
        .historical(again, entities.clone())
        .await
        .expect("sent")
        .collect()
        .await
        .expect("the same");
    assert_eq!(again.batches, first.batches);

    let more = table(vec![
        ("e", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        (
            "event",
            instants(&[
                "2026-01-01T00:00:00Z",
                "2026-01-02T00:00:00Z",
                "2026-01-03T00:00:00Z",
            ]),
        ),
        ("value", Arc::new(Float64Array::from(vec![7.0, 8.0, 9.0]))),
    ]);
    mlplat_tests::parquet::write(&folder.join("v.parquet"), &more);
    let error = historical_error(&client, query().snapshots(first.snapshots), entities).await;
    assert!(
        matches!(error, Error::FailedPrecondition(_)) && error.reason() == "SOURCE_CHANGED",
        "{error:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn sources_in_s3() {
    let s3 = TestS3::start(&["data"]).await;
    let server = TestServer::builder()
        .config(|config| config.s3 = s3.config())
        .start()
        .await;
    let client = server.client();
    mlplat_tests::parquet::write(&s3.bucket_folder("data").join("v.parquet"), &rows());
    let view = |uri: &str| {
        Definitions::new()
            .with(Entity::new("e", ["e"]))
            .with(ParquetSource::new(uri).name("s").timestamp("event"))
            .with(FeatureView::new("v", "s").entities(["e"]))
    };
    client
        .features()
        .apply(view("s3://data/*.parquet"), ApplyOptions::default())
        .await
        .expect("applied");
    let entities = table(vec![
        ("e", Arc::new(Int64Array::from(vec![2])) as ArrayRef),
        ("t", instants(&["2026-01-02T00:00:00Z"])),
    ]);
    let result = client
        .features()
        .historical(HistoricalQuery::new(["v:value"]).timestamp("t"), entities)
        .await
        .expect("sent")
        .collect()
        .await
        .expect("complete");
    assert_eq!(
        super::whole(&result).column(2).as_ref(),
        &Float64Array::from(vec![2.0]) as &dyn arrow::array::Array
    );

    let error = client
        .features()
        .apply(
            view("s3://no-such-bucket/v.parquet"),
            ApplyOptions::default(),
        )
        .await
        .expect_err("refused");
    assert!(is_refusal(&error), "{error:?}");
    server.stop().await;
}

/// The tree of a long chain is as deep as the chain is long; a stack that overflows ends the whole server.
#[tokio::test]
async fn endless_sql_is_refused() {
    let server = TestServer::start().await;
    let client = server.client();
    apply_view(&client, &server.folder(), "v", &rows(), &["e"], None).await;
    let select = "SELECT e, event FROM sources.v";
    let tables: Vec<String> = (0..4000).map(|n| format!("sources.v t{n}")).collect();
    let queries = [
        format!(
            "SELECT e, event, {} AS y FROM sources.v",
            ["1"; 30_000].join("+")
        ),
        format!("{select} WHERE {}", ["e = 1"; 9000].join(" OR ")),
        [select; 2000].join(" UNION ALL "),
        format!(
            "SELECT e, event, e{} AS y FROM sources.v",
            " IS NULL".repeat(10_000)
        ),
        format!("SELECT t0.e, t0.event FROM {}", tables.join(",")),
    ];
    let apply = async |definitions: Definitions| {
        let features = client.features();
        let options = ApplyOptions::default();
        features
            .apply(definitions, options)
            .await
            .expect_err("refused")
    };
    for query in queries {
        let source = SqlSource::new("deep", query).timestamp("event");
        let refused = apply(Definitions::new().with(source)).await;
        assert!(matches!(refused, Error::InvalidArgument(_)), "{refused:?}");
    }
    let view =
        OnDemandFeatureView::new("deep", ["v:value"]).feature("f", ["value"; 5000].join("+"));
    let refused = apply(Definitions::new().with(view)).await;
    assert!(matches!(refused, Error::InvalidArgument(_)), "{refused:?}");

    let chain = (0..400).fold(Definitions::new(), |all, n| {
        let below = match n {
            0 => "v".to_owned(),
            n => format!("c{}", n - 1),
        };
        let query = format!("SELECT * FROM sources.{below}");
        all.with(SqlSource::new(format!("c{n}"), query).timestamp("event"))
    });
    let refused = apply(chain).await;
    assert!(
        refused.to_string().contains("rest on each other"),
        "{refused}"
    );
    client
        .admin()
        .server_info()
        .await
        .expect("the server lives");
    server.stop().await;
}
