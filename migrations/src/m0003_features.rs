//! The feature store: versioned definitions, who read what, and how far views are in the online store.

use sea_orm_migration::prelude::*;

/// Adds `definitions`, `feature_uses` and `materializations`.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(definitions()).await?;
        manager
            .create_index(
                Index::create()
                    .name("definitions_current")
                    .table(Definitions::Table)
                    .col(Definitions::ProjectId)
                    .col(Definitions::Current)
                    .col(Definitions::Kind)
                    .col(Definitions::Name)
                    .take(),
            )
            .await?;
        manager.create_table(feature_uses()).await?;
        for (name, column) in [
            ("feature_uses_by_run", FeatureUses::RunId),
            ("feature_uses_by_view", FeatureUses::FeatureView),
        ] {
            let index = Index::create()
                .name(name)
                .table(FeatureUses::Table)
                .col(FeatureUses::ProjectId)
                .col(column)
                .take();
            manager.create_index(index).await?;
        }
        manager.create_table(materializations()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(Materializations::Table).take())
            .await?;
        manager
            .drop_table(Table::drop().table(FeatureUses::Table).take())
            .await?;
        manager
            .drop_table(Table::drop().table(Definitions::Table).take())
            .await
    }
}

/// One row per version of an entity, source, view or service; the spec is its protobuf encoding.
fn definitions() -> TableCreateStatement {
    Table::create()
        .table(Definitions::Table)
        .col(ColumnDef::new(Definitions::ProjectId).uuid().not_null())
        .col(ColumnDef::new(Definitions::Kind).integer().not_null())
        .col(ColumnDef::new(Definitions::Name).string().not_null())
        .col(ColumnDef::new(Definitions::Version).integer().not_null())
        .col(ColumnDef::new(Definitions::Current).boolean().not_null())
        .col(ColumnDef::new(Definitions::Spec).blob().not_null())
        .col(
            ColumnDef::new(Definitions::AppliedAt)
                .big_integer()
                .not_null(),
        )
        .col(ColumnDef::new(Definitions::AppliedBy).text().not_null())
        .primary_key(
            Index::create()
                .col(Definitions::ProjectId)
                .col(Definitions::Kind)
                .col(Definitions::Name)
                .col(Definitions::Version),
        )
        .foreign_key(&mut project(Definitions::Table, Definitions::ProjectId))
        .take()
}

/// One row per retrieval and view that it read.
fn feature_uses() -> TableCreateStatement {
    Table::create()
        .table(FeatureUses::Table)
        .col(ColumnDef::new(FeatureUses::ProjectId).uuid().not_null())
        .col(ColumnDef::new(FeatureUses::RetrievalId).uuid().not_null())
        .col(ColumnDef::new(FeatureUses::FeatureView).string().not_null())
        .col(
            ColumnDef::new(FeatureUses::ViewVersion)
                .integer()
                .not_null(),
        )
        .col(ColumnDef::new(FeatureUses::Features).text().not_null())
        .col(ColumnDef::new(FeatureUses::RunId).uuid().null())
        .col(ColumnDef::new(FeatureUses::TrainingSet).text().not_null())
        .col(ColumnDef::new(FeatureUses::ReadAt).big_integer().not_null())
        .primary_key(
            Index::create()
                .col(FeatureUses::RetrievalId)
                .col(FeatureUses::FeatureView),
        )
        .foreign_key(&mut project(FeatureUses::Table, FeatureUses::ProjectId))
        .take()
}

/// How far each view is in the online store.
fn materializations() -> TableCreateStatement {
    Table::create()
        .table(Materializations::Table)
        .col(ColumnDef::new(Materializations::ProjectId).uuid().not_null())
        .col(
            ColumnDef::new(Materializations::FeatureView)
                .string()
                .not_null(),
        )
        .col(ColumnDef::new(Materializations::Shape).string().not_null())
        .col(
            ColumnDef::new(Materializations::CoveredUntil)
                .big_integer()
                .not_null(),
        )
        .col(
            ColumnDef::new(Materializations::FinishedAt)
                .big_integer()
                .not_null(),
        )
        .primary_key(
            Index::create()
                .col(Materializations::ProjectId)
                .col(Materializations::FeatureView),
        )
        .foreign_key(&mut project(
            Materializations::Table,
            Materializations::ProjectId,
        ))
        .take()
}

fn project(
    table: impl IntoTableRef,
    column: impl IntoIden,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, column)
        .to(Projects::Table, Projects::Id)
        .on_delete(ForeignKeyAction::Cascade)
        .take()
}

#[derive(DeriveIden)]
enum Projects {
    Table,
    Id,
}

#[derive(DeriveIden)]
enum Definitions {
    Table,
    ProjectId,
    Kind,
    Name,
    Version,
    Current,
    Spec,
    AppliedAt,
    AppliedBy,
}

#[derive(DeriveIden)]
enum FeatureUses {
    Table,
    ProjectId,
    RetrievalId,
    FeatureView,
    ViewVersion,
    Features,
    RunId,
    TrainingSet,
    ReadAt,
}

#[derive(DeriveIden)]
enum Materializations {
    Table,
    ProjectId,
    FeatureView,
    Shape,
    CoveredUntil,
    FinishedAt,
}
