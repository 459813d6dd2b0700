//! Table `metric_series`: what is known of one series without reading its points, and where its last chunk is.
#![allow(
    missing_docs,
    reason = "the columns are described in the contract and in the migration"
)]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "metric_series")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub run_id: Uuid,
    pub key: String,
    /// The last value, bit for bit.
    pub last_bits: i64,
    /// The last value for search; null where it is NaN.
    pub last_value: Option<f64>,
    pub last_step: i64,
    pub last_timestamp_us: i64,
    pub min_value: Option<f64>,
    pub max_value: Option<f64>,
    /// Points of the series. It only grows, so it also tells whether a series has changed.
    pub count: i64,
    /// Number of the chunk that was written last.
    pub tail_number: i64,
    /// Points in that chunk.
    pub tail_count: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
