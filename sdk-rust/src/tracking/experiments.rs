//! Experiments: named groups of runs that are worth comparing.

use std::{collections::BTreeMap, time::SystemTime};

use mlplat_proto::tracking::v1 as pb;
use uuid::Uuid;

use super::{Tracking, View, tracking};
use crate::{
    call::rpc,
    convert::{filled_time, system_time},
    error::{Error, Result},
    page::Paged,
};

/// A named group of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Experiment {
    /// UUID of the experiment.
    pub id: String,
    /// Name, unique in the project.
    pub name: String,
    /// Notes.
    pub description: String,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
    /// Who created it.
    pub created_by: String,
    /// When it was deleted; none unless it can still be restored.
    pub deleted_at: Option<SystemTime>,
    /// Where the server keeps the files of its runs.
    pub artifact_location: String,
}

impl From<pb::Experiment> for Experiment {
    fn from(e: pb::Experiment) -> Self {
        Self {
            id: e.id,
            name: e.name,
            description: e.description,
            tags: e.tags.into_iter().collect(),
            created_at: filled_time(e.created_at),
            updated_at: filled_time(e.updated_at),
            created_by: e.created_by,
            deleted_at: e.deleted_at.map(system_time),
            artifact_location: e.artifact_location,
        }
    }
}

impl Tracking {
    /// Creates an experiment. Starting a run does that too, so this is for its notes and labels.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name is taken, [`Error::InvalidArgument`] when it is no good name.
    pub async fn create_experiment(
        &self,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<Experiment> {
        let request = pb::CreateExperimentRequest {
            project: self.client.project().to_owned(),
            name: name.to_owned(),
            description: description.to_owned(),
            tags: tags.into_iter().collect(),
            request_id: Uuid::new_v4().to_string(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.create_experiment, request)?;
        answer
            .experiment
            .map(Experiment::from)
            .ok_or_else(|| Error::protocol("experiment"))
    }

    /// One experiment by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name.
    pub async fn get_experiment(&self, name: &str) -> Result<Experiment> {
        let request = pb::GetExperimentRequest {
            project: self.client.project().to_owned(),
            name: name.to_owned(),
            view: pb::View::ActiveOnly.into(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.get_experiment, request)?;
        answer
            .experiment
            .map(Experiment::from)
            .ok_or_else(|| Error::protocol("experiment"))
    }

    /// The experiments of the project, by name.
    pub fn list_experiments(&self) -> Paged<Experiment> {
        self.find_experiments(View::Active)
    }

    /// The experiments of the project, by name, also those that are deleted if `view` says so.
    pub fn find_experiments(&self, view: View) -> Paged<Experiment> {
        let client = self.client.clone();
        Paged::new(move |page_token| {
            let client = client.clone();
            async move {
                let project = client.project().to_owned();
                let request = pb::ListExperimentsRequest {
                    project,
                    page_size: 0,
                    page_token,
                    view: pb::View::from(view).into(),
                };
                let answer = rpc!(client, Repeatable, tracking.list_experiments, request)?;
                Ok((
                    answer
                        .experiments
                        .into_iter()
                        .map(Experiment::from)
                        .collect(),
                    answer.next_page_token,
                ))
            }
        })
    }

    /// Changes notes or labels of an experiment; what is not given stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name.
    pub async fn update_experiment(
        &self,
        name: &str,
        description: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Experiment> {
        let mut paths = Vec::new();
        paths.extend(description.is_some().then(|| "description".to_owned()));
        paths.extend(tags.is_some().then(|| "tags".to_owned()));
        let experiment = pb::Experiment {
            name: name.to_owned(),
            description: description.unwrap_or_default(),
            tags: tags.unwrap_or_default().into_iter().collect(),
            ..pb::Experiment::default()
        };
        let request = pb::UpdateExperimentRequest {
            project: self.client.project().to_owned(),
            experiment: Some(experiment),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let answer = rpc!(self.client, Once, tracking.update_experiment, request)?;
        answer
            .experiment
            .map(Experiment::from)
            .ok_or_else(|| Error::protocol("experiment"))
    }
}
