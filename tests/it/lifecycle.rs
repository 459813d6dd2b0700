//! From raw data to a model in production: the catalogue, and the lineage that nobody wrote by hand.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use mlplat::{
    Client, Error,
    catalogue::{ModelStage, NewModelVersion},
    features::{Entities, HistoricalQuery, Materialize},
    lineage::{Graph, NodeKind, NodeRef},
    tracking::{ActiveRun, NewRun, RunStatus},
};
use mlplat_tests::TestServer;

use crate::features::{DAY, apply_view, instants, table};

fn weather() -> RecordBatch {
    table(vec![
        (
            "origin",
            Arc::new(StringArray::from(vec!["JFK", "LGA"])) as ArrayRef,
        ),
        (
            "event",
            instants(&["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
        ),
        ("temp", Arc::new(Float64Array::from(vec![39.0, 40.0]))),
    ])
}

/// A training as users write it: features in, params, a metric and a model out.
async fn train(server: &TestServer, client: &Client) -> ActiveRun {
    apply_view(
        client,
        &server.folder(),
        "weather",
        &weather(),
        &["origin"],
        Some(DAY),
    )
    .await;
    let run = client
        .start_run(NewRun::new("delays").name("first"))
        .await
        .expect("started");
    let entities = table(vec![
        (
            "origin",
            Arc::new(StringArray::from(vec!["JFK"])) as ArrayRef,
        ),
        ("t", instants(&["2026-01-01T02:00:00Z"])),
    ]);
    let query = HistoricalQuery::new(["weather:temp"])
        .timestamp("t")
        .run(run.id());
    client
        .features()
        .historical(query, Entities::from(entities))
        .await
        .expect("sent")
        .collect()
        .await
        .expect("complete");
    run.log_param("depth", 3).expect("logged");
    run.log_metric("mae", 14.2, Some(1)).expect("logged");
    std::fs::write(server.folder().join("model.pkl"), b"a model").expect("written");
    run
}

fn names(graph: &Graph) -> Vec<String> {
    graph.nodes.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_version_captures_what_its_run_knew() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = train(&server, &client).await;
    let version = run
        .publish_model("arrival-delay", server.folder().join("model.pkl"))
        .await
        .expect("published");
    run.end(RunStatus::Finished, "").await.expect("ended");
    assert_eq!(
        (version.model.as_str(), version.version, version.stage),
        ("arrival-delay", 1, ModelStage::Development)
    );
    assert_eq!(
        (version.params["depth"].as_str(), version.metrics["mae"]),
        ("3", 14.2)
    );
    assert_eq!(
        (
            version.files.len(),
            version.files[0].path.as_str(),
            version.files[0].size_bytes
        ),
        (1, "model.pkl", 7)
    );
    let used = &version.feature_views[0];
    assert_eq!(
        (
            used.feature_view.as_str(),
            used.version,
            used.features.as_slice()
        ),
        ("weather", 1, &["temp".to_owned()][..])
    );

    // What the run does afterwards does not change what was captured.
    run.log_metric("mae", 1.0, Some(2)).expect("logged");
    let read = client
        .catalogue()
        .get_version("arrival-delay", 1)
        .await
        .expect("read");
    assert_eq!(read.metrics["mae"], 14.2);
    server.stop().await;
}

#[tokio::test]
async fn lineage_leads_from_the_model_to_the_file_and_back() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = train(&server, &client).await;
    let version = run
        .publish_model("arrival-delay", server.folder().join("model.pkl"))
        .await
        .expect("published");
    run.end(RunStatus::Finished, "").await.expect("ended");
    client
        .features()
        .materialize(Materialize::new(["weather"]))
        .await
        .expect("begun")
        .finish()
        .await
        .expect("done");

    let up = client.lineage().upstream(&version).await.expect("a graph");
    let shown = names(&up);
    for part in [
        "weather.parquet",
        "feature_views/weather",
        "training_sets/",
        "experiments/delays",
        "models/arrival-delay",
    ] {
        assert!(
            shown.iter().any(|node| node.contains(part)),
            "{part} is not in {shown:#?}"
        );
    }
    let file = up
        .nodes
        .iter()
        .find(|node| node.name.ends_with("weather.parquet"))
        .expect("the file");
    let path = up
        .path(&file.id, &up.nodes[0].id)
        .unwrap_or_else(|| panic!("no way from the file to the model: {up}"));
    assert!(
        path.iter()
            .any(|node| node.kind == NodeKind::Run && node.run_id == run.id()),
        "{up}"
    );
    assert!(!up.truncated);

    let down = client
        .lineage()
        .downstream(NodeRef::FeatureView("weather".to_owned()))
        .await
        .expect("a graph");
    assert!(
        names(&down)
            .iter()
            .any(|node| node.contains("models/arrival-delay")),
        "{:#?}",
        names(&down)
    );
    assert!(
        names(&down)
            .iter()
            .any(|node| node.contains("online/weather")),
        "{:#?}",
        names(&down)
    );
    server.stop().await;
}

#[tokio::test]
async fn every_change_is_an_event() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = train(&server, &client).await;
    run.publish_model("arrival-delay", server.folder().join("model.pkl"))
        .await
        .expect("published");
    run.end(RunStatus::Failed, "the disk is full")
        .await
        .expect("ended");
    let events = client
        .lineage()
        .events(Some(run.id()))
        .collect(None)
        .await
        .expect("events");
    let types: Vec<_> = events
        .iter()
        .rev()
        .map(|event| event.event_type.as_str())
        .collect();
    assert_eq!(
        types,
        ["START", "RUNNING", "RUNNING", "FAIL"],
        "{events:#?}"
    );
    let last = &events[0].openlineage;
    assert!(
        last.contains("the disk is full") && last.contains("\"depth\""),
        "{last}"
    );
    server.stop().await;
}

#[tokio::test]
async fn stages_and_aliases() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    let file = server.folder().join("m");
    std::fs::write(&file, b"m").expect("written");
    for expected in 1..=3 {
        assert_eq!(
            run.publish_model("m", &file)
                .await
                .expect("published")
                .version,
            expected
        );
    }
    let catalogue = client.catalogue();
    let skipped = catalogue
        .transition("m", 1, ModelStage::Production, "")
        .await
        .expect_err("not at once");
    assert_eq!(skipped.reason(), "STAGE_TRANSITION_NOT_ALLOWED");
    for stage in [
        ModelStage::Staging,
        ModelStage::Production,
        ModelStage::Archived,
        ModelStage::Development,
    ] {
        assert_eq!(
            catalogue
                .transition("m", 1, stage, "because")
                .await
                .expect("moved")
                .stage,
            stage
        );
    }
    catalogue.set_alias("m", "champion", 1).await.expect("set");
    catalogue
        .set_alias("m", "champion", 2)
        .await
        .expect("moved");
    assert_eq!(
        catalogue
            .get_version("m", "champion")
            .await
            .expect("read")
            .version,
        2
    );
    assert_eq!(
        catalogue
            .get_version("m", "latest")
            .await
            .expect("read")
            .version,
        3
    );
    for bad in ["latest", "7", "a b", ""] {
        let error = catalogue.set_alias("m", bad, 1).await.expect_err(bad);
        assert!(
            matches!(error, Error::InvalidArgument(_) | Error::Misuse(_)),
            "{bad}: {error:?}"
        );
    }
    let nothing = catalogue
        .set_alias("m", "x", 9)
        .await
        .expect_err("no such version");
    assert!(matches!(nothing, Error::NotFound(_)), "{nothing:?}");
    catalogue
        .delete_alias("m", "champion")
        .await
        .expect("removed");
    assert!(matches!(
        catalogue.get_version("m", "champion").await,
        Err(Error::NotFound(_))
    ));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_published_at_once_get_numbers_of_their_own() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    let file = server.folder().join("m");
    std::fs::write(&file, b"m").expect("written");
    run.log_artifact(&file).await.expect("uploaded");
    let publishing: Vec<_> = (0..8)
        .map(|_| {
            let (client, new) = (client.clone(), NewModelVersion::new("m", run.id()));
            tokio::spawn(async move {
                client
                    .catalogue()
                    .publish(new, "m")
                    .await
                    .expect("published")
                    .version
            })
        })
        .collect();
    let mut versions = Vec::new();
    for task in publishing {
        versions.push(task.await.expect("no panic"));
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    let nothing = client
        .catalogue()
        .publish(NewModelVersion::new("m", run.id()), "no/such/artifact")
        .await
        .expect_err("nothing");
    assert!(matches!(nothing, Error::NotFound(_)), "{nothing:?}");
    server.stop().await;
}
