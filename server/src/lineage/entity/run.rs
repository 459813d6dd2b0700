//! Table `lineage_runs`: what all events of a run say together.

use sea_orm::entity::prelude::*;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lineage_runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub job_namespace: String,
    pub job_name: String,
    pub job_type: String,
    pub state: String,
    pub state_order: i64,
    pub parent_run_id: Option<Uuid>,
    pub first_seen_at: i64,
    pub last_seen_at: i64,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
