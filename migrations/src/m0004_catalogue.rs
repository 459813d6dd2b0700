//! Registered models, their versions and aliases.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        models(manager).await?;
        versions(manager).await?;
        aliases(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "model_aliases",
            "model_feature_uses",
            "model_versions",
            "registered_models",
        ] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

async fn models(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("registered_models")
                .col(pk_uuid("id"))
                .col(uuid("project_id"))
                .col(text("name"))
                .col(text("description"))
                .col(text("tags"))
                .col(integer("latest_version"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .col(text("created_by"))
                .foreign_key(
                    ForeignKey::create()
                        .from("registered_models", "project_id")
                        .to("projects", "id"),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("registered_models_name")
                .table("registered_models")
                .col("project_id")
                .col("name")
                .unique()
                .to_owned(),
        )
        .await
}

async fn versions(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    // `captured` is a mlplat.catalogue.v1.ModelVersion that holds files, params, metrics and feature views as they were; it
    // never changes. There is no foreign key to the run, for a version outlives it.
    manager
        .create_table(
            Table::create()
                .table("model_versions")
                .col(uuid("model_id"))
                .col(integer("version"))
                .col(text("stage"))
                .col(uuid("run_id"))
                .col(text("artifact_path"))
                .col(binary("captured"))
                .col(text("description"))
                .col(text("tags"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .col(text("created_by"))
                .primary_key(Index::create().col("model_id").col("version"))
                .foreign_key(
                    ForeignKey::create()
                        .from("model_versions", "model_id")
                        .to("registered_models", "id"),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("model_versions_run")
                .table("model_versions")
                .col("run_id")
                .to_owned(),
        )
        .await?;
    // The feature views of `captured` once more, to find the models that use a view.
    manager
        .create_table(
            Table::create()
                .table("model_feature_uses")
                .col(uuid("model_id"))
                .col(integer("version"))
                .col(text("feature_view"))
                .col(integer("view_version"))
                .col(text("training_set"))
                .col(text("features"))
                .primary_key(
                    Index::create()
                        .col("model_id")
                        .col("version")
                        .col("feature_view")
                        .col("view_version")
                        .col("training_set"),
                )
                .foreign_key(
                    ForeignKey::create()
                        .from("model_feature_uses", "model_id")
                        .to("registered_models", "id"),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("model_feature_uses_view")
                .table("model_feature_uses")
                .col("feature_view")
                .to_owned(),
        )
        .await
}

async fn aliases(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("model_aliases")
                .col(uuid("model_id"))
                .col(text("alias"))
                .col(integer("version"))
                .primary_key(Index::create().col("model_id").col("alias"))
                .foreign_key(
                    ForeignKey::create()
                        .from("model_aliases", ("model_id", "version"))
                        .to("model_versions", ("model_id", "version")),
                )
                .to_owned(),
        )
        .await
}
