//! Table `experiments`: named groups of runs.
#![allow(
    missing_docs,
    reason = "the columns are described in the contract and in the migration"
)]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "experiments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub description: String,
    /// JSON object of text, see [`crate::tags`].
    pub tags: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub created_by: String,
    pub deleted_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
