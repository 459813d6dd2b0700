//! Runs between the contract and our own types.

use std::collections::HashMap;

use mlplat_proto::{run_name::made_name, tracking::v1 as pb};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    error::{Error, Result},
    idempotency,
    request::{self, MAX_DESCRIPTION, Mask, Violations},
    tags,
    tracking::{
        entity::run::{self, Status},
        experiments,
    },
};

const MAX_NAME: usize = 250;

/// A parsed CreateRun.
#[derive(Debug)]
pub(super) struct NewRun {
    pub(super) id: Uuid,
    pub(super) experiment: String,
    pub(super) name: String,
    pub(super) parent_run_id: Option<Uuid>,
    pub(super) description: String,
    pub(super) tags: HashMap<String, String>,
    /// Unset means now.
    pub(super) started_at: Option<Timestamp>,
    pub(super) key: idempotency::Key,
    /// The process says that it lives.
    pub(super) heartbeats: bool,
    /// The writing process that begins it.
    pub(super) writer: Option<Uuid>,
}

impl TryFrom<&pb::CreateRunRequest> for NewRun {
    type Error = Error;

    fn try_from(message: &pb::CreateRunRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let id = match message.run_id.as_str() {
            "" => Some(Uuid::now_v7()),
            given => violations.parse("run_id", run_id(given)),
        }
        .unwrap_or_default();
        let experiment = match message.experiment.as_str() {
            "" => Some(experiments::DEFAULT_EXPERIMENT.to_owned()),
            given => violations.parse("experiment", request::name(given, experiments::MAX_NAME)),
        };
        let name = match message.name.as_str() {
            "" => Some(made_name(id.into_bytes())),
            given => violations.parse("name", request::name(given, MAX_NAME)),
        };
        let parent_run_id = match message.parent_run_id.as_str() {
            "" => None,
            given => violations.parse("parent_run_id", run_id(given)),
        };
        if parent_run_id == Some(id) {
            violations.add("parent_run_id", "a run cannot be nested in itself");
        }
        let description = violations.parse(
            "description",
            request::text(&message.description, MAX_DESCRIPTION),
        );
        tags::check(&mut violations, "tags", &message.tags);
        let started_at = message
            .started_at
            .as_ref()
            .and_then(|at| violations.parse("started_at", request::timestamp(at)));
        // The id of the run makes a repeated call safe by itself.
        let key = idempotency::key(&mut violations, &message.request_id)
            .filter(|_| message.run_id.is_empty());
        let writer = request::optional_uuid(&mut violations, "writer_id", &message.writer_id);
        violations.finish()?;
        Ok(Self {
            id,
            experiment: experiment.unwrap_or_default(),
            name: name.unwrap_or_default(),
            parent_run_id,
            description: description.unwrap_or_default(),
            tags: message.tags.clone(),
            started_at,
            key,
            heartbeats: message.heartbeats,
            writer,
        })
    }
}

/// A parsed UpdateRun: what is `None` stays.
#[derive(Debug)]
pub(super) struct RunChange {
    pub(super) id: Uuid,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) tags: Option<HashMap<String, String>>,
}

impl RunChange {
    pub(super) fn parse(message: pb::UpdateRunRequest) -> Result<Self> {
        let run = message.run.unwrap_or_default();
        let mut violations = Violations::new();
        let id = violations.parse("run.id", run_id(&run.id));
        let mask = violations.parse(
            "update_mask",
            Mask::parse(message.update_mask, &["name", "description", "tags"]),
        );
        let changes = |field| mask.as_ref().is_some_and(|mask| mask.has(field));
        let mut name = None;
        if changes("name") {
            name = violations.parse("run.name", request::name(&run.name, MAX_NAME));
        }
        let mut description = None;
        if changes("description") {
            description = violations.parse(
                "run.description",
                request::text(&run.description, MAX_DESCRIPTION),
            );
        }
        let mut tags = None;
        if changes("tags") {
            tags::check(&mut violations, "run.tags", &run.tags);
            tags = Some(run.tags);
        }
        violations.finish()?;
        Ok(Self {
            id: id.unwrap_or_default(),
            name,
            description,
            tags,
        })
    }
}

/// A parsed EndRun.
#[derive(Debug)]
pub(super) struct RunEnd {
    pub(super) id: Uuid,
    pub(super) status: Status,
    pub(super) message: String,
    /// Unset means now.
    pub(super) ended_at: Option<Timestamp>,
    /// The writing process that ends it.
    pub(super) writer: Option<Uuid>,
}

impl RunEnd {
    pub(super) fn parse(message: &pb::EndRunRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let id = violations.parse("run_id", run_id(&message.run_id));
        let status = match message.status() {
            pb::RunStatus::Finished => Status::Finished,
            pb::RunStatus::Failed => Status::Failed,
            pb::RunStatus::Killed => Status::Killed,
            pb::RunStatus::Unspecified | pb::RunStatus::Running | pb::RunStatus::Crashed => {
                violations.add("status", "must be FINISHED, FAILED or KILLED");
                Status::Running
            }
        };
        let text = violations.parse(
            "status_message",
            request::text(&message.status_message, MAX_DESCRIPTION),
        );
        let ended_at = message
            .ended_at
            .as_ref()
            .and_then(|at| violations.parse("ended_at", request::timestamp(at)));
        let writer = request::optional_uuid(&mut violations, "writer_id", &message.writer_id);
        violations.finish()?;
        Ok(Self {
            id: id.unwrap_or_default(),
            status,
            message: text.unwrap_or_default(),
            ended_at,
            writer,
        })
    }
}

/// A parsed ResumeRun.
#[derive(Debug)]
pub(super) struct Resumption {
    pub(super) id: Uuid,
    /// The first step to log anew, and the id of the request that wants it.
    pub(super) rewind: Option<(i64, Uuid)>,
    /// The writing process that goes on with the run.
    pub(super) writer: Option<Uuid>,
    /// When it took the run up, where that is told late.
    pub(super) resumed_at: Option<Timestamp>,
}

impl Resumption {
    pub(super) fn parse(message: &pb::ResumeRunRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let id = violations.parse("run_id", run_id(&message.run_id));
        let request_id = idempotency::key(&mut violations, &message.request_id);
        if message.from_step.is_some() && message.request_id.is_empty() {
            violations.add("request_id", "is needed with from_step");
        }
        let writer = request::optional_uuid(&mut violations, "writer_id", &message.writer_id);
        let resumed_at = message
            .resumed_at
            .as_ref()
            .and_then(|at| violations.parse("resumed_at", request::timestamp(at)));
        violations.finish()?;
        Ok(Self {
            id: id.unwrap_or_default(),
            rewind: message.from_step.zip(request_id),
            writer,
            resumed_at,
        })
    }
}

const MAX_HEARTBEATS: usize = 1000;

/// Signs of life of some runs.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// Each once.
    pub(super) ids: Vec<Uuid>,
    /// When they were given, where that is told late; at most now.
    pub(super) heard_at: Option<Timestamp>,
    /// The writing process that lives.
    pub(super) writer: Option<Uuid>,
}

impl Heartbeat {
    pub(super) fn parse(message: &pb::HeartbeatRunsRequest, now: Timestamp) -> Result<Self> {
        let mut violations = Violations::new();
        let mut ids = Vec::new();
        if message.run_ids.len() > MAX_HEARTBEATS {
            violations.add(
                "run_ids",
                format!(
                    "must hold at most {MAX_HEARTBEATS} ids, holds {}",
                    message.run_ids.len()
                ),
            );
        } else {
            for (index, text) in message.run_ids.iter().enumerate() {
                ids.extend(violations.parse(format!("run_ids[{index}]"), run_id(text)));
            }
        }
        let heard_at = message
            .last_heard_at
            .as_ref()
            .and_then(|at| violations.parse("last_heard_at", request::timestamp(at)));
        let writer = request::optional_uuid(&mut violations, "writer_id", &message.writer_id);
        violations.finish()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(Self {
            ids,
            heard_at: heard_at.map(|at| at.min(now)),
            writer,
        })
    }
}

/// The id of a run: any UUID but nil, which is what a forgotten one looks like.
pub(in crate::tracking) fn run_id(text: &str) -> std::result::Result<Uuid, String> {
    request::uuid(text).and_then(|id| {
        if id.is_nil() {
            Err("must not be the nil UUID".to_owned())
        } else {
            Ok(id)
        }
    })
}

impl From<Status> for pb::RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Finished => Self::Finished,
            Status::Failed => Self::Failed,
            Status::Killed => Self::Killed,
            Status::Crashed => Self::Crashed,
        }
    }
}

/// The row of a run, to the wire; params, tags and metrics stay empty.
pub(super) fn run_to_proto(row: run::Model, experiment: String) -> pb::Run {
    pb::Run {
        id: row.id.to_string(),
        experiment,
        name: row.name,
        parent_run_id: row
            .parent_run_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        status: pb::RunStatus::from(row.status).into(),
        status_message: row.status_message,
        description: row.description,
        params: HashMap::new(),
        tags: HashMap::new(),
        metrics: Vec::new(),
        started_at: Some(Timestamp(row.started_at).to_proto()),
        ended_at: row.ended_at.map(|at| Timestamp(at).to_proto()),
        created_at: Some(Timestamp(row.created_at).to_proto()),
        updated_at: Some(Timestamp(row.updated_at).to_proto()),
        created_by: row.created_by,
        deleted_at: row.deleted_at.map(|at| Timestamp(at).to_proto()),
        heartbeat_at: row.heartbeat_at.map(|at| Timestamp(at).to_proto()),
        ..Default::default()
    }
}

/// A text as the number it reads as, for comparisons with numbers: a finite decimal such as `3`, `-0.5` or `1e-4`.
pub(super) fn number(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse()
        .ok()
        .filter(|number: &f64| plain && number.is_finite())
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;

    use super::*;

    const RUN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn bad_fields<T: std::fmt::Debug>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
            other => panic!("must be invalid: {other:?}"),
        }
    }

    #[test]
    fn a_bare_create_gets_defaults() {
        let new = NewRun::try_from(&pb::CreateRunRequest::default()).expect("valid");
        assert_eq!(new.experiment, "default");
        assert_eq!(new.name, made_name(new.id.into_bytes()));
        assert_eq!(new.id.get_version_num(), 7);
    }

    #[test]
    fn a_run_is_not_its_own_parent() {
        let message = pb::CreateRunRequest {
            run_id: RUN.to_owned(),
            parent_run_id: RUN.to_owned(),
            ..Default::default()
        };
        assert_eq!(bad_fields(NewRun::try_from(&message)), ["parent_run_id"]);
    }

    #[test]
    fn all_bad_fields_of_a_create_at_once() {
        let message = pb::CreateRunRequest {
            run_id: "x".to_owned(),
            experiment: "a\tb".to_owned(),
            name: " ".to_owned(),
            started_at: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            }),
            ..Default::default()
        };
        assert_eq!(
            bad_fields(NewRun::try_from(&message)),
            ["run_id", "experiment", "name", "started_at"]
        );
    }

    #[test]
    fn a_run_ends_in_an_end() {
        let end = |status: pb::RunStatus| {
            RunEnd::parse(&pb::EndRunRequest {
                run_id: RUN.to_owned(),
                status: status.into(),
                ..Default::default()
            })
        };
        assert_eq!(
            end(pb::RunStatus::Killed).expect("valid").status,
            Status::Killed
        );
        assert_eq!(bad_fields(end(pb::RunStatus::Running)), ["status"]);
        assert_eq!(bad_fields(end(pb::RunStatus::Unspecified)), ["status"]);
    }

    #[test]
    fn an_update_changes_what_is_masked() {
        let message = pb::UpdateRunRequest {
            run: Some(pb::Run {
                id: RUN.to_owned(),
                ..Default::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["tags".to_owned()],
            }),
            ..Default::default()
        };
        let change = RunChange::parse(message).expect("valid");
        assert_eq!(
            (change.name, change.description, change.tags),
            (None, None, Some(HashMap::new()))
        );
    }

    #[test]
    fn numbers_in_texts() {
        assert_eq!(number("3"), Some(3.0));
        assert_eq!(number("-1e-4"), Some(-0.0001));
        for text in ["", "inf", "NaN", "1e999", "0x10", "3 ", "1_000", "three"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
