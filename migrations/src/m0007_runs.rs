//! Finding and keeping runs: what is deleted and can be restored, what runs read as data sets, and
//! the indexes of the search.

use sea_orm_migration::{prelude::*, schema::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Gives a text column the byte order that SQLite has anyway.
fn bytewise(manager: &SchemaManager, mut column: ColumnDef) -> ColumnDef {
    if manager.get_database_backend() == DbBackend::Postgres {
        column.extra("COLLATE \"C\"");
    }
    column
}

/// Both databases take these as they are. Values of params and tags are long; their beginning is enough to find them.
const INDEXES: [(&str, &str); 7] = [
    (
        "metric_series_key_last",
        "metric_series (key, last_value, run_id)",
    ),
    (
        "run_params_key_value",
        "run_params (key, substr(value, 1, 100), run_id)",
    ),
    (
        "run_tags_key_value",
        "run_tags (key, substr(value, 1, 100), run_id)",
    ),
    ("run_params_key_number", "run_params (key, number, run_id)"),
    ("runs_project_name", "runs (project_id, name)"),
    ("run_inputs_name", "run_inputs (name, run_id)"),
    (
        "runs_deleted",
        "runs (project_id, deleted_at) WHERE deleted_at IS NOT NULL",
    ),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["experiments", "runs"] {
            let deleted_at = big_integer_null("deleted_at");
            manager
                .alter_table(
                    Table::alter()
                        .table(table)
                        .add_column(deleted_at)
                        .to_owned(),
                )
                .await?;
        }
        create_inputs(manager).await?;
        for (name, on) in INDEXES {
            manager
                .get_connection()
                .execute_unprepared(&format!("CREATE INDEX {name} ON {on}"))
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            manager
                .get_connection()
                .execute_unprepared(&format!("DROP INDEX {name}"))
                .await?;
        }
        manager
            .drop_table(Table::drop().table("run_inputs").to_owned())
            .await?;
        for table in ["runs", "experiments"] {
            manager
                .alter_table(
                    Table::alter()
                        .table(table)
                        .drop_column("deleted_at")
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }
}

async fn create_inputs(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `fields` is a JSON list of pairs of name and type. The name of the row count is not that of an SQL keyword.
    manager
        .create_table(
            Table::create()
                .table("run_inputs")
                .col(uuid("run_id"))
                .col(bytewise(manager, string("name")))
                .col(bytewise(manager, string("digest")))
                .col(bytewise(manager, string("context")))
                .col(bytewise(manager, text("source")))
                .col(text("source_type"))
                .col(text("fields"))
                .col(big_integer_null("row_count"))
                .col(big_integer("created_at"))
                .primary_key(
                    Index::create()
                        .col("run_id")
                        .col("name")
                        .col("digest")
                        .col("context"),
                )
                .foreign_key(
                    ForeignKey::create()
                        .from("run_inputs", "run_id")
                        .to("runs", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .to_owned(),
        )
        .await
}
