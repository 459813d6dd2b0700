//! SQL of experiments.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::OnConflict,
};
use uuid::Uuid;

use super::convert::{ExperimentChange, NewExperiment};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    page::Page,
    tracking::entity::experiment,
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
        return Ok(found);
    }
    let new = NewExperiment {
        name: name.to_owned(),
        description: String::new(),
        tags: "{}".to_owned(),
        key: None,
    };
    match create_experiment(txn, scope, &new, now).await {
        // Somebody else was quicker; the insert has waited for their commit, so now it can be seen.
        Err(Error::AlreadyExists { .. }) => get_experiment(txn, scope, name).await,
        created => created,
    }
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
pub(super) async fn get_experiment(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
) -> Result<experiment::Model> {
    find_experiment(conn, scope, name)
        .await?
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
    page: &Page,
) -> Result<Vec<experiment::Model>> {
    let mut query = experiment::Entity::find()
        .filter(experiment::Column::ProjectId.eq(scope.project_id()))
        .order_by_asc(experiment::Column::Name)
        .limit(page.limit() + 1);
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
    let mut row = get_experiment(txn, scope, &change.name)
        .await?
        .into_active_model();
    if let Some(description) = change.description {
        row.description = Set(description);
    }
    if let Some(tags) = change.tags {
        row.tags = Set(tags);
    }
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}
