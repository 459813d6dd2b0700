//! Projects, role bindings, remembered requests, settings of the installation.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("projects")
                    .col(pk_uuid("id"))
                    .col(string("name").unique_key())
                    .col(text("description"))
                    .col(text("tags"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .col(text("created_by"))
                    .to_owned(),
            )
            .await?;
        // A binding without a project holds on the whole platform.
        manager
            .create_table(
                Table::create()
                    .table("role_bindings")
                    .col(pk_uuid("id"))
                    .col(text("subject"))
                    .col(text("role"))
                    .col(uuid_null("project_id"))
                    .col(big_integer("created_at"))
                    .col(text("created_by"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("role_bindings", "project_id")
                            .to("projects", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("role_bindings_subject")
                    .table("role_bindings")
                    .col("subject")
                    .col("project_id")
                    .to_owned(),
            )
            .await?;
        // `owner_id` is the project, or nil for requests to the platform.
        manager
            .create_table(
                Table::create()
                    .table("idempotency")
                    .col(uuid("owner_id"))
                    .col(text("subject"))
                    .col(text("method"))
                    .col(uuid("request_id"))
                    .col(binary("request"))
                    .col(binary("response"))
                    .col(big_integer("created_at"))
                    .primary_key(
                        Index::create()
                            .col("owner_id")
                            .col("subject")
                            .col("method")
                            .col("request_id"),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idempotency_created_at")
                    .table("idempotency")
                    .col("created_at")
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("settings")
                    .col(string("key").primary_key())
                    .col(text("value"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["settings", "idempotency", "role_bindings", "projects"] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}
