//! Experiments, runs with their params, tags and metrics, and the records of artifacts.
//!
//! Text that is a key, searched or ordered compares byte by byte on PostgreSQL as it does on SQLite, so that both give one
//! order and the paths below a directory are one range.

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

fn to_run(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, "run_id")
        .to("runs", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_experiments(manager).await?;
        create_runs(manager).await?;
        create_texts(manager, "run_params").await?;
        create_texts(manager, "run_tags").await?;
        create_metrics(manager).await?;
        create_artifacts(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            "artifacts",
            "metric_writers",
            "metric_chunks",
            "metric_series",
            "run_tags",
            "run_params",
            "runs",
            "experiments",
        ];
        for table in tables {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

async fn create_experiments(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("experiments")
                .col(pk_uuid("id"))
                .col(uuid("project_id"))
                .col(bytewise(manager, string("name")))
                .col(text("description"))
                .col(text("tags"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .col(text("created_by"))
                .foreign_key(
                    ForeignKey::create()
                        .from("experiments", "project_id")
                        .to("projects", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("experiments_project_name")
                .table("experiments")
                .col("project_id")
                .col("name")
                .unique()
                .to_owned(),
        )
        .await
}

async fn create_runs(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `experiment_at_creation` is part of the name of the lineage job, which must not change when an experiment is renamed.
    manager
        .create_table(
            Table::create()
                .table("runs")
                .col(pk_uuid("id"))
                .col(uuid("project_id"))
                .col(uuid("experiment_id"))
                .col(text("experiment_at_creation"))
                .col(bytewise(manager, string("name")))
                .col(uuid_null("parent_run_id"))
                .col(bytewise(manager, string_len("status", 16)))
                .col(text("status_message"))
                .col(text("description"))
                .col(big_integer("started_at"))
                .col(big_integer_null("ended_at"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .col(bytewise(manager, text("created_by")))
                .foreign_key(
                    ForeignKey::create()
                        .from("runs", "project_id")
                        .to("projects", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .foreign_key(
                    ForeignKey::create()
                        .from("runs", "experiment_id")
                        .to("experiments", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .foreign_key(
                    ForeignKey::create()
                        .from("runs", "parent_run_id")
                        .to("runs", "id")
                        .on_delete(ForeignKeyAction::SetNull),
                )
                .to_owned(),
        )
        .await?;
    let indexes: [(&str, &[&str]); 3] = [
        ("runs_project_started", &["project_id", "started_at", "id"]),
        (
            "runs_experiment_started",
            &["experiment_id", "started_at", "id"],
        ),
        ("runs_parent", &["parent_run_id"]),
    ];
    for (name, columns) in indexes {
        let mut index = Index::create().name(name).table("runs").to_owned();
        for column in columns {
            index.col(*column);
        }
        manager.create_index(index).await?;
    }
    Ok(())
}

/// Params and tags have one shape. `number` is the value where it reads as one, for comparisons with numbers.
async fn create_texts(manager: &SchemaManager<'_>, table: &'static str) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table(table)
                .col(uuid("run_id"))
                .col(bytewise(manager, string("key")))
                .col(bytewise(manager, text("value")))
                .col(double_null("number"))
                .primary_key(Index::create().col("run_id").col("key"))
                .foreign_key(&mut to_run(table))
                .to_owned(),
        )
        .await
}

async fn create_metrics(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `last_bits` holds the last value exactly; `last_value` is for search, and null where the last value is NaN.
    manager
        .create_table(
            Table::create()
                .table("metric_series")
                .col(pk_uuid("id"))
                .col(uuid("run_id"))
                .col(bytewise(manager, string("key")))
                .col(big_integer("last_bits"))
                .col(double_null("last_value"))
                .col(big_integer("last_step"))
                .col(big_integer("last_timestamp_us"))
                .col(double_null("min_value"))
                .col(double_null("max_value"))
                .col(big_integer("count"))
                .col(big_integer("tail_number"))
                .col(big_integer("tail_count"))
                .foreign_key(&mut to_run("metric_series"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("metric_series_run_key")
                .table("metric_series")
                .col("run_id")
                .col("key")
                .unique()
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("metric_chunks")
                .col(uuid("series_id"))
                .col(big_integer("number"))
                .col(big_integer("min_step"))
                .col(big_integer("max_step"))
                .col(big_integer("count"))
                .col(blob("data"))
                .primary_key(Index::create().col("series_id").col("number"))
                .foreign_key(
                    ForeignKey::create()
                        .from("metric_chunks", "series_id")
                        .to("metric_series", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .to_owned(),
        )
        .await?;
    if manager.get_database_backend() == DbBackend::Postgres {
        // The data is compressed already; PostgreSQL need not try again.
        manager
            .get_connection()
            .execute_unprepared("ALTER TABLE metric_chunks ALTER COLUMN data SET STORAGE EXTERNAL")
            .await?;
    }
    manager
        .create_table(
            Table::create()
                .table("metric_writers")
                .col(uuid("run_id"))
                .col(uuid("writer_id"))
                .col(big_integer("last_sequence"))
                .primary_key(Index::create().col("run_id").col("writer_id"))
                .foreign_key(&mut to_run("metric_writers"))
                .to_owned(),
        )
        .await
}

async fn create_artifacts(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("artifacts")
                .col(uuid("run_id"))
                .col(bytewise(manager, string("path")))
                .col(big_integer("size_bytes"))
                .col(string_len("sha256", 64))
                .col(text("media_type"))
                .col(big_integer("created_at"))
                .primary_key(Index::create().col("run_id").col("path"))
                .foreign_key(&mut to_run("artifacts"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("artifacts_sha256")
                .table("artifacts")
                .col("sha256")
                .to_owned(),
        )
        .await
}
