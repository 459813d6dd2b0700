//! One version of a definition.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "definitions")]
pub(in crate::features) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) project_id: Uuid,
    /// Number of the `DefinitionKind`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) kind: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::features) version: i32,
    /// At most one version of a name is.
    pub(in crate::features) current: bool,
    pub(in crate::features) spec: Vec<u8>,
    pub(in crate::features) applied_at: i64,
    pub(in crate::features) applied_by: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::features) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
