//! OpenLineage events, and the graph made from them: dataset versions, runs, what each run read and wrote.
//!
//! The ids of datasets are digests of their names, so that events can be merged in any order without looking anything up.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

fn project_of(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, "project_id")
        .to("projects", "id")
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        events(manager).await?;
        runs(manager).await?;
        datasets(manager).await?;
        edges(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "lineage_edges",
            "lineage_symlinks",
            "lineage_datasets",
            "lineage_runs",
            "lineage_events",
        ] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

async fn events(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `content_id` is a digest of the text: an event that is sent again is stored once.
    manager
        .create_table(
            Table::create()
                .table("lineage_events")
                .col(pk_uuid("id"))
                .col(uuid("project_id"))
                .col(uuid("content_id"))
                .col(big_integer("event_time_at"))
                .col(big_integer("recorded_at"))
                .col(text("event_type"))
                .col(uuid("run_id"))
                .col(text("job_namespace"))
                .col(text("job_name"))
                .col(text("event"))
                .foreign_key(&mut project_of("lineage_events"))
                .to_owned(),
        )
        .await?;
    let index = |name: &str| {
        Index::create()
            .name(name)
            .table("lineage_events")
            .col("project_id")
            .to_owned()
    };
    manager
        .create_index(
            index("lineage_events_content")
                .col("content_id")
                .unique()
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            index("lineage_events_time")
                .col("event_time_at")
                .col("id")
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            index("lineage_events_run")
                .col("run_id")
                .col("event_time_at")
                .col("id")
                .to_owned(),
        )
        .await
}

async fn runs(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("lineage_runs")
                .col(uuid("project_id"))
                .col(uuid("id"))
                .col(text("job_namespace"))
                .col(text("job_name"))
                .col(text("job_type"))
                .col(text("state"))
                .col(big_integer("state_order"))
                .col(uuid_null("parent_run_id"))
                .col(big_integer("first_seen_at"))
                .col(big_integer("last_seen_at"))
                .primary_key(Index::create().col("project_id").col("id"))
                .foreign_key(&mut project_of("lineage_runs"))
                .to_owned(),
        )
        .await
}

async fn datasets(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `id` is a digest of namespace, name and version; `name_id` of namespace and name.
    manager
        .create_table(
            Table::create()
                .table("lineage_datasets")
                .col(uuid("project_id"))
                .col(uuid("id"))
                .col(uuid("name_id"))
                .col(text("namespace"))
                .col(text("name"))
                .col(text("version"))
                .col(text("dataset_type"))
                .col(big_integer("first_seen_at"))
                .col(big_integer("last_seen_at"))
                .primary_key(Index::create().col("project_id").col("id"))
                .foreign_key(&mut project_of("lineage_datasets"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("lineage_datasets_name")
                .table("lineage_datasets")
                .col("project_id")
                .col("name_id")
                .to_owned(),
        )
        .await?;
    // The dataset `name_id` goes by the name `symlink_id` too.
    manager
        .create_table(
            Table::create()
                .table("lineage_symlinks")
                .col(uuid("project_id"))
                .col(uuid("symlink_id"))
                .col(uuid("name_id"))
                .primary_key(
                    Index::create()
                        .col("project_id")
                        .col("symlink_id")
                        .col("name_id"),
                )
                .foreign_key(&mut project_of("lineage_symlinks"))
                .to_owned(),
        )
        .await
}

async fn edges(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `written` is 1 where the run wrote the dataset, 0 where it read it.
    manager
        .create_table(
            Table::create()
                .table("lineage_edges")
                .col(uuid("project_id"))
                .col(uuid("run_id"))
                .col(small_integer("written"))
                .col(uuid("dataset_id"))
                .col(big_integer("first_seen_at"))
                .primary_key(
                    Index::create()
                        .col("project_id")
                        .col("run_id")
                        .col("written")
                        .col("dataset_id"),
                )
                .foreign_key(&mut project_of("lineage_edges"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("lineage_edges_dataset")
                .table("lineage_edges")
                .col("project_id")
                .col("dataset_id")
                .col("written")
                .col("first_seen_at")
                .to_owned(),
        )
        .await
}
