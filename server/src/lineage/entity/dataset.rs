//! Table `lineage_datasets`: versions of datasets.

use sea_orm::entity::prelude::*;

/// One version of a dataset; version empty where it is not known.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lineage_datasets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name_id: Uuid,
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub dataset_type: String,
    pub first_seen_at: i64,
    pub last_seen_at: i64,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
