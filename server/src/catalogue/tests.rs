//! The catalogue over a real database, through its handlers.

use std::sync::Arc;

use mlplat_proto::{
    catalogue::v1::{
        self as pb, ModelStage, catalogue_service_server::CatalogueService as _,
        get_model_version_request::Which,
    },
    lineage::v1::{self as lineage, lineage_service_server::LineageService as _},
    tracking::v1::{self as tracking, tracking_service_server::TrackingService as _},
};
use prost_types::FieldMask;
use sea_orm::{ActiveValue::Set, EntityTrait as _};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::Catalogue;
use crate::{
    app::App,
    auth::Caller,
    clock::{TestClock, Timestamp},
    config::Config,
    lineage::Lineage,
    tracking::{Background, Tracking, entity::artifact},
};

const MODEL: &str = "arrival-delay";

struct Bench {
    app: Arc<App>,
    catalogue: Catalogue,
    tracking: Tracking,
    _background: Background,
    _folder: tempfile::TempDir,
}

/// The request of the local owner.
fn ask<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::local_owner());
    request
}

fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: folder.path().to_owned(),
            ..Config::default()
        };
        let clock = Arc::new(TestClock::new(Timestamp(1_767_312_000_000_000)));
        let app = Arc::new(App::open(config, clock).await.unwrap());
        let (background, tracking) = Background::start(&app);
        Self {
            catalogue: Catalogue::new(Arc::clone(&app)),
            app,
            tracking,
            _background: background,
            _folder: folder,
        }
    }

    /// A run with a param, a metric and two files, `model.pkl` and `plots/a.png`.
    async fn run(&self) -> Uuid {
        let run_id = Uuid::now_v7();
        let service = &self.tracking;
        let create = tracking::CreateRunRequest {
            run_id: run_id.to_string(),
            experiment: "delays".to_owned(),
            ..Default::default()
        };
        service.create_run(ask(create)).await.unwrap();
        let series = |key: &str| tracking::MetricSeries {
            key: key.to_owned(),
            steps: vec![1, 2],
            timestamps_us: vec![1, 2],
            values: vec![14.2, 13.9],
        };
        let batch = tracking::LogBatchRequest {
            run_id: run_id.to_string(),
            params: [("depth".to_owned(), "3".to_owned())].into(),
            metrics: vec![series("mae"), series("system/cpu_percent")],
            ..Default::default()
        };
        service.log_batch(ask(batch)).await.unwrap();
        for (path, digest) in [("model.pkl", "a"), ("plots/a.png", "b"), ("plots.txt", "c")] {
            self.store_artifact(run_id, path, &digest.repeat(64)).await;
        }
        run_id
    }

    /// The record of a file, whose bytes nobody reads here.
    async fn store_artifact(&self, run_id: Uuid, path: &str, sha256: &str) {
        let row = artifact::ActiveModel {
            run_id: Set(run_id),
            path: Set(path.to_owned()),
            size_bytes: Set(1),
            sha256: Set(sha256.to_owned()),
            media_type: Set(String::new()),
            created_at: Set(0),
        };
        let txn = self.app.db.begin().await.unwrap();
        artifact::Entity::insert(row)
            .exec_without_returning(&txn)
            .await
            .unwrap();
        txn.commit().await.unwrap();
    }

    async fn publish(&self, run_id: Uuid, artifact_path: &str) -> Result<pb::ModelVersion, Status> {
        let message = pb::PublishModelVersionRequest {
            model: MODEL.to_owned(),
            run_id: run_id.to_string(),
            artifact_path: artifact_path.to_owned(),
            ..Default::default()
        };
        self.publish_message(message).await
    }

    async fn publish_message(
        &self,
        message: pb::PublishModelVersionRequest,
    ) -> Result<pb::ModelVersion, Status> {
        let answer = self.catalogue.publish_model_version(ask(message)).await?;
        Ok(answer.into_inner().model_version.unwrap())
    }

    async fn get(&self, which: Option<Which>) -> Result<pb::ModelVersion, Status> {
        let message = pb::GetModelVersionRequest {
            model: MODEL.to_owned(),
            which,
            ..Default::default()
        };
        Ok(self
            .catalogue
            .get_model_version(ask(message))
            .await?
            .into_inner()
            .model_version
            .unwrap())
    }

    async fn transition(
        &self,
        version: u32,
        stage: ModelStage,
        comment: &str,
    ) -> Result<pb::ModelVersion, Status> {
        let message = pb::TransitionModelVersionRequest {
            model: MODEL.to_owned(),
            version,
            stage: stage.into(),
            comment: comment.to_owned(),
            ..Default::default()
        };
        Ok(self
            .catalogue
            .transition_model_version(ask(message))
            .await?
            .into_inner()
            .model_version
            .unwrap())
    }

    async fn set_alias(&self, alias: &str, version: u32) -> Result<pb::RegisteredModel, Status> {
        let message = pb::SetModelAliasRequest {
            model: MODEL.to_owned(),
            alias: alias.to_owned(),
            version,
            ..Default::default()
        };
        Ok(self
            .catalogue
            .set_model_alias(ask(message))
            .await?
            .into_inner()
            .registered_model
            .unwrap())
    }

    async fn events(&self) -> Vec<serde_json::Value> {
        let request = lineage::ListEventsRequest::default();
        let answer = Lineage::new(Arc::clone(&self.app))
            .list_events(ask(request))
            .await
            .unwrap();
        answer
            .into_inner()
            .events
            .iter()
            .map(|event| serde_json::from_str(&event.openlineage).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn a_version_captures_its_run_as_it_is() {
    let bench = Bench::new().await;
    let run_id = bench.run().await;
    let version = bench.publish(run_id, "model.pkl").await.unwrap();
    assert_eq!(
        (version.version, version.stage()),
        (1, ModelStage::Development)
    );
    assert_eq!(version.run_id, run_id.to_string());
    let files: Vec<(&str, &str)> = version
        .files
        .iter()
        .map(|f| (f.path.as_str(), f.sha256.as_str()))
        .collect();
    assert_eq!(files, [("model.pkl", "a".repeat(64).as_str())]);
    assert_eq!(version.params["depth"], "3");
    // How the machine was is no part of it.
    assert_eq!(version.metrics, [("mae".to_owned(), 13.9)].into());
    // What the run does later is no part of the version.
    let batch = tracking::LogBatchRequest {
        run_id: run_id.to_string(),
        params: [("depth".to_owned(), "9".to_owned())].into(),
        ..Default::default()
    };
    bench.tracking.log_batch(ask(batch)).await.unwrap();
    assert_eq!(bench.get(None).await.unwrap(), version);
}

#[tokio::test]
async fn a_directory_is_published_with_all_its_files_and_only_these() {
    let bench = Bench::new().await;
    let version = bench.publish(bench.run().await, "plots/").await.unwrap();
    assert_eq!(version.artifact_path, "plots");
    let files: Vec<&str> = version.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(files, ["plots/a.png"]);
}

#[tokio::test]
async fn what_is_not_there_cannot_be_published() {
    let bench = Bench::new().await;
    let run_id = bench.run().await;
    let unknown_run = bench
        .publish(Uuid::now_v7(), "model.pkl")
        .await
        .unwrap_err();
    assert_eq!(
        (unknown_run.code(), reason(&unknown_run).as_str()),
        (Code::NotFound, "RUN_NOT_FOUND")
    );
    let unknown_path = bench.publish(run_id, "mod").await.unwrap_err();
    assert_eq!(
        (unknown_path.code(), reason(&unknown_path).as_str()),
        (Code::NotFound, "ARTIFACT_NOT_FOUND")
    );
    // Nothing is left of the attempts.
    let none = bench.get(None).await.unwrap_err();
    assert_eq!(reason(&none), "REGISTERED_MODEL_NOT_FOUND");
}

#[tokio::test]
async fn numbers_of_versions_are_given_once() {
    let bench = Arc::new(Bench::new().await);
    let run_id = bench.run().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move { bench.publish(run_id, "model.pkl").await.unwrap().version });
    }
    let mut numbers = tasks.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_publication_that_is_sent_again_makes_one_version() {
    let bench = Bench::new().await;
    let message = pb::PublishModelVersionRequest {
        model: MODEL.to_owned(),
        run_id: bench.run().await.to_string(),
        artifact_path: "model.pkl".to_owned(),
        request_id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let first = bench.publish_message(message.clone()).await.unwrap();
    assert_eq!(bench.publish_message(message).await.unwrap(), first);
    assert_eq!(bench.get(None).await.unwrap().version, 1);
}

#[tokio::test]
async fn aliases_move_and_go() {
    let bench = Bench::new().await;
    let run_id = bench.run().await;
    bench.publish(run_id, "model.pkl").await.unwrap();
    bench.publish(run_id, "model.pkl").await.unwrap();
    bench.set_alias("champion", 1).await.unwrap();
    let champion = || bench.get(Some(Which::Alias("champion".to_owned())));
    assert_eq!(champion().await.unwrap().version, 1);
    let model = bench.set_alias("champion", 2).await.unwrap();
    assert_eq!(model.aliases, [("champion".to_owned(), 2)].into());
    assert_eq!(champion().await.unwrap().aliases, ["champion"]);
    assert_eq!(
        bench.set_alias("champion", 3).await.unwrap_err().code(),
        Code::NotFound
    );

    let gone = || pb::DeleteModelAliasRequest {
        model: MODEL.to_owned(),
        alias: "champion".to_owned(),
        ..Default::default()
    };
    bench
        .catalogue
        .delete_model_alias(ask(gone()))
        .await
        .unwrap();
    assert_eq!(champion().await.unwrap_err().code(), Code::NotFound);
    let again = bench
        .catalogue
        .delete_model_alias(ask(gone()))
        .await
        .unwrap_err();
    assert_eq!(reason(&again), "MODEL_ALIAS_NOT_FOUND");
}

#[tokio::test]
async fn a_version_moves_one_step_at_a_time_and_the_lineage_knows_why() {
    let bench = Bench::new().await;
    bench.publish(bench.run().await, "model.pkl").await.unwrap();
    let refused = bench
        .transition(1, ModelStage::Production, "")
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "STAGE_TRANSITION_NOT_ALLOWED")
    );
    let staged = bench
        .transition(1, ModelStage::Staging, "looks good")
        .await
        .unwrap();
    assert_eq!(staged.stage(), ModelStage::Staging);
    let before = bench.events().await.len();
    bench
        .transition(1, ModelStage::Staging, "again")
        .await
        .unwrap();
    let events = bench.events().await;
    assert_eq!(events.len(), before, "being there already is no move");
    assert_eq!(events[0]["job"]["name"], format!("transition/{MODEL}"));
    let parameters = events[0]["run"]["facets"]["executionParameters"]["parameters"]
        .as_array()
        .unwrap();
    assert!(
        parameters.contains(&serde_json::json!({ "key": "comment", "value": "looks good" })),
        "{parameters:?}"
    );
}

#[tokio::test]
async fn a_version_comes_from_its_run_in_the_lineage() {
    let bench = Bench::new().await;
    let run_id = bench.run().await;
    bench.publish(run_id, "model.pkl").await.unwrap();
    let node = lineage::ModelVersionRef {
        model: MODEL.to_owned(),
        version: 1,
    };
    let request = lineage::GetLineageRequest {
        node: Some(lineage::NodeRef {
            node: Some(lineage::node_ref::Node::ModelVersion(node)),
        }),
        direction: lineage::Direction::Upstream.into(),
        ..Default::default()
    };
    let graph = Lineage::new(Arc::clone(&bench.app))
        .get_lineage(ask(request))
        .await
        .unwrap()
        .into_inner();
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    let artifact = format!("runs/{run_id}/artifacts/model.pkl");
    assert_eq!(
        names,
        [
            "models/arrival-delay",
            "publish/arrival-delay",
            &artifact,
            "experiments/delays"
        ]
    );
    let run = graph.nodes.last().unwrap();
    assert_eq!(
        (run.run_id.as_str(), run.state.as_str()),
        (run_id.to_string().as_str(), "RUNNING")
    );
}

#[tokio::test]
async fn notes_and_labels_change_and_lists_are_paged() {
    let bench = Bench::new().await;
    let run_id = bench.run().await;
    for _ in 0..3 {
        bench.publish(run_id, "model.pkl").await.unwrap();
    }
    let version = pb::ModelVersion {
        model: MODEL.to_owned(),
        version: 2,
        description: "the second".to_owned(),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        ..Default::default()
    };
    let update = pb::UpdateModelVersionRequest {
        model_version: Some(version),
        update_mask: Some(FieldMask {
            paths: vec!["tags".to_owned()],
        }),
        ..Default::default()
    };
    let changed = bench
        .catalogue
        .update_model_version(ask(update))
        .await
        .unwrap()
        .into_inner()
        .model_version
        .unwrap();
    assert_eq!(
        (changed.tags["k"].as_str(), changed.description.as_str()),
        ("v", "")
    );

    let list = |page_token: String| pb::ListModelVersionsRequest {
        model: MODEL.to_owned(),
        page_size: 2,
        page_token,
        ..Default::default()
    };
    let first = bench
        .catalogue
        .list_model_versions(ask(list(String::new())))
        .await
        .unwrap()
        .into_inner();
    let second = bench
        .catalogue
        .list_model_versions(ask(list(first.next_page_token)))
        .await
        .unwrap()
        .into_inner();
    let numbers: Vec<u32> = first
        .model_versions
        .iter()
        .chain(&second.model_versions)
        .map(|v| v.version)
        .collect();
    assert_eq!(
        (numbers, second.next_page_token.as_str()),
        (vec![3, 2, 1], "")
    );
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let bench = Bench::new().await;
    let new = || pb::CreateRegisteredModelRequest {
        name: MODEL.to_owned(),
        description: "minutes".to_owned(),
        ..Default::default()
    };
    bench
        .catalogue
        .create_registered_model(ask(new()))
        .await
        .unwrap();
    let taken = bench
        .catalogue
        .create_registered_model(ask(new()))
        .await
        .unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    // A model without versions has no newest one.
    assert_eq!(
        reason(&bench.get(None).await.unwrap_err()),
        "MODEL_VERSION_NOT_FOUND"
    );
    // Publishing into it keeps its notes.
    bench.publish(bench.run().await, "model.pkl").await.unwrap();
    let list = bench
        .catalogue
        .list_registered_models(ask(pb::ListRegisteredModelsRequest::default()))
        .await
        .unwrap();
    let [model] = &list.into_inner().registered_models[..] else {
        panic!("one model")
    };
    assert_eq!(
        (model.description.as_str(), model.latest_version),
        ("minutes", 1)
    );
}
