//! The model catalogue: registered models, their versions, aliases and life cycle.
//!
//! Invariant: a version is published from files that the run has; local files are uploaded first, unless the run has the
//! same content already.

mod model;

use std::{collections::BTreeMap, path::Path};

use mlplat_proto::catalogue::v1::{
    self as pb, catalogue_service_client::CatalogueServiceClient, get_model_version_request::Which,
};
use tonic::transport::Channel;
use uuid::Uuid;

pub use model::{
    FeatureViewUse, ModelFile, ModelStage, ModelVersion, NewModelVersion, RegisteredModel,
    VersionSelector,
};

use crate::{
    call::{MAX_MESSAGE_BYTES, rpc},
    client::Client,
    error::{Error, Result},
    page::Paged,
    tracking::checked_run_id,
};

/// Calls about models; from [`Client::catalogue`].
#[derive(Debug, Clone)]
pub struct Catalogue {
    client: Client,
}

fn catalogue(channel: Channel) -> CatalogueServiceClient<Channel> {
    CatalogueServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn model_of(model: Option<pb::RegisteredModel>) -> Result<RegisteredModel> {
    model
        .map(RegisteredModel::from)
        .ok_or_else(|| Error::protocol("registered model"))
}

fn version_of(version: Option<pb::ModelVersion>) -> Result<ModelVersion> {
    version
        .map(ModelVersion::from)
        .ok_or_else(|| Error::protocol("model version"))
}

impl Catalogue {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    fn project(&self) -> String {
        self.client.project().to_owned()
    }

    /// Publishes the next version of a model, which is created where it does not exist. `path` is a local file or directory,
    /// uploaded where the run does not have the same content yet, or else the path of an artifact of the run.
    ///
    /// # Errors
    /// [`Error::NotFound`] when `path` is neither, or there is no such run; [`Error::InvalidArgument`] for bad names.
    pub async fn publish(
        &self,
        new: NewModelVersion,
        path: impl AsRef<Path>,
    ) -> Result<ModelVersion> {
        let run_id = checked_run_id(&new.run_id)?;
        let artifact_path = self
            .client
            .artifacts()
            .path_in_run(&run_id, path.as_ref(), new.progress)
            .await?;
        let request = pb::PublishModelVersionRequest {
            project: self.project(),
            model: new.model,
            run_id,
            artifact_path,
            description: new.description,
            tags: new.tags.into_iter().collect(),
            request_id: Uuid::new_v4().to_string(),
        };
        let answer = rpc!(
            self.client,
            Repeatable,
            catalogue.publish_model_version,
            request
        )?;
        version_of(answer.model_version)
    }

    /// Creates a registered model. Publishing a version does that too, so this is for its notes and labels.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name is taken, [`Error::InvalidArgument`] when it is no good name.
    pub async fn create_model(
        &self,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<RegisteredModel> {
        let request = pb::CreateRegisteredModelRequest {
            project: self.project(),
            name: name.to_owned(),
            description: description.to_owned(),
            tags: tags.into_iter().collect(),
            request_id: Uuid::new_v4().to_string(),
        };
        model_of(
            rpc!(
                self.client,
                Repeatable,
                catalogue.create_registered_model,
                request
            )?
            .registered_model,
        )
    }

    /// One registered model by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name.
    pub async fn get_model(&self, name: &str) -> Result<RegisteredModel> {
        let request = pb::GetRegisteredModelRequest {
            project: self.project(),
            name: name.to_owned(),
        };
        model_of(
            rpc!(
                self.client,
                Repeatable,
                catalogue.get_registered_model,
                request
            )?
            .registered_model,
        )
    }

    /// The registered models of the project, by name.
    pub fn list_models(&self) -> Paged<RegisteredModel> {
        let client = self.client.clone();
        Paged::new(move |page_token| {
            let client = client.clone();
            async move {
                let project = client.project().to_owned();
                let request = pb::ListRegisteredModelsRequest {
                    project,
                    page_size: 0,
                    page_token,
                };
                let answer = rpc!(
                    client,
                    Repeatable,
                    catalogue.list_registered_models,
                    request
                )?;
                let models = answer
                    .registered_models
                    .into_iter()
                    .map(RegisteredModel::from)
                    .collect();
                Ok((models, answer.next_page_token))
            }
        })
    }

    /// Changes notes or labels of a registered model; what is not given stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name.
    pub async fn update_model(
        &self,
        name: &str,
        description: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<RegisteredModel> {
        let update_mask = Some(mask(description.is_some(), tags.is_some()));
        let model = pb::RegisteredModel {
            name: name.to_owned(),
            description: description.unwrap_or_default(),
            tags: tags.unwrap_or_default().into_iter().collect(),
            ..pb::RegisteredModel::default()
        };
        let request = pb::UpdateRegisteredModelRequest {
            project: self.project(),
            registered_model: Some(model),
            update_mask,
        };
        model_of(
            rpc!(
                self.client,
                Once,
                catalogue.update_registered_model,
                request
            )?
            .registered_model,
        )
    }

    /// One version: the newest, by number, or by alias (`get_version("m", "champion")`).
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such model, version or alias.
    pub async fn get_version(
        &self,
        model: &str,
        which: impl Into<VersionSelector>,
    ) -> Result<ModelVersion> {
        let which = match which.into() {
            VersionSelector::Latest => None,
            VersionSelector::Number(number) => Some(Which::Version(number)),
            VersionSelector::Alias(alias) => Some(Which::Alias(alias)),
        };
        let request = pb::GetModelVersionRequest {
            project: self.project(),
            model: model.to_owned(),
            which,
        };
        version_of(
            rpc!(
                self.client,
                Repeatable,
                catalogue.get_model_version,
                request
            )?
            .model_version,
        )
    }

    /// The versions of a model, newest first.
    pub fn list_versions(&self, model: &str) -> Paged<ModelVersion> {
        let (client, model) = (self.client.clone(), model.to_owned());
        Paged::new(move |page_token| {
            let (client, model) = (client.clone(), model.clone());
            async move {
                let project = client.project().to_owned();
                let request = pb::ListModelVersionsRequest {
                    project,
                    model,
                    page_size: 0,
                    page_token,
                };
                let answer = rpc!(client, Repeatable, catalogue.list_model_versions, request)?;
                let versions = answer
                    .model_versions
                    .into_iter()
                    .map(ModelVersion::from)
                    .collect();
                Ok((versions, answer.next_page_token))
            }
        })
    }

    /// Changes notes or labels of a version; what is not given stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such version.
    pub async fn update_version(
        &self,
        model: &str,
        version: u32,
        description: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<ModelVersion> {
        let update_mask = Some(mask(description.is_some(), tags.is_some()));
        let model_version = pb::ModelVersion {
            model: model.to_owned(),
            version,
            description: description.unwrap_or_default(),
            tags: tags.unwrap_or_default().into_iter().collect(),
            ..pb::ModelVersion::default()
        };
        let request = pb::UpdateModelVersionRequest {
            project: self.project(),
            model_version: Some(model_version),
            update_mask,
        };
        version_of(rpc!(self.client, Once, catalogue.update_model_version, request)?.model_version)
    }

    /// Moves a version to another stage; the comment is kept in the lineage.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] for a move that the life cycle does not have.
    pub async fn transition(
        &self,
        model: &str,
        version: u32,
        stage: ModelStage,
        comment: &str,
    ) -> Result<ModelVersion> {
        let request = pb::TransitionModelVersionRequest {
            project: self.project(),
            model: model.to_owned(),
            version,
            stage: pb::ModelStage::from(stage).into(),
            comment: comment.to_owned(),
        };
        version_of(
            rpc!(
                self.client,
                Once,
                catalogue.transition_model_version,
                request
            )?
            .model_version,
        )
    }

    /// Points an alias at a version, whichever it pointed at before.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such version, [`Error::InvalidArgument`] for a bad alias.
    pub async fn set_alias(
        &self,
        model: &str,
        alias: &str,
        version: u32,
    ) -> Result<RegisteredModel> {
        let request = pb::SetModelAliasRequest {
            project: self.project(),
            model: model.to_owned(),
            alias: alias.to_owned(),
            version,
        };
        model_of(rpc!(self.client, Once, catalogue.set_model_alias, request)?.registered_model)
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such alias.
    pub async fn delete_alias(&self, model: &str, alias: &str) -> Result<RegisteredModel> {
        let request = pb::DeleteModelAliasRequest {
            project: self.project(),
            model: model.to_owned(),
            alias: alias.to_owned(),
        };
        model_of(rpc!(self.client, Once, catalogue.delete_model_alias, request)?.registered_model)
    }
}

fn mask(description: bool, tags: bool) -> prost_types::FieldMask {
    let mut paths = Vec::new();
    paths.extend(description.then(|| "description".to_owned()));
    paths.extend(tags.then(|| "tags".to_owned()));
    prost_types::FieldMask { paths }
}
