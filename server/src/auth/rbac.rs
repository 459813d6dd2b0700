//! One table: which role may do what.

use std::fmt;

/// What can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See what is in a project.
    Read,
    /// Create projects.
    CreateProject,
    /// Change a project itself.
    ManageProject,
    /// Create and change experiments, runs and artifacts.
    WriteRuns,
    /// Apply feature definitions.
    DefineFeatures,
    /// Read feature values.
    ReadFeatures,
    /// Fill the online store.
    MaterializeFeatures,
    /// Publish models and change their notes and aliases.
    PublishModels,
    /// Move model versions between stages.
    TransitionModels,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::CreateProject => "create projects",
            Self::ManageProject => "change the project",
            Self::WriteRuns => "write runs",
            Self::DefineFeatures => "define features",
            Self::ReadFeatures => "read features",
            Self::MaterializeFeatures => "materialize features",
            Self::PublishModels => "publish models",
            Self::TransitionModels => "move models between stages",
        })
    }
}

/// A role, bound to a subject on the platform or in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sees everything in the project.
    Viewer,
    /// Works in the project.
    Contributor,
    /// Answers for the features.
    FeatureSteward,
    /// A service that reads features.
    FeatureReader,
    /// Decides which model goes to production.
    ModelApprover,
    /// Deploys models.
    Deployer,
    /// Owns the project.
    ProjectAdmin,
    /// Owns the platform.
    Admin,
    /// Sees everything on the platform.
    Auditor,
    /// Runs the platform.
    Operator,
}

const ROLES: [(Role, &str); 10] = [
    (Role::Viewer, "viewer"),
    (Role::Contributor, "contributor"),
    (Role::FeatureSteward, "feature_steward"),
    (Role::FeatureReader, "feature_reader"),
    (Role::ModelApprover, "model_approver"),
    (Role::Deployer, "deployer"),
    (Role::ProjectAdmin, "project_admin"),
    (Role::Admin, "admin"),
    (Role::Auditor, "auditor"),
    (Role::Operator, "operator"),
];

impl Role {
    /// From the stored name; `None` for a role that this version does not know, which therefore gives nothing.
    pub fn parse(name: &str) -> Option<Self> {
        ROLES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(role, _)| *role)
    }

    /// The stored name.
    pub fn name(self) -> &'static str {
        ROLES
            .iter()
            .find(|(role, _)| *role == self)
            .map_or("", |(_, name)| name)
    }

    /// Whether the role allows the action.
    pub fn allows(self, action: Action) -> bool {
        use Action::{
            DefineFeatures, ManageProject, MaterializeFeatures, PublishModels, Read, ReadFeatures,
            TransitionModels, WriteRuns,
        };
        let allowed: &[Action] = match self {
            Self::Viewer | Self::Auditor | Self::Operator => &[Read],
            Self::Contributor => &[Read, WriteRuns, ReadFeatures, PublishModels],
            Self::FeatureSteward => &[Read, ReadFeatures, DefineFeatures, MaterializeFeatures],
            Self::FeatureReader => &[ReadFeatures],
            Self::ModelApprover | Self::Deployer => &[Read, TransitionModels],
            Self::ProjectAdmin => &[
                Read,
                ManageProject,
                WriteRuns,
                DefineFeatures,
                ReadFeatures,
                MaterializeFeatures,
                PublishModels,
                TransitionModels,
            ],
            Self::Admin => return true,
        };
        allowed.contains(&action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for (role, name) in ROLES {
            assert_eq!(Role::parse(name), Some(role));
            assert_eq!(role.name(), name);
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn only_the_platform_admin_creates_projects() {
        for (role, _) in ROLES {
            assert_eq!(role.allows(Action::CreateProject), role == Role::Admin);
        }
    }
}
