//! Every RPC of every service refuses the anonymous and the outsider. A new RPC without a sample here fails.

use arrow_flight::{FlightData, FlightDescriptor};
use mlplat_proto::{
    admin::v1 as admin, catalogue::v1 as catalogue, features::v1 as features,
    lineage::v1 as lineage, tracking::v1 as tracking,
};
use mlplat_tests::{TestServer, rpc};
use prost::Message as _;
use prost_types::{FieldMask, FileDescriptorSet};
use tonic::Code;
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// Any caller may ask these; they say nothing of what a project holds.
const FOR_EVERY_CALLER: [&str; 2] = [
    "/mlplat.admin.v1.AdminService/GetServerInfo",
    "/mlplat.admin.v1.AdminService/ListProjects",
];

fn methods() -> Vec<String> {
    let files = FileDescriptorSet::decode(mlplat_proto::FILE_DESCRIPTOR_SET)
        .expect("descriptors")
        .file;
    let ours = files
        .iter()
        .filter(|file| file.package().starts_with("mlplat."));
    ours.flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            service.method.iter().map(move |method| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            })
        })
    })
    .collect()
}

fn mask() -> Option<FieldMask> {
    Some(FieldMask {
        paths: vec!["description".to_owned()],
    })
}

/// A valid request of the method, or nothing when there is none.
fn sample(method: &str) -> Option<Vec<u8>> {
    let id = || Uuid::now_v7().to_string();
    let text = || "x".to_owned();
    let service = method
        .split(['.', '/'])
        .find(|part| part.ends_with("Service"))?;
    let name = method.rsplit('/').next()?;
    Some(match service {
        "AdminService" => admin_sample(name, text)?,
        "TrackingService" => tracking_sample(name, id, text)?,
        "ArtifactService" => artifact_sample(name, id, text)?,
        "FeatureStoreService" => features_sample(name, text)?,
        "CatalogueService" => catalogue_sample(name, id, text)?,
        "LineageService" => lineage_sample(name, id)?,
        "FlightService" => flight_sample(text),
        _ => return None,
    })
}

fn admin_sample(name: &str, text: impl Fn() -> String) -> Option<Vec<u8>> {
    Some(match name {
        "GetServerInfo" => admin::GetServerInfoRequest {}.encode_to_vec(),
        "CreateProject" => admin::CreateProjectRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetProject" => admin::GetProjectRequest::default().encode_to_vec(),
        "CollectGarbage" => admin::CollectGarbageRequest::default().encode_to_vec(),
        "ListProjects" => admin::ListProjectsRequest::default().encode_to_vec(),
        "UpdateProject" => {
            let project = Some(admin::Project {
                name: "default".to_owned(),
                ..Default::default()
            });
            admin::UpdateProjectRequest {
                project,
                update_mask: mask(),
            }
            .encode_to_vec()
        }
        _ => return None,
    })
}

fn tracking_sample(
    name: &str,
    id: impl Fn() -> String,
    text: impl Fn() -> String,
) -> Option<Vec<u8>> {
    Some(match name {
        "CreateExperiment" => tracking::CreateExperimentRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetExperiment" => tracking::GetExperimentRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListExperiments" => tracking::ListExperimentsRequest::default().encode_to_vec(),
        "UpdateExperiment" => {
            let experiment = Some(tracking::Experiment {
                name: text(),
                ..Default::default()
            });
            tracking::UpdateExperimentRequest {
                experiment,
                update_mask: mask(),
                ..Default::default()
            }
            .encode_to_vec()
        }
        "DeleteExperiment" => tracking::DeleteExperimentRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "RestoreExperiment" => tracking::RestoreExperimentRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "CreateRun" => tracking::CreateRunRequest {
            run_id: id(),
            experiment: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetRun" => tracking::GetRunRequest {
            run_id: id(),
            ..Default::default()
        }
        .encode_to_vec(),
        "UpdateRun" => {
            let run = Some(tracking::Run {
                id: id(),
                ..Default::default()
            });
            tracking::UpdateRunRequest {
                run,
                update_mask: mask(),
                ..Default::default()
            }
            .encode_to_vec()
        }
        "EndRun" => {
            let status = tracking::RunStatus::Finished.into();
            tracking::EndRunRequest {
                run_id: id(),
                status,
                ..Default::default()
            }
            .encode_to_vec()
        }
        "DeleteRuns" => tracking::DeleteRunsRequest {
            run_ids: vec![id()],
            ..Default::default()
        }
        .encode_to_vec(),
        "RestoreRuns" => tracking::RestoreRunsRequest {
            run_ids: vec![id()],
            ..Default::default()
        }
        .encode_to_vec(),
        "MoveRuns" => tracking::MoveRunsRequest {
            run_ids: vec![id()],
            experiment: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "DeleteParamsAndTags" => tracking::DeleteParamsAndTagsRequest {
            run_id: id(),
            tags: vec![text()],
            ..Default::default()
        }
        .encode_to_vec(),
        "LogInputs" => {
            let input = tracking::DatasetInput {
                name: text(),
                ..Default::default()
            };
            tracking::LogInputsRequest {
                run_id: id(),
                inputs: vec![input],
                ..Default::default()
            }
            .encode_to_vec()
        }
        "ResumeRun" => tracking::ResumeRunRequest {
            run_id: id(),
            ..Default::default()
        }
        .encode_to_vec(),
        "HeartbeatRuns" => tracking::HeartbeatRunsRequest {
            run_ids: vec![id()],
            ..Default::default()
        }
        .encode_to_vec(),
        "SearchRuns" => tracking::SearchRunsRequest::default().encode_to_vec(),
        "LogBatch" => {
            let params = [(text(), text())].into();
            tracking::LogBatchRequest {
                run_id: id(),
                params,
                ..Default::default()
            }
            .encode_to_vec()
        }
        "ReadMetricHistory" => tracking::ReadMetricHistoryRequest {
            run_id: id(),
            keys: vec![text()],
            ..Default::default()
        }
        .encode_to_vec(),
        _ => return None,
    })
}

fn artifact_sample(
    name: &str,
    id: impl Fn() -> String,
    text: impl Fn() -> String,
) -> Option<Vec<u8>> {
    Some(match name {
        "UploadArtifact" => {
            let header = tracking::ArtifactHeader {
                run_id: id(),
                path: text(),
                sha256: "0".repeat(64),
                ..Default::default()
            };
            tracking::UploadArtifactRequest {
                part: Some(tracking::upload_artifact_request::Part::Header(header)),
            }
            .encode_to_vec()
        }
        "UploadArtifacts" => tracking::UploadArtifactsRequest {
            run_id: id(),
            ..Default::default()
        }
        .encode_to_vec(),
        "BeginUpload" => tracking::BeginUploadRequest {
            run_id: id(),
            path: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "UploadPart" => {
            let header = tracking::UploadPartHeader {
                upload_id: id(),
                number: 1,
                ..Default::default()
            };
            tracking::UploadPartRequest {
                part: Some(tracking::upload_part_request::Part::Header(header)),
            }
            .encode_to_vec()
        }
        "SignUploadParts" => tracking::SignUploadPartsRequest {
            upload_id: id(),
            numbers: vec![1],
            ..Default::default()
        }
        .encode_to_vec(),
        "FinishUpload" => tracking::FinishUploadRequest {
            upload_id: id(),
            sha256: "0".repeat(64),
            ..Default::default()
        }
        .encode_to_vec(),
        "DownloadArtifacts" => tracking::DownloadArtifactsRequest {
            run_id: id(),
            paths: vec![text()],
            ..Default::default()
        }
        .encode_to_vec(),
        "SignDownload" => tracking::SignDownloadRequest {
            run_id: id(),
            path: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "DownloadArtifact" => tracking::DownloadArtifactRequest {
            run_id: id(),
            path: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetArtifact" => tracking::GetArtifactRequest {
            run_id: id(),
            path: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListArtifacts" => tracking::ListArtifactsRequest {
            run_id: id(),
            ..Default::default()
        }
        .encode_to_vec(),
        _ => return None,
    })
}

fn features_sample(name: &str, text: impl Fn() -> String) -> Option<Vec<u8>> {
    Some(match name {
        "Apply" => {
            let entity = features::Entity {
                name: text(),
                join_keys: vec![text()],
                ..Default::default()
            };
            features::ApplyRequest {
                entities: vec![entity],
                ..Default::default()
            }
            .encode_to_vec()
        }
        "GetEntity" => features::GetEntityRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListEntities" => features::ListEntitiesRequest::default().encode_to_vec(),
        "GetSource" => features::GetSourceRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListSources" => features::ListSourcesRequest::default().encode_to_vec(),
        "GetFeatureView" => features::GetFeatureViewRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListFeatureViews" => features::ListFeatureViewsRequest::default().encode_to_vec(),
        "GetOnDemandFeatureView" => features::GetOnDemandFeatureViewRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListOnDemandFeatureViews" => {
            features::ListOnDemandFeatureViewsRequest::default().encode_to_vec()
        }
        "GetFeatureService" => features::GetFeatureServiceRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListFeatureServices" => features::ListFeatureServicesRequest::default().encode_to_vec(),
        "Materialize" => features::MaterializeRequest::default().encode_to_vec(),
        "GetOnlineFeatures" => features::GetOnlineFeaturesRequest {
            features: vec!["x:y".to_owned()],
            columns: vec![text()],
            ..Default::default()
        }
        .encode_to_vec(),
        _ => return None,
    })
}

fn catalogue_sample(
    name: &str,
    id: impl Fn() -> String,
    text: impl Fn() -> String,
) -> Option<Vec<u8>> {
    Some(match name {
        "CreateRegisteredModel" => catalogue::CreateRegisteredModelRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetRegisteredModel" => catalogue::GetRegisteredModelRequest {
            name: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListRegisteredModels" => catalogue::ListRegisteredModelsRequest::default().encode_to_vec(),
        "UpdateRegisteredModel" => {
            let registered_model = Some(catalogue::RegisteredModel {
                name: text(),
                ..Default::default()
            });
            catalogue::UpdateRegisteredModelRequest {
                registered_model,
                update_mask: mask(),
                ..Default::default()
            }
            .encode_to_vec()
        }
        "PublishModelVersion" => catalogue::PublishModelVersionRequest {
            model: text(),
            run_id: id(),
            artifact_path: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetModelVersion" => catalogue::GetModelVersionRequest {
            model: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListModelVersions" => catalogue::ListModelVersionsRequest {
            model: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        "UpdateModelVersion" => {
            let model_version = Some(catalogue::ModelVersion {
                model: text(),
                version: 1,
                ..Default::default()
            });
            catalogue::UpdateModelVersionRequest {
                model_version,
                update_mask: mask(),
                ..Default::default()
            }
            .encode_to_vec()
        }
        "TransitionModelVersion" => catalogue::TransitionModelVersionRequest {
            model: text(),
            version: 1,
            stage: catalogue::ModelStage::Staging.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "SetModelAlias" => catalogue::SetModelAliasRequest {
            model: text(),
            alias: text(),
            version: 1,
            ..Default::default()
        }
        .encode_to_vec(),
        "DeleteModelAlias" => catalogue::DeleteModelAliasRequest {
            model: text(),
            alias: text(),
            ..Default::default()
        }
        .encode_to_vec(),
        _ => return None,
    })
}

fn lineage_sample(name: &str, id: impl Fn() -> String) -> Option<Vec<u8>> {
    Some(match name {
        "GetLineage" => {
            let node = Some(lineage::NodeRef {
                node: Some(lineage::node_ref::Node::RunId(id())),
            });
            lineage::GetLineageRequest {
                node,
                ..Default::default()
            }
            .encode_to_vec()
        }
        "ListEvents" => lineage::ListEventsRequest::default().encode_to_vec(),
        _ => return None,
    })
}

/// The first message of a historical retrieval.
fn flight_sample(text: impl Fn() -> String) -> Vec<u8> {
    let query = features::HistoricalFeaturesQuery {
        features: vec!["x:y".to_owned()],
        timestamp_column: text(),
        ..Default::default()
    };
    let descriptor = FlightDescriptor::new_cmd(query.encode_to_vec());
    FlightData {
        flight_descriptor: Some(descriptor),
        ..Default::default()
    }
    .encode_to_vec()
}

#[tokio::test]
async fn every_rpc_refuses_the_anonymous_and_the_outsider() {
    let server = TestServer::start().await;
    let mut methods = methods();
    methods.push("/arrow.flight.protocol.FlightService/DoExchange".to_owned());
    assert!(methods.len() > 40, "{methods:?}");
    for method in &methods {
        let message = sample(method).unwrap_or_else(|| panic!("{method} has no sample request"));
        let anonymous = rpc::call(
            server.channel_as("anonymous").await,
            method,
            message.clone(),
        )
        .await;
        let anonymous = anonymous.map(|_| ()).expect_err(method);
        assert_eq!(
            anonymous.code(),
            Code::Unauthenticated,
            "{method}: {anonymous:?}"
        );

        let outsider = rpc::call(server.channel_as("outsider").await, method, message).await;
        if FOR_EVERY_CALLER.contains(&method.as_str()) {
            outsider.unwrap_or_else(|status| panic!("{method}: {status:?}"));
            continue;
        }
        let outsider = outsider.map(|_| ()).expect_err(method);
        let reason = outsider
            .get_error_details()
            .error_info()
            .map(|info| info.reason.clone())
            .unwrap_or_default();
        // What the outsider may not see is not there; what belongs to the platform is refused.
        let refused = match outsider.code() {
            Code::NotFound => reason == "PROJECT_NOT_FOUND",
            Code::PermissionDenied => method.ends_with("/CreateProject"),
            _ => false,
        };
        assert!(refused, "{method}: {outsider:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_lists_of_an_outsider_are_empty() {
    let server = TestServer::start().await;
    let answer = rpc::call(
        server.channel_as("outsider").await,
        "/mlplat.admin.v1.AdminService/ListProjects",
        admin::ListProjectsRequest::default().encode_to_vec(),
    )
    .await
    .expect("an answer");
    let listed = admin::ListProjectsResponse::decode(answer[0].clone()).expect("a message");
    assert!(listed.projects.is_empty());
    server.stop().await;
}
