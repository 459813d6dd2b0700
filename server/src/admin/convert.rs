//! Projects between messages and rows.

use mlplat_proto::admin::v1 as pb;
use prost_types::FieldMask;

use super::entity::project;
use crate::{
    clock::Timestamp,
    error::{Error, Result},
    idempotency,
    request::{self, MAX_DESCRIPTION, Mask, Violations},
    tags,
};

/// Longest name of a project.
const MAX_NAME: usize = 63;

/// A project to create.
#[derive(Debug)]
pub(super) struct NewProject {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) tags: String,
    pub(super) key: idempotency::Key,
}

impl TryFrom<&pb::CreateProjectRequest> for NewProject {
    type Error = Error;

    fn try_from(message: &pb::CreateProjectRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let name = violations
            .parse("name", project_name(&message.name))
            .unwrap_or_default();
        let description = violations
            .parse(
                "description",
                request::text(&message.description, MAX_DESCRIPTION),
            )
            .unwrap_or_default();
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

/// What an update changes.
#[derive(Debug)]
pub(super) struct ProjectChange {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) tags: Option<String>,
}

impl ProjectChange {
    pub(super) fn parse(project: Option<pb::Project>, mask: Option<FieldMask>) -> Result<Self> {
        let project = project.unwrap_or_default();
        let mut violations = Violations::new();
        let mask = violations.parse("update_mask", Mask::parse(mask, &["description", "tags"]));
        let has = |field| mask.as_ref().is_some_and(|mask| mask.has(field));
        if has("description") {
            violations.parse(
                "project.description",
                request::text(&project.description, MAX_DESCRIPTION),
            );
        }
        if has("tags") {
            tags::check(&mut violations, "project.tags", &project.tags);
        }
        let change = Self {
            description: has("description").then(|| project.description.clone()),
            tags: has("tags").then(|| tags::to_json(&project.tags)),
            name: request::project_name(&project.name),
        };
        violations.finish()?;
        Ok(change)
    }
}

impl From<project::Model> for pb::Project {
    fn from(row: project::Model) -> Self {
        Self {
            name: row.name,
            description: row.description,
            tags: tags::from_json(&row.tags),
            created_at: Some(Timestamp(row.created_at).to_proto()),
            updated_at: Some(Timestamp(row.updated_at).to_proto()),
            created_by: row.created_by,
        }
    }
}

fn project_name(text: &str) -> std::result::Result<String, String> {
    let fits = (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{} must be 1 to {MAX_NAME} of a-z, 0-9, `-` and `_`, beginning with a letter or digit",
            request::quoted(text)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_projects() {
        for good in ["a", "0-x_y", &"a".repeat(63)] {
            assert!(project_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "ä", &"a".repeat(64)] {
            assert!(project_name(bad).is_err(), "{bad}");
        }
    }
}
