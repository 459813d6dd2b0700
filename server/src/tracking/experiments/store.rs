//! SQL of experiments.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::OnConflict,
};
use uuid::Uuid;

use super::convert::{ExperimentChange, NewExperiment, Which};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    page::Page,
    tracking::{View, entity::experiment},
};

/// Creates an experiment.
pub(super) async fn create_experiment(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    new: &NewExperiment,
    now: Timestamp,
) -> Result<experiment::Model> {
    let row = experiment::Model {
        id: Uuid::now_v7(),
        project_id: scope.project_id(),
        name: new.name.clone(),
        description: new.description.clone(),
        tags: new.tags.clone(),
        created_at: now.micros(),
        updated_at: now.micros(),
        created_by: scope.subject().to_owned(),
        deleted_at: None,
    };
    if insert(txn, row.clone()).await? {
        Ok(row)
    } else {
        Err(Error::already_exists("experiment", &new.name))
    }
}

/// The experiment of this name; made when there is none. Two that do so at once get the same one.
pub(in crate::tracking) async fn ensure_experiment(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
    now: Timestamp,
) -> Result<experiment::Model> {
    if let Some(found) = find_experiment(txn, scope, name).await? {
        return usable(found);
    }
    let new = NewExperiment {
        name: name.to_owned(),
        description: String::new(),
        tags: "{}".to_owned(),
        key: None,
    };
    match create_experiment(txn, scope, &new, now).await {
        // Somebody else was quicker; the insert has waited for their commit, so now it can be seen.
        Err(Error::AlreadyExists { .. }) => {
            usable(get_experiment(txn, scope, name, View::All).await?)
        }
        created => created,
    }
}

/// The experiment, if runs may go into it.
fn usable(found: experiment::Model) -> Result<experiment::Model> {
    match found.deleted_at {
        Some(_) => Err(is_deleted(&found.name)),
        None => Ok(found),
    }
}

/// Nothing goes into an experiment that is deleted.
pub(in crate::tracking) fn is_deleted(name: &str) -> Error {
    let message =
        format!("the experiment {name:?} is deleted; restore it first, or use another one");
    Error::precondition("EXPERIMENT_DELETED", message)
}

/// False when the name is taken. The statement does not fail then, which on PostgreSQL would end the transaction.
async fn insert(txn: &impl ConnectionTrait, row: experiment::Model) -> Result<bool> {
    let taken = OnConflict::columns([experiment::Column::ProjectId, experiment::Column::Name])
        .do_nothing()
        .to_owned();
    let inserted = experiment::Entity::insert(row.into_active_model())
        .on_conflict(taken)
        .exec_without_returning(txn)
        .await?;
    Ok(inserted == 1)
}

/// One experiment by name.
pub(in crate::tracking) async fn get_experiment(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
    view: View,
) -> Result<experiment::Model> {
    find_experiment(conn, scope, name)
        .await?
        .filter(|found| view.shows(found.deleted_at))
        .ok_or_else(|| Error::not_found("experiment", name))
}

async fn find_experiment(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
) -> Result<Option<experiment::Model>> {
    // PostgreSQL takes no NUL, not even in a question; there is nothing of such a name.
    if name.contains('\0') {
        return Ok(None);
    }
    let found = experiment::Entity::find()
        .filter(experiment::Column::ProjectId.eq(scope.project_id()))
        .filter(experiment::Column::Name.eq(name))
        .one(conn)
        .await?;
    Ok(found)
}

/// Like [`get_experiment`], deleted or not, and holds it until the transaction ends.
pub(super) async fn lock_experiment(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
) -> Result<experiment::Model> {
    let found = get_experiment(txn, scope, name, View::All).await?;
    lock_by_id(txn, scope, found.id).await
}

async fn lock_by_id(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    id: Uuid,
) -> Result<experiment::Model> {
    experiment::Entity::find_by_id(id)
        .filter(experiment::Column::ProjectId.eq(scope.project_id()))
        .lock_exclusive()
        .one(txn)
        .await?
        .ok_or_else(|| Error::not_found("experiment", id))
}

/// Marks a locked experiment as deleted, or as not.
pub(super) async fn set_deleted(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    found: experiment::Model,
    deleted_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<experiment::Model> {
    let mut row = found.into_active_model();
    row.deleted_at = Set(deleted_at.map(Timestamp::micros));
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Some experiments by id.
pub(in crate::tracking) async fn experiments_by_id(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<experiment::Model>> {
    let found = experiment::Entity::find()
        .filter(experiment::Column::ProjectId.eq(scope.project_id()))
        .filter(experiment::Column::Id.is_in(ids))
        .all(conn)
        .await?;
    Ok(found)
}

/// A page of the experiments of the project, by name; one more than fits, if there are more.
pub(super) async fn list_experiments(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    view: View,
    page: &Page,
) -> Result<Vec<experiment::Model>> {
    let mut query = experiment::Entity::find()
        .filter(experiment::Column::ProjectId.eq(scope.project_id()))
        .order_by_asc(experiment::Column::Name)
        .limit(page.limit() + 1);
    if let Some(seen) = view.condition(experiment::Column::DeletedAt) {
        query = query.filter(seen);
    }
    if let Some([name]) = page.after() {
        query = query.filter(experiment::Column::Name.gt(name));
    }
    Ok(query.all(conn).await?)
}

/// Changes an experiment.
pub(super) async fn update_experiment(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    change: ExperimentChange,
    now: Timestamp,
) -> Result<experiment::Model> {
    let found = match &change.which {
        Which::Name(name) => lock_experiment(txn, scope, name).await?,
        Which::Id(id) => lock_by_id(txn, scope, *id).await?,
    };
    if found.deleted_at.is_some() {
        return Err(is_deleted(&found.name));
    }
    let mut row = found.clone().into_active_model();
    if let Some(name) = change.name.filter(|name| *name != found.name) {
        if find_experiment(txn, scope, &name).await?.is_some() {
            return Err(Error::already_exists("experiment", name));
        }
        row.name = Set(name);
    }
    if let Some(description) = change.description {
        row.description = Set(description);
    }
    if let Some(tags) = change.tags {
        row.tags = Set(tags);
    }
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}
