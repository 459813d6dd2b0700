//! ArtifactService over gRPC.

use std::sync::Arc;

use mlplat_proto::tracking::v1 as pb;
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert::file_of,
    digests::Digests,
    download::{DownloadStream, download_artifact, sign_download},
    download_many::{ManyStream, download_artifacts},
    finish::{FinishStream, finish_upload},
    path,
    session::{begin_upload, sign_upload_parts, upload_part},
    store,
    upload::upload_artifact,
    upload_many::upload_artifacts,
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
    digests: Digests,
}

impl Artifacts {
    /// The service over `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            digests: Digests::default(),
        }
    }
}

#[tonic::async_trait]
impl pb::artifact_service_server::ArtifactService for Artifacts {
    type DownloadArtifactStream = DownloadStream;
    type DownloadArtifactsStream = ManyStream;
    type FinishUploadStream = FinishStream;

    async fn upload_artifact(
        &self,
        request: Request<Streaming<pb::UploadArtifactRequest>>,
    ) -> Result<Response<pb::UploadArtifactResponse>, Status> {
        Ok(Response::new(upload_artifact(&self.app, request).await?))
    }

    async fn upload_artifacts(
        &self,
        request: Request<Streaming<pb::UploadArtifactsRequest>>,
    ) -> Result<Response<pb::UploadArtifactsResponse>, Status> {
        Ok(Response::new(upload_artifacts(&self.app, request).await?))
    }

    async fn begin_upload(
        &self,
        request: Request<pb::BeginUploadRequest>,
    ) -> Result<Response<pb::BeginUploadResponse>, Status> {
        Ok(Response::new(begin_upload(&self.app, request).await?))
    }

    async fn upload_part(
        &self,
        request: Request<Streaming<pb::UploadPartRequest>>,
    ) -> Result<Response<pb::UploadPartResponse>, Status> {
        let stored = upload_part(&self.app, &self.digests, request).await?;
        Ok(Response::new(stored))
    }

    async fn sign_upload_parts(
        &self,
        request: Request<pb::SignUploadPartsRequest>,
    ) -> Result<Response<pb::SignUploadPartsResponse>, Status> {
        Ok(Response::new(sign_upload_parts(&self.app, request).await?))
    }

    async fn finish_upload(
        &self,
        request: Request<pb::FinishUploadRequest>,
    ) -> Result<Response<FinishStream>, Status> {
        let stream = finish_upload(&self.app, &self.digests, request).await?;
        Ok(Response::new(stream))
    }

    async fn download_artifacts(
        &self,
        request: Request<pb::DownloadArtifactsRequest>,
    ) -> Result<Response<ManyStream>, Status> {
        Ok(Response::new(download_artifacts(&self.app, request).await?))
    }

    async fn sign_download(
        &self,
        request: Request<pb::SignDownloadRequest>,
    ) -> Result<Response<pb::SignDownloadResponse>, Status> {
        Ok(Response::new(sign_download(&self.app, request).await?))
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
