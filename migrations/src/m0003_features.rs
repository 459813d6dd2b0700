//! The feature store: versioned definitions, who read what, and how far views are in the online store.
//!
//! Names compare byte by byte on PostgreSQL as they do on SQLite, so that both page through them in one order.

use sea_orm_migration::{prelude::*, schema::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_definitions(manager).await?;
        create_feature_uses(manager).await?;
        create_materializations(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["materializations", "feature_uses", "definitions"] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

/// A text column in the byte order that SQLite has anyway.
fn bytewise(manager: &SchemaManager, name: &'static str) -> ColumnDef {
    let mut column = text(name);
    if manager.get_database_backend() == DbBackend::Postgres {
        column.extra("COLLATE \"C\"");
    }
    column
}

fn to_project(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, "project_id")
        .to("projects", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

async fn create_definitions(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `kind` is the number of the contract's DefinitionKind, `spec` the protobuf encoding of the definition.
    manager
        .create_table(
            Table::create()
                .table("definitions")
                .col(uuid("project_id"))
                .col(integer("kind"))
                .col(bytewise(manager, "name"))
                .col(integer("version"))
                .col(boolean("current"))
                .col(binary("spec"))
                .col(big_integer("applied_at"))
                .col(text("applied_by"))
                .primary_key(
                    Index::create()
                        .col("project_id")
                        .col("kind")
                        .col("name")
                        .col("version"),
                )
                .foreign_key(&mut to_project("definitions"))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("definitions_current")
                .table("definitions")
                .col("project_id")
                .col("current")
                .col("kind")
                .col("name")
                .to_owned(),
        )
        .await
}

async fn create_feature_uses(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // One row per retrieval and view that it read; `features` is a JSON list of names.
    manager
        .create_table(
            Table::create()
                .table("feature_uses")
                .col(uuid("project_id"))
                .col(uuid("retrieval_id"))
                .col(bytewise(manager, "feature_view"))
                .col(integer("view_version"))
                .col(text("features"))
                .col(uuid_null("run_id"))
                .col(text("training_set"))
                .col(big_integer("read_at"))
                .primary_key(Index::create().col("retrieval_id").col("feature_view"))
                .foreign_key(&mut to_project("feature_uses"))
                .to_owned(),
        )
        .await?;
    for (name, column) in [
        ("feature_uses_run", "run_id"),
        ("feature_uses_view", "feature_view"),
    ] {
        manager
            .create_index(
                Index::create()
                    .name(name)
                    .table("feature_uses")
                    .col("project_id")
                    .col(column)
                    .to_owned(),
            )
            .await?;
    }
    Ok(())
}

async fn create_materializations(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `shape` says what the rows look like and where they come from; with another one it begins anew.
    manager
        .create_table(
            Table::create()
                .table("materializations")
                .col(uuid("project_id"))
                .col(bytewise(manager, "feature_view"))
                .col(text("shape"))
                .col(big_integer("covered_until_at"))
                .col(big_integer("finished_at"))
                .primary_key(Index::create().col("project_id").col("feature_view"))
                .foreign_key(&mut to_project("materializations"))
                .to_owned(),
        )
        .await
}
