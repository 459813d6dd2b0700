//! Branches of runs that were resumed from earlier steps, and when the process of a run was last heard of.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `branch` is the number of the branch that is logged to. `lineage_at` is the time of the last event that told of a
        // crash or a resumption: later events of the run are dated after it, whatever the clock of its process shows.
        let columns = [
            big_integer_null("heartbeat_at"),
            integer("branch").default(0).take(),
            big_integer_null("lineage_at"),
        ];
        for column in columns {
            manager
                .alter_table(Table::alter().table("runs").add_column(column).to_owned())
                .await?;
        }
        // Few rows of it: only runs whose processes are expected to be heard of.
        manager
            .get_connection()
            .execute_unprepared(
                "CREATE INDEX runs_heartbeat ON runs (heartbeat_at) \
                 WHERE status = 'RUNNING' AND heartbeat_at IS NOT NULL",
            )
            .await?;
        create_branches(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("run_branches").to_owned())
            .await?;
        manager
            .drop_index(
                Index::drop()
                    .name("runs_heartbeat")
                    .table("runs")
                    .to_owned(),
            )
            .await?;
        for column in ["heartbeat_at", "branch", "lineage_at"] {
            manager
                .alter_table(Table::alter().table("runs").drop_column(column).to_owned())
                .await?;
        }
        Ok(())
    }
}

/// Branch 0 of a run has no row. `request_id` is that of the call that began the branch.
async fn create_branches(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("run_branches")
                .col(uuid("run_id"))
                .col(integer("number"))
                .col(integer("parent"))
                .col(big_integer("from_step"))
                .col(uuid("request_id"))
                .col(big_integer("created_at"))
                .primary_key(Index::create().col("run_id").col("number"))
                .foreign_key(
                    ForeignKey::create()
                        .from("run_branches", "run_id")
                        .to("runs", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("run_branches_request")
                .table("run_branches")
                .col("run_id")
                .col("request_id")
                .unique()
                .to_owned(),
        )
        .await
}
