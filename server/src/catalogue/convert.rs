//! Models between messages and rows.

use std::collections::HashMap;

use anyhow::anyhow;
use mlplat_proto::catalogue::v1::{self as pb, get_model_version_request::Which};
use prost::Message as _;
use prost_types::FieldMask;
use uuid::Uuid;

use super::{
    entity::{alias, model, version},
    stage::Stage,
};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
    idempotency,
    request::{self, MAX_DESCRIPTION, Mask, Violations, quoted},
    tags,
};

const MAX_NAME: usize = 250;
/// The alias-like word that stands for the newest version.
const LATEST: &str = "latest";

/// A model to create.
#[derive(Debug)]
pub(super) struct NewModel {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) tags: String,
    pub(super) key: idempotency::Key,
}

impl TryFrom<&pb::CreateRegisteredModelRequest> for NewModel {
    type Error = Error;

    fn try_from(message: &pb::CreateRegisteredModelRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let name = violations
            .parse("name", model_name(&message.name))
            .unwrap_or_default();
        let description = description(&mut violations, "description", &message.description);
        tags::check(&mut violations, "tags", &message.tags);
        let key = idempotency::key(&mut violations, &message.request_id);
        violations.finish()?;
        Ok(Self {
            name,
            description,
            tags: tags::to_json(&message.tags),
            key,
        })
    }
}

/// A version to publish.
#[derive(Debug)]
pub(super) struct NewVersion {
    pub(super) model: String,
    pub(super) run_id: Uuid,
    pub(super) artifact_path: String,
    pub(super) description: String,
    pub(super) tags: String,
    pub(super) key: idempotency::Key,
}

impl TryFrom<&pb::PublishModelVersionRequest> for NewVersion {
    type Error = Error;

    fn try_from(message: &pb::PublishModelVersionRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let model = violations
            .parse("model", model_name(&message.model))
            .unwrap_or_default();
        let run_id = violations
            .parse("run_id", request::uuid(&message.run_id))
            .unwrap_or_default();
        let artifact_path = violations
            .parse("artifact_path", artifact_path(&message.artifact_path))
            .unwrap_or_default();
        let description = description(&mut violations, "description", &message.description);
        tags::check(&mut violations, "tags", &message.tags);
        let key = idempotency::key(&mut violations, &message.request_id);
        violations.finish()?;
        Ok(Self {
            model,
            run_id,
            artifact_path,
            description,
            tags: tags::to_json(&message.tags),
            key,
        })
    }
}

/// Which version is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    Newest,
    Number(i32),
    Alias(String),
}

/// A version by the name of its model.
#[derive(Debug)]
pub(super) struct VersionName {
    pub(super) model: String,
    pub(super) selector: Selector,
}

impl TryFrom<&pb::GetModelVersionRequest> for VersionName {
    type Error = Error;

    fn try_from(message: &pb::GetModelVersionRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let model = violations
            .parse("model", model_name(&message.model))
            .unwrap_or_default();
        let selector = match &message.which {
            None => Selector::Newest,
            Some(Which::Version(number)) => Selector::Number(
                violations
                    .parse("version", version_number(*number))
                    .unwrap_or_default(),
            ),
            Some(Which::Alias(alias)) if alias == LATEST => Selector::Newest,
            Some(Which::Alias(alias)) => Selector::Alias(
                violations
                    .parse("alias", alias_name(alias))
                    .unwrap_or_default(),
            ),
        };
        violations.finish()?;
        Ok(Self { model, selector })
    }
}

/// New notes and labels of a model or a version.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) description: Option<String>,
    pub(super) tags: Option<String>,
}

impl Change {
    fn parse(
        violations: &mut Violations,
        resource: &str,
        mask: Option<FieldMask>,
        description: &str,
        tags: &HashMap<String, String>,
    ) -> Self {
        let mask = violations.parse("update_mask", Mask::parse(mask, &["description", "tags"]));
        let has = |field| mask.as_ref().is_some_and(|mask| mask.has(field));
        if has("tags") {
            tags::check(violations, &format!("{resource}.tags"), tags);
        }
        Self {
            tags: has("tags").then(|| tags::to_json(tags)),
            description: has("description").then(|| {
                self::description(violations, &format!("{resource}.description"), description)
            }),
        }
    }
}

/// Reads an update of a model: its name and what changes.
pub(super) fn model_change(message: pb::UpdateRegisteredModelRequest) -> Result<(String, Change)> {
    let model = message.registered_model.unwrap_or_default();
    let mut violations = Violations::new();
    let name = violations
        .parse("registered_model.name", model_name(&model.name))
        .unwrap_or_default();
    let change = Change::parse(
        &mut violations,
        "registered_model",
        message.update_mask,
        &model.description,
        &model.tags,
    );
    violations.finish()?;
    Ok((name, change))
}

/// Reads an update of a version: its model, its number and what changes.
pub(super) fn version_change(
    message: pb::UpdateModelVersionRequest,
) -> Result<(String, i32, Change)> {
    let version = message.model_version.unwrap_or_default();
    let mut violations = Violations::new();
    let model = violations
        .parse("model_version.model", model_name(&version.model))
        .unwrap_or_default();
    let number = violations
        .parse("model_version.version", version_number(version.version))
        .unwrap_or_default();
    let change = Change::parse(
        &mut violations,
        "model_version",
        message.update_mask,
        &version.description,
        &version.tags,
    );
    violations.finish()?;
    Ok((model, number, change))
}

/// A move of a version to another stage.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) model: String,
    pub(super) version: i32,
    pub(super) to: Stage,
    pub(super) comment: String,
}

impl TryFrom<&pb::TransitionModelVersionRequest> for Move {
    type Error = Error;

    fn try_from(message: &pb::TransitionModelVersionRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let model = violations
            .parse("model", model_name(&message.model))
            .unwrap_or_default();
        let version = violations
            .parse("version", version_number(message.version))
            .unwrap_or_default();
        let to = Stage::from_proto(message.stage);
        if to.is_none() {
            violations.add(
                "stage",
                "must be DEVELOPMENT, STAGING, PRODUCTION or ARCHIVED",
            );
        }
        let comment = description(&mut violations, "comment", &message.comment);
        violations.finish()?;
        Ok(Self {
            model,
            version,
            to: to.unwrap_or(Stage::Development),
            comment,
        })
    }
}

/// An alias to set: model, alias, version.
pub(super) fn alias_to_set(message: &pb::SetModelAliasRequest) -> Result<(String, String, i32)> {
    let mut violations = Violations::new();
    let model = violations
        .parse("model", model_name(&message.model))
        .unwrap_or_default();
    let alias = violations
        .parse("alias", alias_name(&message.alias))
        .unwrap_or_default();
    let version = violations
        .parse("version", version_number(message.version))
        .unwrap_or_default();
    violations.finish()?;
    Ok((model, alias, version))
}

/// An alias to remove: model and alias.
pub(super) fn alias_to_delete(message: &pb::DeleteModelAliasRequest) -> Result<(String, String)> {
    let mut violations = Violations::new();
    let model = violations
        .parse("model", model_name(&message.model))
        .unwrap_or_default();
    let alias = violations
        .parse("alias", alias_name(&message.alias))
        .unwrap_or_default();
    violations.finish()?;
    Ok((model, alias))
}

/// The name of a model.
pub(super) fn model_name(text: &str) -> std::result::Result<String, String> {
    if text.contains(['/', ':']) {
        return Err(format!("{} must not hold `/` or `:`", quoted(text)));
    }
    request::name(text, MAX_NAME)
}

fn alias_name(text: &str) -> std::result::Result<String, String> {
    let fits = (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !fits {
        return Err(format!(
            "{} must be 1 to {MAX_NAME} of letters, digits, `_` and `-`",
            quoted(text)
        ));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text} is a number, and numbers are versions"));
    }
    if text.eq_ignore_ascii_case(LATEST) {
        return Err(format!("`{LATEST}` always means the newest version"));
    }
    Ok(text.to_owned())
}

fn version_number(number: u32) -> std::result::Result<i32, String> {
    match i32::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!(
            "{number} is not the number of a version; they are counted from 1"
        )),
    }
}

fn description(violations: &mut Violations, field: &str, text: &str) -> String {
    violations
        .parse(field, request::text(text, MAX_DESCRIPTION))
        .unwrap_or_default()
}

/// A path below the run; a slash at its end is dropped.
fn artifact_path(text: &str) -> std::result::Result<String, String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.is_empty() {
        return Err("must name a file or directory of the run".to_owned());
    }
    if path.split('/').any(|part| matches!(part, "" | "." | ".."))
        || path.chars().any(char::is_control)
    {
        return Err(format!(
            "{} must be a relative path without empty parts, `.` and `..`",
            quoted(text)
        ));
    }
    Ok(path.to_owned())
}

/// Numbers of versions are positive, and fit both types.
pub(super) fn to_u32(version: i32) -> u32 {
    u32::try_from(version).unwrap_or_default()
}

fn time(micros: i64) -> Option<prost_types::Timestamp> {
    Some(Timestamp(micros).to_proto())
}

/// A model with its aliases on the wire.
pub(super) fn model_to_proto(row: model::Model, aliases: Vec<alias::Model>) -> pb::RegisteredModel {
    pb::RegisteredModel {
        name: row.name,
        description: row.description,
        tags: tags::from_json(&row.tags),
        aliases: aliases
            .into_iter()
            .map(|alias| (alias.alias, to_u32(alias.version)))
            .collect(),
        latest_version: to_u32(row.latest_version),
        created_at: time(row.created_at),
        updated_at: time(row.updated_at),
        created_by: row.created_by,
    }
}

/// The stage that a version is stored in.
pub(super) fn stage_of(row: &version::Model) -> Result<Stage> {
    Stage::parse(&row.stage).ok_or_else(|| {
        Error::internal(anyhow!(
            "a version is stored in the unknown stage {:?}",
            row.stage
        ))
    })
}

/// A version of the model of this name on the wire, with those of the aliases that point at it.
pub(super) fn version_to_proto(
    model: &str,
    row: version::Model,
    aliases: &[alias::Model],
) -> Result<pb::ModelVersion> {
    let captured = pb::ModelVersion::decode(row.captured.as_slice()).map_err(Error::internal)?;
    let stage = stage_of(&row)?;
    Ok(pb::ModelVersion {
        model: model.to_owned(),
        version: to_u32(row.version),
        stage: stage.to_proto().into(),
        run_id: row.run_id.to_string(),
        artifact_path: row.artifact_path,
        description: row.description,
        tags: tags::from_json(&row.tags),
        aliases: aliases
            .iter()
            .filter(|a| a.version == row.version)
            .map(|a| a.alias.clone())
            .collect(),
        created_at: time(row.created_at),
        updated_at: time(row.updated_at),
        created_by: row.created_by,
        ..captured
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models() {
        for good in ["arrival-delay", "Modell ä 1", &"x".repeat(250)] {
            assert!(model_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a:1", "a\n", &"x".repeat(251)] {
            assert!(model_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn aliases_are_not_versions() {
        for good in ["champion", "v1", "a_b-2", "1a"] {
            assert!(alias_name(good).is_ok(), "{good}");
        }
        for bad in ["", "12", "latest", "Latest", "a b", "ä", &"x".repeat(251)] {
            assert!(alias_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_stay_below_the_run() {
        assert_eq!(artifact_path("model/"), Ok("model".to_owned()));
        assert_eq!(artifact_path("a/b.pkl"), Ok("a/b.pkl".to_owned()));
        for bad in ["", "/", "/etc/passwd", "a/../b", "..", "a//b", "./a", "a\0"] {
            assert!(artifact_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_newest_version_is_the_default() {
        let which = |which| {
            let message = pb::GetModelVersionRequest {
                model: "m".to_owned(),
                which,
                ..Default::default()
            };
            VersionName::try_from(&message).map(|name| name.selector)
        };
        assert_eq!(which(None).unwrap(), Selector::Newest);
        assert_eq!(
            which(Some(Which::Alias("latest".to_owned()))).unwrap(),
            Selector::Newest
        );
        assert_eq!(which(Some(Which::Version(3))).unwrap(), Selector::Number(3));
        assert!(which(Some(Which::Version(0))).is_err());
    }

    #[test]
    fn all_bad_fields_of_a_publication_at_once() {
        let message = pb::PublishModelVersionRequest {
            model: "a:b".to_owned(),
            run_id: "x".to_owned(),
            artifact_path: "../x".to_owned(),
            request_id: "y".to_owned(),
            ..Default::default()
        };
        let Err(Error::Invalid(found)) = NewVersion::try_from(&message) else {
            panic!("must be invalid")
        };
        let fields: Vec<&str> = found.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["model", "run_id", "artifact_path", "request_id"]);
    }
}
