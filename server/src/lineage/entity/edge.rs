//! Table `lineage_edges`: what runs read and wrote.

use sea_orm::entity::prelude::*;

/// That a run read (`written` 0) or wrote (1) a version of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lineage_edges")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub written: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub dataset_id: Uuid,
    pub first_seen_at: i64,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
