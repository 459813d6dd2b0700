//! Bringing the definitions of a project to what the code says, and showing the difference.

use std::fmt;

use mlplat_proto::features::v1 as pb;
use uuid::Uuid;

use super::{Definitions, Features, feature_store};
use crate::{call::rpc, error::Result};

/// How to apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// Remove the definitions that are not named.
    pub prune: bool,
    /// Only validate and show the difference.
    pub dry_run: bool,
    /// Make incompatible changes too.
    pub force: bool,
}

impl ApplyOptions {
    /// Removes the definitions that are not named.
    #[must_use]
    pub fn prune(mut self, prune: bool) -> Self {
        self.prune = prune;
        self
    }

    /// Only validates and shows the difference.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Makes incompatible changes too: a feature that changes its type or is removed while it is used.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}

/// The sorts of definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DefinitionKind {
    /// An entity.
    Entity,
    /// A source.
    Source,
    /// A feature view.
    FeatureView,
    /// An on-demand feature view.
    OnDemandFeatureView,
    /// A feature service.
    FeatureService,
}

impl DefinitionKind {
    /// Name for people, e.g. `feature view`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Source => "source",
            Self::FeatureView => "feature view",
            Self::OnDemandFeatureView => "on-demand feature view",
            Self::FeatureService => "feature service",
        }
    }
}

/// What is done to a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeAction {
    /// It is new.
    Create,
    /// It gets a new version.
    Update,
    /// It is removed from what is current.
    Delete,
    /// Nothing changes.
    Unchanged,
}

impl ChangeAction {
    /// Upper-case name: `CREATE`, `UPDATE`, `DELETE`, `UNCHANGED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Unchanged => "UNCHANGED",
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Delete => '-',
            Self::Unchanged => ' ',
        }
    }
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldChange {
    /// Path of the field, e.g. `ttl`, `features.temp`.
    pub field: String,
    /// Value before as text; empty where it was not set.
    pub before: String,
    /// Value after as text; empty where it is not set.
    pub after: String,
}

/// What happens to one definition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Sort of the definition.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// What is done.
    pub action: ChangeAction,
    /// What differs, for updates.
    pub fields: Vec<FieldChange>,
}

/// The difference that an apply made (or, on a dry run, would make). Displays as a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The changes, in the order in which they were made, unchanged definitions included.
    pub changes: Vec<Change>,
    /// True when nothing was stored.
    pub dry_run: bool,
}

impl Applied {
    /// True when every definition was as it should be.
    pub fn is_unchanged(&self) -> bool {
        self.count(ChangeAction::Unchanged) == self.changes.len()
    }

    fn count(&self, action: ChangeAction) -> usize {
        self.changes
            .iter()
            .filter(|change| change.action == action)
            .count()
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = || {
            self.changes
                .iter()
                .filter(|change| change.action != ChangeAction::Unchanged)
        };
        let width = changed()
            .map(|change| change.kind.as_str().len())
            .max()
            .unwrap_or(0);
        for change in changed() {
            writeln!(
                f,
                "{} {:width$}  {}",
                change.action.sign(),
                change.kind.as_str(),
                change.name
            )?;
            let field_width = change
                .fields
                .iter()
                .map(|field| field.field.chars().count())
                .max()
                .unwrap_or(0);
            for field in &change.fields {
                let show = |text: &str| {
                    if text.is_empty() {
                        "(none)".to_owned()
                    } else {
                        text.replace('\n', " ")
                    }
                };
                writeln!(
                    f,
                    "      {:field_width$}  {} -> {}",
                    field.field,
                    show(&field.before),
                    show(&field.after)
                )?;
            }
        }
        let [created, updated, deleted, unchanged] = [
            ChangeAction::Create,
            ChangeAction::Update,
            ChangeAction::Delete,
            ChangeAction::Unchanged,
        ]
        .map(|action| self.count(action));
        let mood = if self.dry_run { "would be " } else { "" };
        write!(
            f,
            "{mood}{created} created, {updated} updated, {deleted} deleted, {unchanged} unchanged"
        )
    }
}

impl Change {
    /// None for what a newer server may report and this client does not know.
    fn from_proto(change: pb::Change) -> Option<Self> {
        let kind = match change.kind() {
            pb::DefinitionKind::Entity => DefinitionKind::Entity,
            pb::DefinitionKind::Source => DefinitionKind::Source,
            pb::DefinitionKind::FeatureView => DefinitionKind::FeatureView,
            pb::DefinitionKind::OnDemandFeatureView => DefinitionKind::OnDemandFeatureView,
            pb::DefinitionKind::FeatureService => DefinitionKind::FeatureService,
            pb::DefinitionKind::Unspecified => return None,
        };
        let action = match change.action() {
            pb::ChangeAction::Create => ChangeAction::Create,
            pb::ChangeAction::Update => ChangeAction::Update,
            pb::ChangeAction::Delete => ChangeAction::Delete,
            pb::ChangeAction::Unchanged => ChangeAction::Unchanged,
            pb::ChangeAction::Unspecified => return None,
        };
        let field = |f: pb::FieldChange| FieldChange {
            field: f.field,
            before: f.before,
            after: f.after,
        };
        Some(Self {
            kind,
            action,
            name: change.name,
            fields: change.fields.into_iter().map(field).collect(),
        })
    }
}

impl Features {
    /// Brings the project's definitions to what is given: all of it or nothing. What is not named stays, unless
    /// [`ApplyOptions::prune`] is set.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when definitions do not fit each other or the data,
    /// [`Error::FailedPrecondition`](crate::Error::FailedPrecondition) for an incompatible change that is not forced.
    pub async fn apply(
        &self,
        definitions: impl Into<Definitions>,
        options: ApplyOptions,
    ) -> Result<Applied> {
        let definitions = definitions.into();
        let views = definitions
            .feature_views
            .into_iter()
            .map(|view| view.into_proto());
        let request = pb::ApplyRequest {
            project: self.project(),
            entities: definitions.entities.into_iter().map(Into::into).collect(),
            sources: definitions.sources.into_iter().map(Into::into).collect(),
            feature_views: views.collect::<Result<_>>()?,
            on_demand_feature_views: definitions
                .on_demand_feature_views
                .into_iter()
                .map(Into::into)
                .collect(),
            feature_services: definitions
                .feature_services
                .into_iter()
                .map(Into::into)
                .collect(),
            prune: options.prune,
            dry_run: options.dry_run,
            force: options.force,
            request_id: Uuid::new_v4().to_string(),
        };
        let answer = rpc!(self.client, Repeatable, feature_store.apply, request)?;
        let changes = answer
            .changes
            .into_iter()
            .filter_map(Change::from_proto)
            .collect();
        Ok(Applied {
            changes,
            dry_run: options.dry_run,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diff_reads_like_one() {
        let change = |kind, name: &str, action, fields| Change {
            kind,
            name: name.into(),
            action,
            fields,
        };
        let ttl = FieldChange {
            field: "ttl".into(),
            before: String::new(),
            after: "3h".into(),
        };
        let temp = FieldChange {
            field: "features.temp".into(),
            before: "Int64".into(),
            after: "Float64".into(),
        };
        let applied = Applied {
            changes: vec![
                change(
                    DefinitionKind::Entity,
                    "origin",
                    ChangeAction::Create,
                    vec![],
                ),
                change(
                    DefinitionKind::Source,
                    "weather",
                    ChangeAction::Unchanged,
                    vec![],
                ),
                change(
                    DefinitionKind::FeatureView,
                    "weather",
                    ChangeAction::Update,
                    vec![ttl, temp],
                ),
            ],
            dry_run: false,
        };
        let expected = "\
+ entity        origin
~ feature view  weather
      ttl            (none) -> 3h
      features.temp  Int64 -> Float64
1 created, 1 updated, 0 deleted, 1 unchanged";
        assert_eq!(applied.to_string(), expected);
        assert!(!applied.is_unchanged());
    }
}
