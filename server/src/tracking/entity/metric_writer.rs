//! Table `metric_writers`: the last batch that each writing process of a run has stored, and the branch that it logs to.
#![allow(
    missing_docs,
    reason = "the columns are described in the contract and in the migration"
)]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "metric_writers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub writer_id: Uuid,
    /// -1: none so far.
    pub last_sequence: i64,
    /// Null: the current one.
    pub branch: Option<i32>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
