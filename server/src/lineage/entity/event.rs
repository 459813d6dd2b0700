//! Table `lineage_events`: the events as they were recorded.

use sea_orm::entity::prelude::*;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lineage_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub project_id: Uuid,
    pub content_id: Uuid,
    pub event_time_at: i64,
    pub recorded_at: i64,
    pub event_type: String,
    pub run_id: Uuid,
    pub job_namespace: String,
    pub job_name: String,
    pub event: String,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
