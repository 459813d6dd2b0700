//! AdminService over gRPC.

use std::sync::Arc;

use mlplat_proto::admin::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    convert::{NewProject, ProjectChange},
    store,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    idempotency,
    page::Page,
    request::{Violations, project_name},
    retention,
};

const CREATE_PROJECT: &str = "CreateProject";

/// The service.
#[derive(Debug, Clone)]
pub struct Admin {
    app: Arc<App>,
}

impl Admin {
    /// The service over `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for Admin {
    async fn get_server_info(
        &self,
        request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(pb::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.app.instance.clone(),
            max_message_bytes: self.app.config.limits.max_message_bytes as u64,
            caller: caller.subject().to_owned(),
        }))
    }

    async fn create_project(
        &self,
        request: Request<pb::CreateProjectRequest>,
    ) -> Result<Response<pb::CreateProjectResponse>, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let new = NewProject::try_from(&message)?;
        let scope = caller
            .authorize_platform(&self.app, Action::CreateProject)
            .await?;

        let (now, key) = (self.app.now(), new.key);
        let txn = self.app.db.begin().await?;
        if let Some(response) =
            idempotency::replay(&txn, &scope, CREATE_PROJECT, key, &message).await?
        {
            return Ok(Response::new(response));
        }
        let project = store::create_project(&txn, &scope, new, now).await?;
        let response = pb::CreateProjectResponse {
            project: Some(project.into()),
        };
        idempotency::remember(&txn, &scope, CREATE_PROJECT, key, &message, &response, now).await?;
        txn.commit().await.map_err(crate::Error::from)?;
        Ok(Response::new(response))
    }

    async fn get_project(
        &self,
        request: Request<pb::GetProjectRequest>,
    ) -> Result<Response<pb::GetProjectResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = project_name(&request.into_inner().name);
        let scope = caller.authorize(&self.app, Action::Read, &name).await?;
        let project = store::get_project(self.app.db.read(), &scope).await?;
        Ok(Response::new(pb::GetProjectResponse {
            project: Some(project.into()),
        }))
    }

    async fn list_projects(
        &self,
        request: Request<pb::ListProjectsRequest>,
    ) -> Result<Response<pb::ListProjectsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::new();
        let page = Page::parse(
            &mut violations,
            message.page_size,
            &message.page_token,
            &["projects"],
        );
        violations.finish()?;
        let among = caller.readable_projects(&self.app).await?;
        let mut rows = store::list_projects(self.app.db.read(), among, &page).await?;
        let next_page_token = page.cut(&mut rows, |last| vec![last.name.clone()]);
        Ok(Response::new(pb::ListProjectsResponse {
            projects: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_project(
        &self,
        request: Request<pb::UpdateProjectRequest>,
    ) -> Result<Response<pb::UpdateProjectResponse>, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let change = ProjectChange::parse(message.project, message.update_mask)?;
        let scope = caller
            .authorize(&self.app, Action::ManageProject, &change.name)
            .await?;

        let txn = self.app.db.begin().await?;
        let project = store::update_project(&txn, &scope, change, self.app.now()).await?;
        txn.commit().await.map_err(crate::Error::from)?;
        Ok(Response::new(pb::UpdateProjectResponse {
            project: Some(project.into()),
        }))
    }

    async fn collect_garbage(
        &self,
        request: Request<pb::CollectGarbageRequest>,
    ) -> Result<Response<pb::CollectGarbageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let scope = caller
            .authorize(
                &self.app,
                Action::ManageProject,
                &project_name(&message.project),
            )
            .await?;
        let kept = self.app.config.tracking.deleted_retention_days;
        let days = message.older_than_days.unwrap_or(kept);
        let cutoff = retention::days_before(self.app.now(), days);
        let collected = retention::collect(&self.app, &scope, cutoff, message.dry_run).await?;
        Ok(Response::new(pb::CollectGarbageResponse {
            runs: collected.runs,
            experiments: collected.experiments,
            kept_runs: collected.kept_runs,
            objects: collected.objects,
        }))
    }
}
