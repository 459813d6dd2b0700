//! Experiments between the contract and our own types.

use mlplat_proto::tracking::v1 as pb;
use prost_types::FieldMask;
use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, Result},
    idempotency,
    request::{self, MAX_DESCRIPTION, Mask, Violations},
    tags,
    tracking::entity::experiment,
};

/// The experiment of runs that name none.
pub(in crate::tracking) const DEFAULT_EXPERIMENT: &str = "default";
/// Longest name, in characters.
pub(in crate::tracking) const MAX_NAME: usize = 250;

/// A parsed CreateExperiment.
#[derive(Debug)]
pub(super) struct NewExperiment {
    pub(super) name: String,
    pub(super) description: String,
    /// JSON text, as stored.
    pub(super) tags: String,
    pub(super) key: idempotency::Key,
}

impl TryFrom<&pb::CreateExperimentRequest> for NewExperiment {
    type Error = Error;

    fn try_from(message: &pb::CreateExperimentRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let name = violations.parse("name", request::name(&message.name, MAX_NAME));
        let description = violations.parse(
            "description",
            request::text(&message.description, MAX_DESCRIPTION),
        );
        tags::check(&mut violations, "tags", &message.tags);
        let key = idempotency::key(&mut violations, &message.request_id);
        violations.finish()?;
        Ok(Self {
            name: name.unwrap_or_default(),
            description: description.unwrap_or_default(),
            tags: tags::to_json(&message.tags),
            key,
        })
    }
}

/// How an experiment is found.
#[derive(Debug, PartialEq)]
pub(super) enum Which {
    Id(Uuid),
    Name(String),
}

/// A parsed UpdateExperiment: what is `None` stays.
#[derive(Debug)]
pub(super) struct ExperimentChange {
    pub(super) which: Which,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    /// JSON text, as stored.
    pub(super) tags: Option<String>,
}

impl ExperimentChange {
    pub(super) fn parse(
        experiment: Option<pb::Experiment>,
        mask: Option<FieldMask>,
    ) -> Result<Self> {
        let experiment = experiment.unwrap_or_default();
        let mut violations = Violations::new();
        let mask = violations.parse(
            "update_mask",
            Mask::parse(mask, &["name", "description", "tags"]),
        );
        let changes = |field| mask.as_ref().is_some_and(|mask| mask.has(field));
        let renamed = changes("name");
        let id = match experiment.id.as_str() {
            "" if renamed => {
                violations.add("experiment.id", "is needed to change the name");
                None
            }
            "" => None,
            given => violations.parse("experiment.id", request::uuid(given)),
        };
        // A name that is not looked at may be missing.
        let name = (renamed || id.is_none())
            .then(|| violations.parse("experiment.name", request::name(&experiment.name, MAX_NAME)))
            .flatten();
        let description = changes("description")
            .then(|| {
                violations.parse(
                    "experiment.description",
                    request::text(&experiment.description, MAX_DESCRIPTION),
                )
            })
            .flatten();
        let tags = changes("tags").then(|| {
            tags::check(&mut violations, "experiment.tags", &experiment.tags);
            tags::to_json(&experiment.tags)
        });
        violations.finish()?;
        Ok(Self {
            which: match id {
                Some(id) => Which::Id(id),
                None => Which::Name(name.clone().unwrap_or_default()),
            },
            name: name.filter(|_| renamed),
            description,
            tags,
        })
    }
}

/// Where the server keeps the files of the experiment's project.
fn artifact_location(app: &App, row: &experiment::Model) -> String {
    format!(
        "{}/objects/{}",
        app.config.artifact_location(),
        row.project_id.simple()
    )
}

/// The row of an experiment, to the wire.
pub(super) fn experiment_to_proto(app: &App, row: experiment::Model) -> pb::Experiment {
    pb::Experiment {
        artifact_location: artifact_location(app, &row),
        id: row.id.to_string(),
        name: row.name,
        description: row.description,
        tags: tags::from_json(&row.tags),
        created_at: Some(Timestamp(row.created_at).to_proto()),
        updated_at: Some(Timestamp(row.updated_at).to_proto()),
        created_by: row.created_by,
        deleted_at: row.deleted_at.map(|at| Timestamp(at).to_proto()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_masked_fields_change() {
        let experiment = pb::Experiment {
            name: "delays".to_owned(),
            description: "new".to_owned(),
            tags: [("a".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        let mask = |path: &str| {
            Some(FieldMask {
                paths: vec![path.to_owned()],
            })
        };
        let change =
            ExperimentChange::parse(Some(experiment.clone()), mask("tags")).expect("valid");
        assert_eq!(
            (change.description, change.tags.as_deref()),
            (None, Some(r#"{"a":"1"}"#))
        );
        assert_eq!(change.which, Which::Name("delays".to_owned()));
        // A new name cannot say which experiment is meant.
        assert!(ExperimentChange::parse(Some(experiment.clone()), mask("name")).is_err());
        let id = Uuid::from_u128(7);
        let named = pb::Experiment {
            id: id.to_string(),
            ..experiment
        };
        let change = ExperimentChange::parse(Some(named), mask("name")).expect("valid");
        assert_eq!(
            (change.which, change.name.as_deref()),
            (Which::Id(id), Some("delays"))
        );
    }

    #[test]
    fn all_bad_fields_of_a_create_at_once() {
        let message = pb::CreateExperimentRequest {
            name: "a\nb".to_owned(),
            description: "x".repeat(MAX_DESCRIPTION + 1),
            request_id: "7".to_owned(),
            ..Default::default()
        };
        let Err(Error::Invalid(found)) = NewExperiment::try_from(&message) else {
            panic!("must be invalid")
        };
        assert_eq!(found.len(), 3);
    }
}
