//! ArtifactService over gRPC.

use std::sync::Arc;

use mlplat_proto::tracking::v1 as pb;
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert::file_of,
    download::{DownloadStream, download_artifact},
    path, store,
    upload::upload_artifact,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    error,
    page::Page,
    request::{self, Violations, project_name},
    tracking::runs,
};

/// The service.
#[derive(Debug, Clone)]
pub struct Artifacts {
    app: Arc<App>,
}

impl Artifacts {
    /// The service over `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl pb::artifact_service_server::ArtifactService for Artifacts {
    type DownloadArtifactStream = DownloadStream;

    async fn upload_artifact(
        &self,
        request: Request<Streaming<pb::UploadArtifactRequest>>,
    ) -> Result<Response<pb::UploadArtifactResponse>, Status> {
        Ok(Response::new(upload_artifact(&self.app, request).await?))
    }

    async fn download_artifact(
        &self,
        request: Request<pb::DownloadArtifactRequest>,
    ) -> Result<Response<DownloadStream>, Status> {
        Ok(Response::new(download_artifact(&self.app, request).await?))
    }

    async fn get_artifact(
        &self,
        request: Request<pb::GetArtifactRequest>,
    ) -> Result<Response<pb::GetArtifactResponse>, Status> {
        Ok(Response::new(get_artifact(&self.app, request).await?))
    }

    async fn list_artifacts(
        &self,
        request: Request<pb::ListArtifactsRequest>,
    ) -> Result<Response<pb::ListArtifactsResponse>, Status> {
        Ok(Response::new(list_artifacts(&self.app, request).await?))
    }
}

async fn get_artifact(
    app: &App,
    request: Request<pb::GetArtifactRequest>,
) -> error::Result<pb::GetArtifactResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let (run_id, path) = file_of(&message.run_id, &message.path)?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;

    let conn = app.db.read();
    runs::store::load_run(conn, &scope, run_id).await?;
    let artifact = store::get_artifact(conn, &scope, run_id, &path).await?;
    Ok(pb::GetArtifactResponse {
        artifact: Some(artifact.into()),
    })
}

async fn list_artifacts(
    app: &App,
    request: Request<pb::ListArtifactsRequest>,
) -> error::Result<pb::ListArtifactsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let project = project_name(&message.project);
    let mut violations = Violations::new();
    let run_id = violations
        .parse("run_id", request::uuid(&message.run_id))
        .unwrap_or_default();
    let path = violations
        .parse("path", path::listed_path(&message.path))
        .unwrap_or_default();
    let same = ["artifacts", &project, &message.run_id, &path];
    let page = Page::parse(
        &mut violations,
        message.page_size,
        &message.page_token,
        &same,
    );
    violations.finish()?;
    let scope = caller.authorize(app, Action::Read, &project).await?;

    let conn = app.db.read();
    runs::store::load_run(conn, &scope, run_id).await?;
    let mut rows = store::list_artifacts(conn, &scope, run_id, &path, &page).await?;
    let next_page_token = page.cut(&mut rows, |last| vec![last.path.clone()]);
    Ok(pb::ListArtifactsResponse {
        artifacts: rows.into_iter().map(Into::into).collect(),
        next_page_token,
    })
}
