//! How runs come to be: at once, by several calls, with much of everything, and not at all.

use std::{collections::HashMap, ops::Range};

use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use mlplat_tests::TestServer;
use tonic::Code;
use uuid::Uuid;

fn tags(keys: Range<i32>) -> HashMap<String, String> {
    keys.map(|key| (format!("t{key}"), key.to_string()))
        .collect()
}

#[tokio::test]
async fn calls_that_create_the_same_at_once_get_the_same() {
    let server = TestServer::start().await;
    let tracking = TrackingServiceClient::new(server.channel().await);
    for round in 0..10 {
        // Once with an id that the client makes, once with one of the call alone.
        let (run_id, request_id) = match round % 2 {
            0 => (Uuid::now_v7().to_string(), String::new()),
            _ => (String::new(), Uuid::now_v7().to_string()),
        };
        let calls = (0..8).map(|_| {
            let mut tracking = tracking.clone();
            let create = pb::CreateRunRequest {
                run_id: run_id.clone(),
                request_id: request_id.clone(),
                experiment: format!("round {round}"),
                name: "the one".to_owned(),
                tags: tags(0..3),
                ..Default::default()
            };
            tokio::spawn(async move { tracking.create_run(create).await })
        });
        let mut created = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            let answer = call.await.expect("no panic").expect("created");
            created.push(answer.into_inner().run.expect("a run"));
        }
        assert!(created.iter().all(|run| *run == created[0]), "{created:?}");
        let search = pb::SearchRunsRequest {
            experiments: vec![format!("round {round}")],
            ..Default::default()
        };
        let found = tracking.clone().search_runs(search).await.expect("found");
        assert_eq!(found.into_inner().runs, created[..1]);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_takes_many_statements_is_stored_as_well() {
    let server = TestServer::start().await;
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    let create = pb::CreateRunRequest {
        tags: tags(0..9_500),
        ..Default::default()
    };
    let run = tracking.create_run(create.clone()).await.expect("created");
    let run = run.into_inner().run.expect("a run");
    assert_eq!(run.tags, create.tags);
    let again = pb::CreateRunRequest {
        run_id: run.id.clone(),
        ..create
    };
    let again = tracking.create_run(again).await.expect("the same");
    assert_eq!(again.into_inner().run.as_ref(), Some(&run));

    let update = pb::UpdateRunRequest {
        run: Some(pb::Run {
            id: run.id.clone(),
            tags: tags(9_000..19_000),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["tags".to_owned()],
        }),
        ..Default::default()
    };
    let updated = tracking.update_run(update).await.expect("updated");
    assert_eq!(
        updated.into_inner().run.expect("a run").tags,
        tags(9_000..19_000)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_run_that_is_refused_leaves_no_experiment() {
    let server = TestServer::start().await;
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    let create = pb::CreateRunRequest {
        experiment: "new".to_owned(),
        tags: tags(0..10_001),
        ..Default::default()
    };
    let refused = tracking.create_run(create).await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let experiment = pb::GetExperimentRequest {
        name: "new".to_owned(),
        ..Default::default()
    };
    let none = tracking.get_experiment(experiment).await.expect_err("none");
    assert_eq!(none.code(), Code::NotFound);
    server.stop().await;
}
