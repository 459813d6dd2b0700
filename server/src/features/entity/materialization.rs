//! How far a view is in the online store.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "materializations")]
pub(in crate::features) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) project_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) feature_view: String,
    /// What the rows look like and where they come from; another shape starts from the beginning.
    pub(in crate::features) shape: String,
    pub(in crate::features) covered_until_at: i64,
    pub(in crate::features) finished_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::features) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
