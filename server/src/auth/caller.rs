//! The one who calls.

use sea_orm::{ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _};
use uuid::Uuid;

use super::{Action, Role, Scope, entity};
use crate::{
    admin::entity::project,
    app::App,
    error::{Error, Result},
};

/// An authenticated caller; the authenticate layer puts it into every request that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    subject: String,
    platform_admin: bool,
}

impl Caller {
    /// A caller whose rights are the role bindings of its subject.
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            platform_admin: false,
        }
    }

    /// The owner of a server without authentication: may do everything.
    pub fn local_owner() -> Self {
        Self {
            subject: "local".to_owned(),
            platform_admin: true,
        }
    }

    /// The server itself, for what it does unasked.
    pub(crate) fn server() -> Self {
        Self {
            subject: "mlplat-server".to_owned(),
            platform_admin: true,
        }
    }

    /// The caller of a request.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self> {
        Self::from_extensions(request.extensions())
    }

    /// The caller of an HTTP request.
    pub fn from_extensions(extensions: &http::Extensions) -> Result<Self> {
        extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Error::Unauthenticated {
                message: "this call needs credentials and has none".to_owned(),
            })
    }

    /// Who it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Checks that the caller may do this in the project. A project that the caller has no role in is not there.
    pub async fn authorize(&self, app: &App, action: Action, project: &str) -> Result<Scope> {
        let project_id = project_id(app, project).await?;
        let roles = self.roles(app, Some(project_id)).await?;
        if roles.is_empty() {
            return Err(Error::not_found("project", project));
        }
        if !roles.iter().any(|role| role.allows(action)) {
            return Err(Error::PermissionDenied {
                message: format!(
                    "{} may not {action} in the project {project:?}",
                    self.subject
                ),
            });
        }
        Ok(Scope::of_project(
            project_id,
            project.to_owned(),
            self.subject.clone(),
        ))
    }

    /// Checks that the caller may do this on the platform as a whole.
    pub async fn authorize_platform(&self, app: &App, action: Action) -> Result<Scope> {
        if self
            .roles(app, None)
            .await?
            .iter()
            .any(|role| role.allows(action))
        {
            Ok(Scope::of_platform(self.subject.clone()))
        } else {
            Err(Error::PermissionDenied {
                message: format!("{} may not {action} on this platform", self.subject),
            })
        }
    }

    /// The projects that the caller may read: `None` means all of them.
    pub async fn readable_projects(&self, app: &App) -> Result<Option<Vec<Uuid>>> {
        if self
            .roles(app, None)
            .await?
            .iter()
            .any(|role| role.allows(Action::Read))
        {
            return Ok(None);
        }
        let bindings = entity::Entity::find()
            .filter(entity::Column::Subject.eq(&self.subject))
            .filter(entity::Column::ProjectId.is_not_null())
            .all(app.db.read())
            .await?;
        let readable = |binding: &entity::Model| {
            Role::parse(&binding.role).is_some_and(|role| role.allows(Action::Read))
        };
        Ok(Some(
            bindings
                .into_iter()
                .filter(readable)
                .filter_map(|binding| binding.project_id)
                .collect(),
        ))
    }

    /// The roles on the platform and, where one is given, in the project.
    async fn roles(&self, app: &App, project_id: Option<Uuid>) -> Result<Vec<Role>> {
        if self.platform_admin {
            return Ok(vec![Role::Admin]);
        }
        let mut place = Condition::any().add(entity::Column::ProjectId.is_null());
        if let Some(id) = project_id {
            place = place.add(entity::Column::ProjectId.eq(id));
        }
        let bindings = entity::Entity::find()
            .filter(entity::Column::Subject.eq(&self.subject))
            .filter(place)
            .all(app.db.read())
            .await?;
        Ok(bindings
            .iter()
            .filter_map(|binding| Role::parse(&binding.role))
            .collect())
    }
}

/// The id of a project. Once it is known it is not asked for again, as a project keeps its name and is never removed.
async fn project_id(app: &App, name: &str) -> Result<Uuid> {
    if let Some(id) = app.project_ids.get(name).await {
        return Ok(id);
    }
    let found = project::Entity::find()
        .filter(project::Column::Name.eq(name))
        .one(app.db.read())
        .await?
        .ok_or_else(|| Error::not_found("project", name))?;
    app.project_ids.insert(found.name, found.id).await;
    Ok(found.id)
}
