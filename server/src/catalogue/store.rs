//! Models, versions and aliases in SQL.
//!
//! Invariant: whoever changes a model holds the lock of its row ([`locked_model`]), so numbers of versions have no gaps
//! and are given once, and stages move one step at a time.

use std::collections::BTreeSet;

use mlplat_proto::catalogue::v1 as pb;
use prost::Message as _;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait,
    EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
    sea_query::OnConflict,
};
use uuid::Uuid;

use super::{
    convert::{Change, NewModel, NewVersion, Selector},
    entity::{alias, feature_use, model, version},
    stage::Stage,
};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    page::Page,
};

const MODEL: &str = "registered model";
const VERSION: &str = "model version";

/// Creates a model; false when there is one of that name.
async fn insert_model(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    new: &NewModel,
    now: Timestamp,
) -> Result<bool> {
    let row = model::ActiveModel {
        id: Set(Uuid::now_v7()),
        project_id: Set(scope.project_id()),
        name: Set(new.name.clone()),
        description: Set(new.description.clone()),
        tags: Set(new.tags.clone()),
        latest_version: Set(0),
        created_at: Set(now.micros()),
        updated_at: Set(now.micros()),
        created_by: Set(scope.subject().to_owned()),
    };
    let taken = OnConflict::columns([model::Column::ProjectId, model::Column::Name])
        .do_nothing()
        .to_owned();
    Ok(model::Entity::insert(row)
        .on_conflict(taken)
        .exec_without_returning(txn)
        .await?
        > 0)
}

/// Creates a model of a name that is free.
pub(super) async fn create_model(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    new: &NewModel,
    now: Timestamp,
) -> Result<model::Model> {
    if insert_model(txn, scope, new, now).await? {
        get_model(txn, scope, &new.name).await
    } else {
        Err(Error::already_exists(MODEL, &new.name))
    }
}

/// The model of this name, locked until the end of the transaction; created where there is none.
pub(super) async fn ensure_model(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
    now: Timestamp,
) -> Result<model::Model> {
    let new = NewModel {
        name: name.to_owned(),
        description: String::new(),
        tags: "{}".to_owned(),
        key: None,
    };
    insert_model(txn, scope, &new, now).await?;
    locked_model(txn, scope, name).await
}

fn by_name(scope: &Scope, name: &str) -> sea_orm::Select<model::Entity> {
    model::Entity::find()
        .filter(model::Column::ProjectId.eq(scope.project_id()))
        .filter(model::Column::Name.eq(name))
}

/// The model of this name.
pub(super) async fn get_model(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
) -> Result<model::Model> {
    by_name(scope, name)
        .one(conn)
        .await?
        .ok_or_else(|| Error::not_found(MODEL, name))
}

/// The model of this name, locked until the end of the transaction. On SQLite a transaction that writes is alone anyway.
pub(super) async fn locked_model(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
) -> Result<model::Model> {
    by_name(scope, name)
        .lock_exclusive()
        .one(txn)
        .await?
        .ok_or_else(|| Error::not_found(MODEL, name))
}

/// A page of models by name.
pub(super) async fn list_models(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    page: &Page,
) -> Result<Vec<model::Model>> {
    let mut models = model::Entity::find()
        .filter(model::Column::ProjectId.eq(scope.project_id()))
        .order_by_asc(model::Column::Name)
        .limit(page.limit() + 1);
    if let Some([name]) = page.after() {
        models = models.filter(model::Column::Name.gt(name));
    }
    Ok(models.all(conn).await?)
}

/// Changes notes and labels of a model.
pub(super) async fn update_model(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
    change: Change,
    now: Timestamp,
) -> Result<model::Model> {
    let mut row: model::ActiveModel = locked_model(txn, scope, name).await?.into();
    if let Some(description) = change.description {
        row.description = Set(description);
    }
    if let Some(tags) = change.tags {
        row.tags = Set(tags);
    }
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Marks a model as changed.
async fn touch(
    txn: &impl ConnectionTrait,
    model: &model::Model,
    now: Timestamp,
) -> Result<model::Model> {
    let mut row: model::ActiveModel = model.clone().into();
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Gives the locked model its next version.
pub(super) async fn insert_version(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    model: &model::Model,
    new: &NewVersion,
    captured: &pb::ModelVersion,
    now: Timestamp,
) -> Result<version::Model> {
    let number = model.latest_version + 1;
    let mut row: model::ActiveModel = model.clone().into();
    row.latest_version = Set(number);
    row.updated_at = Set(now.micros());
    row.update(txn).await?;
    let created = version::ActiveModel {
        model_id: Set(model.id),
        version: Set(number),
        stage: Set(Stage::Development.as_str().to_owned()),
        run_id: Set(new.run_id),
        artifact_path: Set(new.artifact_path.clone()),
        captured: Set(captured.encode_to_vec()),
        description: Set(new.description.clone()),
        tags: Set(new.tags.clone()),
        created_at: Set(now.micros()),
        updated_at: Set(now.micros()),
        created_by: Set(scope.subject().to_owned()),
    }
    .insert(txn)
    .await?;
    insert_feature_uses(txn, &created, &captured.feature_views).await?;
    Ok(created)
}

async fn insert_feature_uses(
    txn: &impl ConnectionTrait,
    version: &version::Model,
    uses: &[pb::FeatureViewUse],
) -> Result<()> {
    let rows: Vec<feature_use::ActiveModel> = uses
        .iter()
        .map(|of| feature_use::ActiveModel {
            model_id: Set(version.model_id),
            version: Set(version.version),
            feature_view: Set(of.feature_view.clone()),
            view_version: Set(i32::try_from(of.version).unwrap_or(i32::MAX)),
            training_set: Set(of.training_set.clone()),
            features: Set(serde_json::json!(of.features).to_string()),
        })
        .collect();
    for rows in rows.chunks(500) {
        feature_use::Entity::insert_many(rows.to_vec())
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

/// The version that is meant.
pub(super) async fn get_version(
    conn: &impl ConnectionTrait,
    model: &model::Model,
    selector: &Selector,
) -> Result<version::Model> {
    let (number, label) = match selector {
        Selector::Newest => (
            Some(model.latest_version),
            format!("{} (it has no version yet)", model.name),
        ),
        Selector::Number(number) => (Some(*number), format!("{} {number}", model.name)),
        Selector::Alias(alias) => {
            let found = alias::Entity::find_by_id((model.id, alias.clone()))
                .one(conn)
                .await?;
            (
                found.map(|alias| alias.version),
                format!("{}@{alias}", model.name),
            )
        }
    };
    let found = match number {
        Some(number) => {
            version::Entity::find_by_id((model.id, number))
                .one(conn)
                .await?
        }
        None => None,
    };
    found.ok_or_else(|| Error::not_found(VERSION, label))
}

/// A page of versions, newest first.
pub(super) async fn list_versions(
    conn: &impl ConnectionTrait,
    model: &model::Model,
    before: Option<i32>,
    page: &Page,
) -> Result<Vec<version::Model>> {
    let mut versions = version::Entity::find()
        .filter(version::Column::ModelId.eq(model.id))
        .order_by_desc(version::Column::Version)
        .limit(page.limit() + 1);
    if let Some(before) = before {
        versions = versions.filter(version::Column::Version.lt(before));
    }
    Ok(versions.all(conn).await?)
}

/// Changes notes and labels of a version of a locked model.
pub(super) async fn update_version(
    txn: &impl ConnectionTrait,
    model: &model::Model,
    number: i32,
    change: Change,
    now: Timestamp,
) -> Result<version::Model> {
    let mut row: version::ActiveModel = get_version(txn, model, &Selector::Number(number))
        .await?
        .into();
    if let Some(description) = change.description {
        row.description = Set(description);
    }
    if let Some(tags) = change.tags {
        row.tags = Set(tags);
    }
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Puts a version of a locked model into another stage.
pub(super) async fn set_stage(
    txn: &impl ConnectionTrait,
    version: version::Model,
    stage: Stage,
    now: Timestamp,
) -> Result<version::Model> {
    let mut row: version::ActiveModel = version.into();
    row.stage = Set(stage.as_str().to_owned());
    row.updated_at = Set(now.micros());
    Ok(row.update(txn).await?)
}

/// Points an alias of a locked model at one of its versions.
pub(super) async fn set_alias(
    txn: &impl ConnectionTrait,
    model: &model::Model,
    alias: String,
    number: i32,
    now: Timestamp,
) -> Result<model::Model> {
    get_version(txn, model, &Selector::Number(number)).await?;
    let row = alias::ActiveModel {
        model_id: Set(model.id),
        alias: Set(alias),
        version: Set(number),
    };
    let moved = OnConflict::columns([alias::Column::ModelId, alias::Column::Alias])
        .update_column(alias::Column::Version)
        .to_owned();
    alias::Entity::insert(row)
        .on_conflict(moved)
        .exec_without_returning(txn)
        .await?;
    touch(txn, model, now).await
}

/// Removes an alias of a locked model.
pub(super) async fn delete_alias(
    txn: &impl ConnectionTrait,
    model: &model::Model,
    alias: String,
    now: Timestamp,
) -> Result<model::Model> {
    let deleted = alias::Entity::delete_by_id((model.id, alias.clone()))
        .exec(txn)
        .await?;
    if deleted.rows_affected == 0 {
        return Err(Error::not_found(
            "model alias",
            format!("{}@{alias}", model.name),
        ));
    }
    touch(txn, model, now).await
}

/// The aliases of these models, by name.
pub(super) async fn aliases(
    conn: &impl ConnectionTrait,
    models: &[model::Model],
) -> Result<Vec<alias::Model>> {
    if models.is_empty() {
        return Ok(Vec::new());
    }
    Ok(alias::Entity::find()
        .filter(alias::Column::ModelId.is_in(models.iter().map(|model| model.id)))
        .order_by_asc(alias::Column::Alias)
        .all(conn)
        .await?)
}

fn versions_of_project(scope: &Scope) -> sea_orm::Select<version::Entity> {
    let models = model::Entity::find()
        .filter(model::Column::ProjectId.eq(scope.project_id()))
        .select_only()
        .column(model::Column::Id);
    version::Entity::find().filter(version::Column::ModelId.in_subquery(models.into_query()))
}

/// Those of the runs that a version was published from.
pub(crate) async fn runs_of_versions(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_ids: &[Uuid],
) -> Result<BTreeSet<Uuid>> {
    let found: Vec<Uuid> = versions_of_project(scope)
        .filter(version::Column::RunId.is_in(run_ids.iter().copied()))
        .select_only()
        .column(version::Column::RunId)
        .distinct()
        .into_tuple()
        .all(conn)
        .await?;
    Ok(found.into_iter().collect())
}

/// Those of the digests that a version has captured.
pub(crate) async fn captured_digests(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    digests: &[String],
) -> Result<BTreeSet<String>> {
    const VERSIONS: u64 = 200;
    let wanted: BTreeSet<&str> = digests.iter().map(String::as_str).collect();
    let mut found = BTreeSet::new();
    let mut after: Option<(Uuid, i32)> = None;
    loop {
        let mut page = versions_of_project(scope)
            .select_only()
            .columns([
                version::Column::ModelId,
                version::Column::Version,
                version::Column::Captured,
            ])
            .order_by_asc(version::Column::ModelId)
            .order_by_asc(version::Column::Version)
            .limit(VERSIONS);
        if let Some((model_id, number)) = after {
            let same = Condition::all()
                .add(version::Column::ModelId.eq(model_id))
                .add(version::Column::Version.gt(number));
            page = page.filter(
                Condition::any()
                    .add(version::Column::ModelId.gt(model_id))
                    .add(same),
            );
        }
        let rows: Vec<(Uuid, i32, Vec<u8>)> = page.into_tuple().all(conn).await?;
        let Some(last) = rows.last() else {
            return Ok(found);
        };
        after = Some((last.0, last.1));
        for (_, _, captured) in rows {
            let version = pb::ModelVersion::decode(captured.as_slice()).map_err(Error::internal)?;
            let files = version.files.into_iter().map(|file| file.sha256);
            found.extend(files.filter(|sha256| wanted.contains(sha256.as_str())));
        }
    }
}
