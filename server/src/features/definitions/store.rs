//! Definitions in the database.
//!
//! Rows are only ever added; what changes is which version is current.

use mlplat_proto::features::v1 as pb;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
    sea_query::{Expr, LockType},
};

use super::{Catalog, Definition, View};
use crate::{
    admin::entity::project,
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    features::entity::definition::{ActiveModel, Column, Entity, Model},
};

/// All definitions that are current.
pub(in crate::features) async fn load(
    connection: &impl ConnectionTrait,
    scope: &Scope,
) -> Result<Catalog> {
    let rows = Entity::find()
        .filter(Column::ProjectId.eq(scope.project_id()))
        .filter(Column::Current.eq(true))
        .all(connection)
        .await?;
    let mut catalog = Catalog::default();
    for row in &rows {
        match pb::DefinitionKind::try_from(row.kind) {
            Ok(pb::DefinitionKind::Entity) => put::<pb::Entity>(&mut catalog, row)?,
            Ok(pb::DefinitionKind::Source) => put::<pb::Source>(&mut catalog, row)?,
            Ok(pb::DefinitionKind::FeatureView) => put::<View>(&mut catalog, row)?,
            Ok(pb::DefinitionKind::OnDemandFeatureView) => {
                put::<pb::OnDemandFeatureView>(&mut catalog, row)?;
            }
            Ok(pb::DefinitionKind::FeatureService) => put::<pb::FeatureService>(&mut catalog, row)?,
            Ok(pb::DefinitionKind::Unspecified) | Err(_) => {
                return Err(Error::internal(anyhow::anyhow!(
                    "definition `{}` is of unknown kind {}",
                    row.name,
                    row.kind
                )));
            }
        }
    }
    Ok(catalog)
}

fn put<D: Definition>(catalog: &mut Catalog, row: &Model) -> Result<()> {
    D::of_mut(catalog).insert(row.name.clone(), decode(row)?);
    Ok(())
}

/// One definition in a version, or in its current one.
pub(in crate::features) async fn get<D: Definition>(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
    version: Option<i32>,
) -> Result<Option<D>> {
    let query = of_kind::<D>(scope).filter(Column::Name.eq(name));
    let query = match version {
        Some(version) => query.filter(Column::Version.eq(version)),
        None => query.filter(Column::Current.eq(true)),
    };
    query
        .one(connection)
        .await?
        .map(|row| decode(&row))
        .transpose()
}

/// The current definitions of a kind by name, after a name.
pub(in crate::features) async fn list<D: Definition>(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<D>> {
    let mut query = of_kind::<D>(scope).filter(Column::Current.eq(true));
    if let Some(after) = after {
        query = query.filter(Column::Name.gt(after));
    }
    let rows = query
        .order_by_asc(Column::Name)
        .limit(limit)
        .all(connection)
        .await?;
    rows.iter().map(decode).collect()
}

/// Makes others who change the definitions of the project wait until the transaction ends. SQLite has one writer anyway.
pub(super) async fn lock(connection: &impl ConnectionTrait, scope: &Scope) -> Result<()> {
    project::Entity::find_by_id(scope.project_id())
        // Weak enough for others to add rows that belong to the project.
        .lock(LockType::NoKeyUpdate)
        .one(connection)
        .await?;
    Ok(())
}

/// Makes `definition` the current version of its name, and returns its number.
pub(super) async fn insert<D: Definition>(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    definition: &D,
    now: Timestamp,
) -> Result<u32> {
    let name = definition.name();
    let newest: Option<Option<i32>> = of_kind::<D>(scope)
        .filter(Column::Name.eq(name))
        .select_only()
        .column_as(Column::Version.max(), "newest")
        .into_tuple()
        .one(connection)
        .await?;
    let version = newest.flatten().unwrap_or(0) + 1;
    retire::<D>(connection, scope, name).await?;
    let row = ActiveModel {
        project_id: Set(scope.project_id()),
        kind: Set(D::KIND.into()),
        name: Set(name.to_owned()),
        version: Set(version),
        current: Set(true),
        spec: Set(definition.unversioned().encode_to_vec()),
        applied_at: Set(now.micros()),
        applied_by: Set(scope.subject().to_owned()),
    };
    Entity::insert(row)
        .exec_without_returning(connection)
        .await?;
    u32::try_from(version).map_err(Error::internal)
}

/// Leaves no version of a name current.
pub(super) async fn retire<D: Definition>(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    name: &str,
) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::Current, Expr::value(false))
        .filter(Column::ProjectId.eq(scope.project_id()))
        .filter(Column::Kind.eq(i32::from(D::KIND)))
        .filter(Column::Name.eq(name))
        .filter(Column::Current.eq(true))
        .exec(connection)
        .await?;
    Ok(())
}

fn of_kind<D: Definition>(scope: &Scope) -> sea_orm::Select<Entity> {
    Entity::find()
        .filter(Column::ProjectId.eq(scope.project_id()))
        .filter(Column::Kind.eq(i32::from(D::KIND)))
}

fn decode<D: Definition>(row: &Model) -> Result<D> {
    let mut definition = D::decode(row.spec.as_slice()).map_err(Error::internal)?;
    let info = definition.info_mut().get_or_insert_default();
    info.version = u32::try_from(row.version).map_err(Error::internal)?;
    info.applied_at = Some(Timestamp(row.applied_at).to_proto());
    info.applied_by = row.applied_by.clone();
    Ok(definition)
}
