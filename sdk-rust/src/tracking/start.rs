//! How runs begin: started, resumed, joined.
//!
//! Invariant: starting a run needs no server and waits for none. Only for a run that may exist already is the server asked
//! what it is, for a short time; without an answer the run goes on all the same.

use std::time::{Duration, SystemTime};

use mlplat_proto::{rules, run_name::made_name, tracking::v1 as pb};
use uuid::Uuid;

use super::{
    ActiveRun, NewRun, Run, RunStatus, Tracking, View, check::Violations, checked_run_id,
    new_run_id,
};
use crate::{
    convert::timestamp,
    error::{Detail, Error, Result},
    journal::deliver_before_resuming,
    retry::RetryPolicy,
};

/// Longest time to ask for a run that may exist.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Longest time to deliver what the last process of such a run has left.
const LOOK_BACK: Duration = Duration::from_secs(10);
const DEFAULT_EXPERIMENT: &str = "default";

impl Tracking {
    /// Starts a run, and its experiment where there is none of that name. It returns at once, with or without a server; the
    /// server hears of it as of all that is logged. A run whose id exists is resumed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for bad names or labels; for a run that is resumed, [`Error::AlreadyExists`] when it is of
    /// another experiment, [`Error::FailedPrecondition`] when it is deleted, and [`Error::NotFound`] when there is none to rewind.
    pub async fn start_run(&self, mut new: NewRun) -> Result<ActiveRun> {
        // Names that are put together from settings often end in a blank.
        new.name = new.name.trim().to_owned();
        let run_id = match &new.id {
            Some(id) => checked_run_id(id)?,
            None => new_run_id(),
        };
        check(&new, &run_id)?;
        let known = match &new.id {
            Some(_) => {
                deliver_before_resuming(&self.client, LOOK_BACK).await?;
                self.known(&run_id).await?
            }
            None => Known::No,
        };
        let mut started = fresh(&new, &run_id)?;
        match &known {
            Known::Yes(run) => {
                if run.deleted_at.is_some() {
                    return Err(deleted(&run_id));
                }
                if !new.keep_experiment && run.experiment != started.experiment {
                    return Err(other_experiment(run, &started.experiment));
                }
                started = went_on(&new, run);
            }
            Known::No if new.resume_from.is_some() => return Err(not_found(&run_id)),
            Known::No | Known::Perhaps => {}
        }
        let resume = (!matches!(known, Known::No)).then(|| pb::ResumeRunRequest {
            project: self.client.project().to_owned(),
            run_id: run_id.clone(),
            from_step: new.resume_from,
            request_id: Uuid::now_v7().to_string(),
            // Whoever delivers it says so.
            writer_id: String::new(),
            resumed_at: Some(timestamp(SystemTime::now())),
        });
        let create = self.create_request(&started);
        let run = ActiveRun::new(self.client.clone(), started, true)?;
        run.open(&create, resume.as_ref());
        if resume.is_some() {
            self.say_anew(&run, &new)?;
        }
        Ok(run)
    }

    /// A run that goes on takes the name, the notes and the labels that it is given now.
    fn say_anew(&self, run: &ActiveRun, new: &NewRun) -> Result<()> {
        run.set_tags(new.tags.clone())?;
        let given = [("name", &new.name), ("description", &new.description)];
        let paths: Vec<String> = given
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(field, _)| (*field).to_owned())
            .collect();
        if !paths.is_empty() {
            run.update(&pb::UpdateRunRequest {
                project: self.client.project().to_owned(),
                run: Some(pb::Run {
                    id: run.id().to_owned(),
                    name: new.name.clone(),
                    description: new.description.clone(),
                    ..Default::default()
                }),
                update_mask: Some(prost_types::FieldMask { paths }),
            });
        }
        Ok(())
    }

    fn create_request(&self, run: &Run) -> pb::CreateRunRequest {
        pb::CreateRunRequest {
            project: self.client.project().to_owned(),
            run_id: run.id.clone(),
            experiment: run.experiment.clone(),
            name: run.name.clone(),
            parent_run_id: run.parent_run_id.clone().unwrap_or_default(),
            description: run.description.clone(),
            tags: run.tags.clone().into_iter().collect(),
            started_at: Some(timestamp(run.started_at)),
            request_id: String::new(),
            // Whoever delivers it says so; the latter where it is the process itself.
            writer_id: String::new(),
            heartbeats: false,
        }
    }

    /// Takes part in a run that another process has started and ends: a rank of the same training, for example. The server
    /// need not know it yet.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] when it has ended, [`Error::Misuse`] when the id is no UUID.
    pub async fn join_run(&self, run_id: &str) -> Result<ActiveRun> {
        let run_id = checked_run_id(run_id)?;
        let run = match self.known(&run_id).await? {
            Known::Yes(run) => *run,
            Known::No | Known::Perhaps => fresh(&NewRun::default(), &run_id)?,
        };
        if !matches!(run.status, RunStatus::Running | RunStatus::Crashed) {
            let detail = Detail {
                message: format!("run {} has ended ({}); start a new one", run.id, run.status),
                reason: "RUN_ENDED".into(),
                ..Default::default()
            };
            return Err(Error::FailedPrecondition(Box::new(detail)));
        }
        ActiveRun::new(self.client.clone(), run, false)
    }

    /// What the server knows of a run, if it says so soon.
    async fn known(&self, run_id: &str) -> Result<Known> {
        let settings = self.client.to_builder().timeout(LOOK_UP);
        let asking = settings.retry(RetryPolicy::none()).build()?;
        match asking.tracking().find_run(run_id, View::All).await {
            Ok(run) => Ok(Known::Yes(Box::new(run))),
            Err(Error::NotFound(_)) => Ok(Known::No),
            Err(error @ (Error::PermissionDenied(_) | Error::InvalidArgument(_))) => Err(error),
            Err(error) => {
                tracing::debug!(%error, run_id, "the server does not say whether the run exists");
                Ok(Known::Perhaps)
            }
        }
    }
}

/// Whether a run exists.
enum Known {
    Yes(Box<Run>),
    No,
    Perhaps,
}

fn check(new: &NewRun, run_id: &str) -> Result<()> {
    let mut violations = Violations::default();
    if !new.experiment.is_empty() {
        let experiment = rules::name(&new.experiment, rules::MAX_EXPERIMENT_NAME);
        violations.check("experiment", experiment);
    }
    if !new.name.is_empty() {
        violations.check("name", rules::name(&new.name, rules::MAX_RUN_NAME));
    }
    if new.parent_run_id.as_deref() == Some(run_id) {
        let complaint = "a run cannot be nested in itself".to_owned();
        violations.check("parent_run_id", Err(complaint));
    }
    let description = rules::text(&new.description, rules::MAX_DESCRIPTION);
    violations.check("description", description);
    violations.labels("tags", &new.tags);
    violations.finish()
}

/// The record of a run that begins now.
fn fresh(new: &NewRun, run_id: &str) -> Result<Run> {
    let id = Uuid::try_parse(run_id).map_err(|e| Error::misuse(format!("`{run_id}`: {e}")))?;
    let now = SystemTime::now();
    let or = |given: &str, default: &str| match given {
        "" => default.to_owned(),
        given => given.to_owned(),
    };
    Ok(Run {
        id: run_id.to_owned(),
        experiment: or(&new.experiment, DEFAULT_EXPERIMENT),
        name: or(&new.name, &made_name(id.into_bytes())),
        parent_run_id: new
            .parent_run_id
            .as_deref()
            .map(checked_run_id)
            .transpose()?,
        status: RunStatus::Running,
        status_message: String::new(),
        description: new.description.clone(),
        params: Default::default(),
        tags: new.tags.clone(),
        metrics: Default::default(),
        started_at: new.started_at.unwrap_or(now),
        ended_at: None,
        created_at: now,
        updated_at: now,
        created_by: String::new(),
        heartbeat_at: None,
        branches: Vec::new(),
        deleted_at: None,
        inputs: Vec::new(),
    })
}

/// The record of a run that goes on.
fn went_on(new: &NewRun, run: &Run) -> Run {
    let mut run = run.clone();
    run.status = RunStatus::Running;
    run.ended_at = None;
    if !new.name.is_empty() {
        run.name.clone_from(&new.name);
    }
    if !new.description.is_empty() {
        run.description.clone_from(&new.description);
    }
    run.tags.extend(new.tags.clone());
    run
}

fn other_experiment(run: &Run, asked: &str) -> Error {
    Error::AlreadyExists(Box::new(Detail {
        message: format!(
            "run {} exists, in experiment `{}` and not in `{asked}`",
            run.id, run.experiment
        ),
        reason: "RUN_ALREADY_EXISTS".into(),
        ..Default::default()
    }))
}

fn deleted(run_id: &str) -> Error {
    Error::FailedPrecondition(Box::new(Detail {
        message: format!("the run {run_id} is deleted; restore it first, or begin another one"),
        reason: "RUN_DELETED".into(),
        ..Default::default()
    }))
}

fn not_found(run_id: &str) -> Error {
    Error::NotFound(Box::new(Detail {
        message: format!("there is no run {run_id} to resume"),
        reason: "RUN_NOT_FOUND".into(),
        ..Default::default()
    }))
}
