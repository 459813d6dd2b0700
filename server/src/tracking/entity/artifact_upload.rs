//! Table `artifact_uploads`: uploads under way, each with the id of the object that it writes.
#![allow(missing_docs, reason = "the columns are described in the migration")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "artifact_uploads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub project_id: Uuid,
    pub run_id: Uuid,
    pub path: String,
    pub size_bytes: i64,
    /// Empty where it is not known yet.
    pub sha256: String,
    pub media_type: String,
    /// What the client reads it from; empty where it cannot be resumed by another process.
    pub source: String,
    /// 0 where it does not come in parts.
    pub part_bytes: i64,
    pub stage: String,
    pub created_at: i64,
    pub used_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
