//! A number on each run that grows with every change of it or of what belongs to it, so that a server knows
//! whether what it read before is still so.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut revision = big_integer("revision");
        manager
            .alter_table(
                Table::alter()
                    .table("runs")
                    .add_column(revision.default(0))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table("runs")
                    .drop_column("revision")
                    .to_owned(),
            )
            .await
    }
}
