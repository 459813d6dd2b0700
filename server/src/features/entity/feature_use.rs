//! A feature view that a retrieval read.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "feature_uses")]
pub(in crate::features) struct Model {
    pub(in crate::features) project_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) retrieval_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) feature_view: String,
    pub(in crate::features) view_version: i32,
    /// Names as a JSON list.
    pub(in crate::features) features: String,
    pub(in crate::features) run_id: Option<Uuid>,
    pub(in crate::features) training_set: String,
    pub(in crate::features) read_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::features) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
