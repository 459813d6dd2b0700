//! SQL of projects.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::{
    convert::{NewProject, ProjectChange},
    entity::project,
};
use crate::{
    auth::{Role, Scope, entity as role_binding},
    clock::Timestamp,
    error::{Error, Result},
    page::Page,
};

/// Creates a project, and makes the caller its admin.
pub(super) async fn create_project(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    new: NewProject,
    now: Timestamp,
) -> Result<project::Model> {
    if project::Entity::find()
        .filter(project::Column::Name.eq(&new.name))
        .one(txn)
        .await?
        .is_some()
    {
        return Err(Error::already_exists("project", new.name));
    }
    let created = project::ActiveModel {
        id: Set(Uuid::now_v7()),
        name: Set(new.name),
        description: Set(new.description),
        tags: Set(new.tags),
        created_at: Set(now.micros()),
        updated_at: Set(now.micros()),
        created_by: Set(scope.subject().to_owned()),
    }
    .insert(txn)
    .await?;
    role_binding::ActiveModel {
        id: Set(Uuid::now_v7()),
        subject: Set(scope.subject().to_owned()),
        role: Set(Role::ProjectAdmin.name().to_owned()),
        project_id: Set(Some(created.id)),
        created_at: Set(now.micros()),
        created_by: Set(scope.subject().to_owned()),
    }
    .insert(txn)
    .await?;
    Ok(created)
}

/// The project of the scope.
pub(super) async fn get_project(
    conn: &impl ConnectionTrait,
    scope: &Scope,
) -> Result<project::Model> {
    project::Entity::find_by_id(scope.project_id())
        .one(conn)
        .await?
        .ok_or_else(|| Error::not_found("project", scope.project()))
}

/// A page of projects by name; `among` bounds them to those that the caller may read.
pub(super) async fn list_projects(
    conn: &impl ConnectionTrait,
    among: Option<Vec<Uuid>>,
    page: &Page,
) -> Result<Vec<project::Model>> {
    let mut query = project::Entity::find()
        .order_by_asc(project::Column::Name)
        .limit(page.limit() + 1);
    if let Some(ids) = among {
        query = query.filter(project::Column::Id.is_in(ids));
    }
    if let Some([name]) = page.after() {
        query = query.filter(project::Column::Name.gt(name));
    }
    Ok(query.all(conn).await?)
}

/// Changes the project of the scope.
pub(super) async fn update_project(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    change: ProjectChange,
    now: Timestamp,
) -> Result<project::Model> {
    let mut row: project::ActiveModel = get_project(txn, scope).await?.into();
    if let Some(description) = change.description {
        row.description = Set(description);
    }
    if let Some(tags) = change.tags {
        row.tags = Set(tags);
    }
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// The names of all projects, for what the server does by itself.
pub(crate) async fn project_names(conn: &impl ConnectionTrait) -> Result<Vec<String>> {
    Ok(project::Entity::find()
        .select_only()
        .column(project::Column::Name)
        .order_by_asc(project::Column::Name)
        .into_tuple()
        .all(conn)
        .await?)
}
