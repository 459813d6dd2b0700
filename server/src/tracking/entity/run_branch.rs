//! Table `run_branches`: how runs were resumed from earlier steps. Branch 0 of a run has no row.
#![allow(
    missing_docs,
    reason = "the columns are described in the contract and in the migration"
)]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run_branches")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub parent: i32,
    /// First step that is the branch's own.
    pub from_step: i64,
    /// Of the call that began it.
    pub request_id: Uuid,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
