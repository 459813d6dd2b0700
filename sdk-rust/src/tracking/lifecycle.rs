//! Deleting, restoring, moving and clearing runs and experiments. What is deleted is hidden, and can be restored until the
//! server collects it.

use mlplat_proto::tracking::v1 as pb;

use super::{Experiment, Run, Tracking, View, checked_run_id, tracking};
use crate::{
    call::rpc,
    error::{Error, Result},
};

/// Runs that are meant by their ids.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RunSet {
    ids: Vec<String>,
    nested: bool,
}

impl RunSet {
    /// These runs.
    pub fn new(ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            ids: ids.into_iter().map(Into::into).collect(),
            nested: false,
        }
    }

    /// Also the runs nested in them, at any depth.
    pub fn with_nested(mut self) -> Self {
        self.nested = true;
        self
    }

    fn checked(self) -> Result<(Vec<String>, bool)> {
        let ids: Result<Vec<String>> = self.ids.iter().map(|id| checked_run_id(id)).collect();
        Ok((ids?, self.nested))
    }
}

impl Tracking {
    /// Deletes runs, all of them or none, and says how many were not deleted before.
    ///
    /// # Errors
    /// [`Error::NotFound`] when one is not there, [`Error::Misuse`] when an id is no UUID.
    pub async fn delete_runs(&self, runs: RunSet) -> Result<u64> {
        let (run_ids, nested) = runs.checked()?;
        let request = pb::DeleteRunsRequest {
            project: self.client.project().to_owned(),
            run_ids,
            nested,
        };
        let answer = rpc!(self.client, Repeatable, tracking.delete_runs, request)?;
        Ok(answer.changed_runs)
    }

    /// Restores deleted runs, all of them or none, and says how many were deleted before.
    ///
    /// # Errors
    /// [`Error::NotFound`] when one is not there (any more), [`Error::FailedPrecondition`] when its experiment is deleted.
    pub async fn restore_runs(&self, runs: RunSet) -> Result<u64> {
        let (run_ids, nested) = runs.checked()?;
        let request = pb::RestoreRunsRequest {
            project: self.client.project().to_owned(),
            run_ids,
            nested,
        };
        let answer = rpc!(self.client, Repeatable, tracking.restore_runs, request)?;
        Ok(answer.changed_runs)
    }

    /// Moves runs into an experiment, which is created where it does not exist, and says how many were in another one.
    ///
    /// # Errors
    /// [`Error::NotFound`] when a run is not there, [`Error::FailedPrecondition`] when the experiment is deleted.
    pub async fn move_runs(&self, runs: RunSet, experiment: &str) -> Result<u64> {
        let (run_ids, nested) = runs.checked()?;
        let request = pb::MoveRunsRequest {
            project: self.client.project().to_owned(),
            run_ids,
            experiment: experiment.to_owned(),
            nested,
            from_experiment: String::new(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.move_runs, request)?;
        Ok(answer.changed_runs)
    }

    /// Moves all runs of an experiment into another one, which is created where it does not exist, and says how many. The experiment
    /// itself stays, without runs.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such experiment, [`Error::FailedPrecondition`] when the other one is deleted.
    pub async fn move_experiment(&self, name: &str, into: &str) -> Result<u64> {
        if name.is_empty() {
            return Err(Error::misuse("the experiment to move has no name"));
        }
        let request = pb::MoveRunsRequest {
            project: self.client.project().to_owned(),
            run_ids: Vec::new(),
            experiment: into.to_owned(),
            nested: false,
            from_experiment: name.to_owned(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.move_runs, request)?;
        Ok(answer.changed_runs)
    }

    /// Deletes params and tags of a run, and says how many of them it had.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run, [`Error::InvalidArgument`] when no key is given.
    pub async fn delete_params_and_tags(
        &self,
        run_id: &str,
        params: Vec<String>,
        tags: Vec<String>,
    ) -> Result<u64> {
        let request = pb::DeleteParamsAndTagsRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            params,
            tags,
        };
        let answer = rpc!(
            self.client,
            Repeatable,
            tracking.delete_params_and_tags,
            request
        )?;
        Ok(answer.deleted)
    }

    /// Deletes an experiment with its runs.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name, [`Error::FailedPrecondition`] for the one called `default`.
    pub async fn delete_experiment(&self, name: &str) -> Result<Experiment> {
        let request = pb::DeleteExperimentRequest {
            project: self.client.project().to_owned(),
            name: name.to_owned(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.delete_experiment, request)?;
        answer
            .experiment
            .map(Experiment::from)
            .ok_or_else(|| Error::protocol("experiment"))
    }

    /// Restores an experiment with the runs that were deleted with it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name (any more).
    pub async fn restore_experiment(&self, name: &str) -> Result<Experiment> {
        let request = pb::RestoreExperimentRequest {
            project: self.client.project().to_owned(),
            name: name.to_owned(),
        };
        let answer = rpc!(
            self.client,
            Repeatable,
            tracking.restore_experiment,
            request
        )?;
        answer
            .experiment
            .map(Experiment::from)
            .ok_or_else(|| Error::protocol("experiment"))
    }

    /// Renames an experiment; the lineage of its runs keeps the name that they were created under.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name, [`Error::AlreadyExists`] when the new name is taken.
    pub async fn rename_experiment(&self, name: &str, new_name: &str) -> Result<Experiment> {
        let experiment = pb::Experiment {
            id: self.get_experiment(name).await?.id,
            name: new_name.to_owned(),
            ..pb::Experiment::default()
        };
        let request = pb::UpdateExperimentRequest {
            project: self.client.project().to_owned(),
            experiment: Some(experiment),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["name".to_owned()],
            }),
        };
        let answer = rpc!(self.client, Repeatable, tracking.update_experiment, request)?;
        answer
            .experiment
            .map(Experiment::from)
            .ok_or_else(|| Error::protocol("experiment"))
    }

    /// As [`Tracking::get_run`], also where it is deleted if `view` says so.
    ///
    /// # Errors
    /// As [`Tracking::get_run`].
    pub async fn find_run(&self, run_id: &str, view: View) -> Result<Run> {
        let request = pb::GetRunRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            view: pb::View::from(view).into(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.get_run, request)?;
        answer
            .run
            .map(Run::from)
            .ok_or_else(|| Error::protocol("run"))
    }
}
