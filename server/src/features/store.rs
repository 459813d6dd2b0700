//! Who read which features, and how far views are materialized: SQL only.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    sea_query::{Expr, ExprTrait as _, OnConflict, Query},
};
use uuid::Uuid;

use super::entity::{feature_use, materialization};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
};

/// A feature view that a retrieval read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureUse {
    /// The retrieval; also the OpenLineage run.
    pub retrieval_id: Uuid,
    /// The view.
    pub feature_view: String,
    /// Its version then.
    pub view_version: u32,
    /// The features that were read.
    pub features: Vec<String>,
    /// The training set that came of it.
    pub training_set: String,
    /// When.
    pub read_at: Timestamp,
}

/// What a run read, oldest first.
pub async fn uses_of_run(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<Vec<FeatureUse>> {
    let rows = feature_use::Entity::find()
        .filter(feature_use::Column::ProjectId.eq(scope.project_id()))
        .filter(feature_use::Column::RunId.eq(run_id))
        .order_by_asc(feature_use::Column::ReadAt)
        .order_by_asc(feature_use::Column::RetrievalId)
        .order_by_asc(feature_use::Column::FeatureView)
        .all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(FeatureUse {
                retrieval_id: row.retrieval_id,
                view_version: u32::try_from(row.view_version).map_err(Error::internal)?,
                features: names(&row.features)?,
                feature_view: row.feature_view,
                training_set: row.training_set,
                read_at: Timestamp(row.read_at),
            })
        })
        .collect()
}

/// Takes note of what a retrieval read, on behalf of a run where there is one.
pub(super) async fn insert_uses(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Option<Uuid>,
    uses: Vec<FeatureUse>,
) -> Result<()> {
    for read in uses {
        let row = feature_use::ActiveModel {
            project_id: Set(scope.project_id()),
            retrieval_id: Set(read.retrieval_id),
            feature_view: Set(read.feature_view),
            view_version: Set(i32::try_from(read.view_version).map_err(Error::internal)?),
            features: Set(serde_json::to_string(&read.features).map_err(Error::internal)?),
            run_id: Set(run_id),
            training_set: Set(read.training_set),
            read_at: Set(read.read_at.micros()),
        };
        feature_use::Entity::insert(row)
            .exec_without_returning(connection)
            .await?;
    }
    Ok(())
}

/// The features of these views that were ever read, by view.
pub(super) async fn used_features(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    views: &BTreeSet<&str>,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    use sea_orm::QuerySelect as _;
    let rows: Vec<(String, String)> = feature_use::Entity::find()
        .select_only()
        .distinct()
        .column(feature_use::Column::FeatureView)
        .column(feature_use::Column::Features)
        .filter(feature_use::Column::ProjectId.eq(scope.project_id()))
        .filter(feature_use::Column::FeatureView.is_in(views.iter().copied()))
        .into_tuple()
        .all(connection)
        .await?;
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (view, features) in rows {
        used.entry(view).or_default().extend(names(&features)?);
    }
    Ok(used)
}

fn names(json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).map_err(Error::internal)
}

/// The end of the window of event times that is in the online store, if its rows are of this shape.
pub(super) async fn covered_until(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    view: &str,
    shape: &str,
) -> Result<Option<Timestamp>> {
    let row = materialization::Entity::find_by_id((scope.project_id(), view.to_owned()))
        .one(connection)
        .await?;
    Ok(row
        .filter(|row| row.shape == shape)
        .map(|row| Timestamp(row.covered_until_at)))
}

/// Moves the end of the covered window; within one shape it never goes back.
pub(super) async fn cover_until(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    view: &str,
    shape: &str,
    until: Timestamp,
    now: Timestamp,
) -> Result<()> {
    let before = covered_until(connection, scope, view, shape).await?;
    let until = before.map_or(until, |before| before.max(until));
    let row = materialization::ActiveModel {
        project_id: Set(scope.project_id()),
        feature_view: Set(view.to_owned()),
        shape: Set(shape.to_owned()),
        covered_until_at: Set(until.micros()),
        finished_at: Set(now.micros()),
    };
    let key = [
        materialization::Column::ProjectId,
        materialization::Column::FeatureView,
    ];
    materialization::Entity::insert(row)
        .on_conflict(
            OnConflict::columns(key)
                .update_columns([
                    materialization::Column::Shape,
                    materialization::Column::CoveredUntilAt,
                    materialization::Column::FinishedAt,
                ])
                .to_owned(),
        )
        .exec_without_returning(connection)
        .await?;
    Ok(())
}

/// The name that the experiment of a run had when the run began, which is that of its lineage job.
pub(super) async fn experiment_of_run(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<String> {
    let query = Query::select()
        .column("experiment_at_creation")
        .from("runs")
        .and_where(Expr::col("id").eq(run_id))
        .and_where(Expr::col("project_id").eq(scope.project_id()))
        .to_owned();
    let row = connection.query_one(&query).await?;
    match row {
        Some(row) => Ok(row.try_get("", "experiment_at_creation")?),
        None => Err(Error::not_found("run", run_id)),
    }
}
