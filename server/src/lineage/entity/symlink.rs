//! Table `lineage_symlinks`: further names of datasets.

use sea_orm::entity::prelude::*;

/// One further name.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lineage_symlinks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub project_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub symlink_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name_id: Uuid,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
