//! Which process has a run: the writer that began it or took it up last, and when; and the branch of the run that each writer logs
//! to. Null for those of before.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table("metric_writers")
                    .add_column(integer_null("branch"))
                    .to_owned(),
            )
            .await?;
        for column in [uuid_null("writer_id"), big_integer_null("taken_up_at")] {
            manager
                .alter_table(Table::alter().table("runs").add_column(column).to_owned())
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["writer_id", "taken_up_at"] {
            manager
                .alter_table(Table::alter().table("runs").drop_column(column).to_owned())
                .await?;
        }
        manager
            .alter_table(
                Table::alter()
                    .table("metric_writers")
                    .drop_column("branch")
                    .to_owned(),
            )
            .await
    }
}
