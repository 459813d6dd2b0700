//! What an authorization gives: the right to touch the rows of one project (or of the platform).

use uuid::Uuid;

/// Proof that a caller may act; store functions take it, and put its project into every query.
#[derive(Debug, Clone)]
pub struct Scope {
    project_id: Uuid,
    project: String,
    subject: String,
}

impl Scope {
    pub(super) fn of_project(project_id: Uuid, project: String, subject: String) -> Self {
        Self {
            project_id,
            project,
            subject,
        }
    }

    pub(super) fn of_platform(subject: String) -> Self {
        Self {
            project_id: Uuid::nil(),
            project: String::new(),
            subject,
        }
    }

    /// For what the server does by itself, in no project: removing what nobody can reach any more.
    pub(crate) fn of_server() -> Self {
        Self::of_platform("mlplat-server".to_owned())
    }

    /// As [`Scope::of_server`], in one project.
    pub(crate) fn of_server_in(project_id: Uuid) -> Self {
        Self::of_project(project_id, String::new(), "mlplat-server".to_owned())
    }

    /// Id of the project; nil for the platform.
    pub fn project_id(&self) -> Uuid {
        self.project_id
    }

    /// Name of the project; empty for the platform.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Who acts.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}
