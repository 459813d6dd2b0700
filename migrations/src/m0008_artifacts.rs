//! Where the bytes of artifacts lie, uploads that are under way, and objects that are to be removed.
//!
//! Before this, bytes lay under their digest. From now on each upload writes an object of its own, which may hold many small
//! files, and `artifact_blobs` says where the content of a digest is. What lies under its digest stays there: no `object_id`.

use sea_orm_migration::{prelude::*, schema::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_blobs(manager).await?;
        create_uploads(manager).await?;
        create_garbage(manager).await?;
        // What is recorded already.
        manager
            .get_connection()
            .execute_unprepared(
                "INSERT INTO artifact_blobs (project_id, sha256, object_id, start_byte, size_bytes, used_at) \
                 SELECT r.project_id, a.sha256, NULL, 0, MAX(a.size_bytes), MAX(a.created_at) \
                 FROM artifacts a JOIN runs r ON r.id = a.run_id GROUP BY r.project_id, a.sha256",
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["artifact_garbage", "artifact_uploads", "artifact_blobs"] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

async fn create_blobs(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut sha256 = string_len("sha256", 64);
    if manager.get_database_backend() == DbBackend::Postgres {
        sha256.extra("COLLATE \"C\"");
    }
    manager
        .create_table(
            Table::create()
                .table("artifact_blobs")
                .col(uuid("project_id"))
                .col(sha256)
                .col(uuid_null("object_id"))
                .col(big_integer("start_byte"))
                .col(big_integer("size_bytes"))
                .col(big_integer("used_at"))
                .primary_key(Index::create().col("project_id").col("sha256"))
                .to_owned(),
        )
        .await?;
    index(
        manager,
        "artifact_blobs_object",
        "artifact_blobs",
        &["object_id"],
    )
    .await?;
    index(
        manager,
        "artifact_blobs_size",
        "artifact_blobs",
        &["project_id", "size_bytes"],
    )
    .await
}

/// An upload is known before its first byte, so that what a crash leaves is found again. `part_bytes` is 0 where it cannot be
/// resumed; `stage` is what the object store calls it.
async fn create_uploads(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("artifact_uploads")
                .col(pk_uuid("id"))
                .col(uuid("project_id"))
                .col(uuid("run_id"))
                .col(text("path"))
                .col(big_integer("size_bytes"))
                .col(text("sha256"))
                .col(text("media_type"))
                .col(text("source"))
                .col(big_integer("part_bytes"))
                .col(text("stage"))
                .col(big_integer("created_at"))
                .col(big_integer("used_at"))
                .to_owned(),
        )
        .await?;
    index(
        manager,
        "artifact_uploads_run",
        "artifact_uploads",
        &["run_id"],
    )
    .await?;
    index(
        manager,
        "artifact_uploads_used",
        "artifact_uploads",
        &["used_at"],
    )
    .await
}

/// Nothing leads to these any more. A row is there until the bytes are gone, so that a crash in between leaves none behind.
async fn create_garbage(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("artifact_garbage")
                .col(pk_uuid("id"))
                .col(text("object_key"))
                .col(text("stage"))
                .col(big_integer("created_at"))
                .to_owned(),
        )
        .await
}

async fn index(
    manager: &SchemaManager<'_>,
    name: &str,
    table: &'static str,
    columns: &[&'static str],
) -> Result<(), DbErr> {
    let mut index = Index::create().name(name).table(table).to_owned();
    for column in columns {
        index.col(*column);
    }
    manager.create_index(index).await
}
