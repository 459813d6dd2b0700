//! The server itself, and its projects.

use std::{collections::BTreeMap, time::SystemTime};

use mlplat_proto::admin::v1::{self as pb, admin_service_client::AdminServiceClient};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::{
    call::{MAX_MESSAGE_BYTES, rpc},
    client::Client,
    convert::filled_time,
    error::{Error, Result},
    page::Paged,
};

/// Calls about the server and its projects; from [`Client::admin`].
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Version of the server, e.g. `0.1.0`.
    pub version: String,
    /// Name of the installation, part of every OpenLineage job namespace.
    pub instance: String,
    /// Largest message that the server takes, in bytes.
    pub max_message_bytes: u64,
    /// The caller as the server sees it.
    pub caller: String,
}

/// A tenant: experiments, features, models and lineage live in one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Project {
    /// Unique name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
    /// Who created it.
    pub created_by: String,
}

impl From<pb::Project> for Project {
    fn from(p: pb::Project) -> Self {
        Self {
            name: p.name,
            description: p.description,
            tags: p.tags.into_iter().collect(),
            created_at: filled_time(p.created_at),
            updated_at: filled_time(p.updated_at),
            created_by: p.created_by,
        }
    }
}

fn admin(channel: Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Version, name and limits of the server; also the cheapest way to see whether it is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no server answers.
    pub async fn server_info(&self) -> Result<ServerInfo> {
        let answer = rpc!(
            self.client,
            Repeatable,
            admin.get_server_info,
            pb::GetServerInfoRequest {}
        )?;
        Ok(ServerInfo {
            version: answer.version,
            instance: answer.instance,
            max_message_bytes: answer.max_message_bytes,
            caller: answer.caller,
        })
    }

    /// Creates a project.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name is taken, [`Error::InvalidArgument`] when it is no good name.
    pub async fn create_project(
        &self,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<Project> {
        let request = pb::CreateProjectRequest {
            name: name.to_owned(),
            description: description.to_owned(),
            tags: tags.into_iter().collect(),
            request_id: Uuid::new_v4().to_string(),
        };
        let answer = rpc!(self.client, Repeatable, admin.create_project, request)?;
        answer
            .project
            .map(Project::from)
            .ok_or_else(|| Error::protocol("project"))
    }

    /// One project by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name.
    pub async fn get_project(&self, name: &str) -> Result<Project> {
        let request = pb::GetProjectRequest {
            name: name.to_owned(),
        };
        let answer = rpc!(self.client, Repeatable, admin.get_project, request)?;
        answer
            .project
            .map(Project::from)
            .ok_or_else(|| Error::protocol("project"))
    }

    /// The projects that the caller may see, by name.
    pub fn list_projects(&self) -> Paged<Project> {
        let client = self.client.clone();
        Paged::new(move |page_token| {
            let client = client.clone();
            async move {
                let request = pb::ListProjectsRequest {
                    page_size: 0,
                    page_token,
                };
                let answer = rpc!(client, Repeatable, admin.list_projects, request)?;
                Ok((
                    answer.projects.into_iter().map(Project::from).collect(),
                    answer.next_page_token,
                ))
            }
        })
    }

    /// Changes description or tags of a project; what is not given stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name.
    pub async fn update_project(
        &self,
        name: &str,
        description: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Project> {
        let mut paths = Vec::new();
        paths.extend(description.is_some().then(|| "description".to_owned()));
        paths.extend(tags.is_some().then(|| "tags".to_owned()));
        let project = pb::Project {
            name: name.to_owned(),
            description: description.unwrap_or_default(),
            tags: tags.unwrap_or_default().into_iter().collect(),
            ..pb::Project::default()
        };
        let request = pb::UpdateProjectRequest {
            project: Some(project),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let answer = rpc!(self.client, Once, admin.update_project, request)?;
        answer
            .project
            .map(Project::from)
            .ok_or_else(|| Error::protocol("project"))
    }

    /// Removes for good what was deleted in the project of the client: at least so many days ago, or else as long as the
    /// server keeps it. A dry run only says what would go.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] for who does not own the project.
    pub async fn collect_garbage(
        &self,
        older_than_days: Option<u32>,
        dry_run: bool,
    ) -> Result<Collected> {
        let request = pb::CollectGarbageRequest {
            project: self.client.project().to_owned(),
            older_than_days,
            dry_run,
        };
        let answer = rpc!(self.client, Repeatable, admin.collect_garbage, request)?;
        Ok(Collected {
            runs: answer.runs,
            experiments: answer.experiments,
            kept_runs: answer.kept_runs,
            objects: answer.objects,
        })
    }
}

/// What a collection of garbage has removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Runs.
    pub runs: u64,
    /// Experiments.
    pub experiments: u64,
    /// Runs that stay, as a model version was published from them.
    pub kept_runs: u64,
    /// Files whose bytes nothing names any more.
    pub objects: u64,
}
