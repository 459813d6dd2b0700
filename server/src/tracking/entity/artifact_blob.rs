//! Table `artifact_blobs`: where the content of a digest lies, per project.
#![allow(missing_docs, reason = "the columns are described in the migration")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "artifact_blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sha256: String,
    /// The object that holds it; none for what lies under its digest.
    pub object_id: Option<Uuid>,
    pub start_byte: i64,
    pub size_bytes: i64,
    pub used_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
