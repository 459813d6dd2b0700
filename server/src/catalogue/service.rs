//! CatalogueService over gRPC.

use std::sync::Arc;

use mlplat_proto::catalogue::v1 as pb;
use sea_orm::ConnectionTrait;
use tonic::{Request, Response, Status};

use super::{
    capture,
    convert::{self, Move, NewModel, NewVersion, Selector, VersionName},
    entity::{model, version},
    events, store,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    idempotency,
    lineage::Names,
    page::Page,
    request::{Violations, project_name},
    tracking::store as tracking,
};

const CREATE_MODEL: &str = "CreateRegisteredModel";
const PUBLISH: &str = "PublishModelVersion";

/// The service.
#[derive(Debug, Clone)]
pub struct Catalogue {
    app: Arc<App>,
}

impl Catalogue {
    /// The service over `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

type Answer<T> = std::result::Result<Response<T>, Status>;

/// The model with its aliases, as it is sent.
async fn model_answer(
    conn: &impl ConnectionTrait,
    row: model::Model,
) -> Result<Option<pb::RegisteredModel>> {
    let aliases = store::aliases(conn, std::slice::from_ref(&row)).await?;
    Ok(Some(convert::model_to_proto(row, aliases)))
}

/// The version with its aliases, as it is sent.
async fn version_answer(
    conn: &impl ConnectionTrait,
    model: &model::Model,
    row: version::Model,
) -> Result<Option<pb::ModelVersion>> {
    let aliases = store::aliases(conn, std::slice::from_ref(model)).await?;
    convert::version_to_proto(&model.name, row, &aliases).map(Some)
}

/// The one name in a request.
fn named(field: &str, text: &str) -> Result<String> {
    convert::model_name(text).map_err(|complaint| Error::invalid(field, complaint))
}

#[tonic::async_trait]
impl pb::catalogue_service_server::CatalogueService for Catalogue {
    async fn create_registered_model(
        &self,
        request: Request<pb::CreateRegisteredModelRequest>,
    ) -> Answer<pb::CreateRegisteredModelResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let new = NewModel::try_from(&message)?;
        let scope = caller
            .authorize(
                &self.app,
                Action::PublishModels,
                &project_name(&message.project),
            )
            .await?;

        let now = self.app.now();
        let txn = self.app.db.begin().await?;
        if let Some(response) =
            idempotency::replay(&txn, &scope, CREATE_MODEL, new.key, &message).await?
        {
            return Ok(Response::new(response));
        }
        let created = store::create_model(&txn, &scope, &new, now).await?;
        let response = pb::CreateRegisteredModelResponse {
            registered_model: Some(convert::model_to_proto(created, Vec::new())),
        };
        idempotency::remember(
            &txn,
            &scope,
            CREATE_MODEL,
            new.key,
            &message,
            &response,
            now,
        )
        .await?;
        txn.commit().await.map_err(Error::from)?;
        Ok(Response::new(response))
    }

    async fn get_registered_model(
        &self,
        request: Request<pb::GetRegisteredModelRequest>,
    ) -> Answer<pb::GetRegisteredModelResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let name = named("name", &message.name)?;
        let scope = caller
            .authorize(&self.app, Action::Read, &project_name(&message.project))
            .await?;
        let conn = self.app.db.read();
        let row = store::get_model(conn, &scope, &name).await?;
        Ok(Response::new(pb::GetRegisteredModelResponse {
            registered_model: model_answer(conn, row).await?,
        }))
    }

    async fn list_registered_models(
        &self,
        request: Request<pb::ListRegisteredModelsRequest>,
    ) -> Answer<pb::ListRegisteredModelsResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let project = project_name(&message.project);
        let mut violations = Violations::new();
        let page = Page::parse(
            &mut violations,
            message.page_size,
            &message.page_token,
            &["models", &project],
        );
        violations.finish()?;
        let scope = caller.authorize(&self.app, Action::Read, &project).await?;
        let conn = self.app.db.read();
        let mut rows = store::list_models(conn, &scope, &page).await?;
        let next_page_token = page.cut(&mut rows, |last| vec![last.name.clone()]);
        let mut aliases = store::aliases(conn, &rows).await?;
        let mut registered_models = Vec::with_capacity(rows.len());
        for row in rows {
            let (own, others) = aliases
                .into_iter()
                .partition(|alias| alias.model_id == row.id);
            aliases = others;
            registered_models.push(convert::model_to_proto(row, own));
        }
        Ok(Response::new(pb::ListRegisteredModelsResponse {
            registered_models,
            next_page_token,
        }))
    }

    async fn update_registered_model(
        &self,
        request: Request<pb::UpdateRegisteredModelRequest>,
    ) -> Answer<pb::UpdateRegisteredModelResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let project = project_name(&message.project);
        let (name, change) = convert::model_change(message)?;
        let scope = caller
            .authorize(&self.app, Action::PublishModels, &project)
            .await?;

        let txn = self.app.db.begin().await?;
        let row = store::update_model(&txn, &scope, &name, change, self.app.now()).await?;
        let registered_model = model_answer(&txn, row).await?;
        txn.commit().await.map_err(Error::from)?;
        Ok(Response::new(pb::UpdateRegisteredModelResponse {
            registered_model,
        }))
    }

    async fn publish_model_version(
        &self,
        request: Request<pb::PublishModelVersionRequest>,
    ) -> Answer<pb::PublishModelVersionResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let new = NewVersion::try_from(&message)?;
        let scope = caller
            .authorize(
                &self.app,
                Action::PublishModels,
                &project_name(&message.project),
            )
            .await?;

        let now = self.app.now();
        let txn = self.app.db.begin().await?;
        if let Some(response) =
            idempotency::replay(&txn, &scope, PUBLISH, new.key, &message).await?
        {
            return Ok(Response::new(response));
        }
        let run = tracking::lock_run(&txn, &scope, new.run_id).await?;
        let captured = capture::capture(&txn, &scope, &run, &new.artifact_path).await?;
        let model = store::ensure_model(&txn, &scope, &new.model, now).await?;
        let row = store::insert_version(&txn, &scope, &model, &new, &captured, now).await?;
        let version = convert::version_to_proto(&model.name, row, &[])?;
        let names = Names::new(&self.app.instance, scope.project());
        events::published(&txn, &scope, &names, &run, &version, now).await?;
        let response = pb::PublishModelVersionResponse {
            model_version: Some(version),
        };
        idempotency::remember(&txn, &scope, PUBLISH, new.key, &message, &response, now).await?;
        txn.commit().await.map_err(Error::from)?;
        Ok(Response::new(response))
    }

    async fn get_model_version(
        &self,
        request: Request<pb::GetModelVersionRequest>,
    ) -> Answer<pb::GetModelVersionResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let wanted = VersionName::try_from(&message)?;
        let scope = caller
            .authorize(&self.app, Action::Read, &project_name(&message.project))
            .await?;
        let conn = self.app.db.read();
        let model = store::get_model(conn, &scope, &wanted.model).await?;
        let row = store::get_version(conn, &model, &wanted.selector).await?;
        Ok(Response::new(pb::GetModelVersionResponse {
            model_version: version_answer(conn, &model, row).await?,
        }))
    }

    async fn list_model_versions(
        &self,
        request: Request<pb::ListModelVersionsRequest>,
    ) -> Answer<pb::ListModelVersionsResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let project = project_name(&message.project);
        let mut violations = Violations::new();
        let name = violations
            .parse("model", convert::model_name(&message.model))
            .unwrap_or_default();
        let fingerprint = ["versions", &project, &name];
        let page = Page::parse(
            &mut violations,
            message.page_size,
            &message.page_token,
            &fingerprint,
        );
        let before = page
            .after()
            .and_then(|after| violations.parse("page_token", cursor(after)));
        violations.finish()?;
        let scope = caller.authorize(&self.app, Action::Read, &project).await?;
        let conn = self.app.db.read();
        let model = store::get_model(conn, &scope, &name).await?;
        let mut rows = store::list_versions(conn, &model, before, &page).await?;
        let next_page_token = page.cut(&mut rows, |last| vec![last.version.to_string()]);
        let aliases = store::aliases(conn, std::slice::from_ref(&model)).await?;
        let model_versions = rows
            .into_iter()
            .map(|row| convert::version_to_proto(&name, row, &aliases))
            .collect::<Result<_>>()?;
        Ok(Response::new(pb::ListModelVersionsResponse {
            model_versions,
            next_page_token,
        }))
    }

    async fn update_model_version(
        &self,
        request: Request<pb::UpdateModelVersionRequest>,
    ) -> Answer<pb::UpdateModelVersionResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let project = project_name(&message.project);
        let (name, number, change) = convert::version_change(message)?;
        let scope = caller
            .authorize(&self.app, Action::PublishModels, &project)
            .await?;

        let txn = self.app.db.begin().await?;
        let model = store::locked_model(&txn, &scope, &name).await?;
        let row = store::update_version(&txn, &model, number, change, self.app.now()).await?;
        let model_version = version_answer(&txn, &model, row).await?;
        txn.commit().await.map_err(Error::from)?;
        Ok(Response::new(pb::UpdateModelVersionResponse {
            model_version,
        }))
    }

    async fn transition_model_version(
        &self,
        request: Request<pb::TransitionModelVersionRequest>,
    ) -> Answer<pb::TransitionModelVersionResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let wanted = Move::try_from(&message)?;
        let scope = caller
            .authorize(
                &self.app,
                Action::TransitionModels,
                &project_name(&message.project),
            )
            .await?;

        let now = self.app.now();
        let txn = self.app.db.begin().await?;
        let model = store::locked_model(&txn, &scope, &wanted.model).await?;
        let mut row = store::get_version(&txn, &model, &Selector::Number(wanted.version)).await?;
        let from = convert::stage_of(&row)?;
        // Being there already is what was asked for, so a call that is sent again is fine.
        if from != wanted.to {
            from.check_move(wanted.to)?;
            row = store::set_stage(&txn, row, wanted.to, now).await?;
            let names = Names::new(&self.app.instance, scope.project());
            events::moved(&txn, &scope, &names, &wanted, from, now).await?;
        }
        let model_version = version_answer(&txn, &model, row).await?;
        txn.commit().await.map_err(Error::from)?;
        Ok(Response::new(pb::TransitionModelVersionResponse {
            model_version,
        }))
    }

    async fn set_model_alias(
        &self,
        request: Request<pb::SetModelAliasRequest>,
    ) -> Answer<pb::SetModelAliasResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let (name, alias, number) = convert::alias_to_set(&message)?;
        let scope = caller
            .authorize(
                &self.app,
                Action::PublishModels,
                &project_name(&message.project),
            )
            .await?;

        let txn = self.app.db.begin().await?;
        let model = store::locked_model(&txn, &scope, &name).await?;
        let model = store::set_alias(&txn, &model, alias, number, self.app.now()).await?;
        let registered_model = model_answer(&txn, model).await?;
        txn.commit().await.map_err(Error::from)?;
        Ok(Response::new(pb::SetModelAliasResponse {
            registered_model,
        }))
    }

    async fn delete_model_alias(
        &self,
        request: Request<pb::DeleteModelAliasRequest>,
    ) -> Answer<pb::DeleteModelAliasResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let (name, alias) = convert::alias_to_delete(&message)?;
        let scope = caller
            .authorize(
                &self.app,
                Action::PublishModels,
                &project_name(&message.project),
            )
            .await?;

        let txn = self.app.db.begin().await?;
        let model = store::locked_model(&txn, &scope, &name).await?;
        let model = store::delete_alias(&txn, &model, alias, self.app.now()).await?;
        let registered_model = model_answer(&txn, model).await?;
        txn.commit().await.map_err(Error::from)?;
        Ok(Response::new(pb::DeleteModelAliasResponse {
            registered_model,
        }))
    }
}

/// The number of the last version of the page before.
fn cursor(after: &[String]) -> std::result::Result<i32, &'static str> {
    match after {
        [number] => number.parse().map_err(|_| "is not one of this list"),
        _ => Err("is not one of this list"),
    }
}
