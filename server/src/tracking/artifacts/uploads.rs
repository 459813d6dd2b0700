//! Uploads under way: SQL of `artifact_uploads` and `artifact_garbage`.
//!
//! Invariant: the row of an upload is there before its first byte, and goes in the transaction that records its content, or
//! that makes it garbage. So bytes that nothing leads to are always known.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, sea_query::Expr,
};
use uuid::Uuid;

use super::{blobs, convert::NewArtifact};
use crate::{
    app::App,
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    objects::stage::Stage,
    tracking::entity::{artifact_garbage as garbage, artifact_upload as upload},
};

/// Notes that an upload begins.
pub(super) async fn begin(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    row: &upload::Model,
) -> Result<()> {
    upload::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// Makes an upload one in parts, whose object is staged now.
pub(super) async fn set_stage(app: &App, scope: &Scope, row: &upload::Model) -> Result<()> {
    let txn = app.db.begin().await?;
    upload::Entity::update_many()
        .col_expr(upload::Column::PartBytes, Expr::value(row.part_bytes))
        .col_expr(upload::Column::Stage, Expr::value(row.stage.clone()))
        .filter(upload::Column::Id.eq(row.id))
        .filter(upload::Column::ProjectId.eq(scope.project_id()))
        .exec(&txn)
        .await?;
    txn.commit().await?;
    Ok(())
}

/// An upload that comes in one stream, whose row is stored now.
pub(super) async fn begin_stream(
    app: &App,
    scope: &Scope,
    run_id: Uuid,
    path: &str,
) -> Result<upload::Model> {
    let now = app.now().micros();
    let row = upload::Model {
        id: Uuid::now_v7(),
        project_id: scope.project_id(),
        run_id,
        path: path.to_owned(),
        size_bytes: 0,
        sha256: String::new(),
        media_type: String::new(),
        source: String::new(),
        part_bytes: 0,
        stage: String::new(),
        created_at: now,
        used_at: now,
    };
    let txn = app.db.begin().await?;
    begin(&txn, scope, &row).await?;
    txn.commit().await?;
    Ok(row)
}

/// One upload of the project.
pub(super) async fn load(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    id: Uuid,
) -> Result<upload::Model> {
    upload::Entity::find_by_id(id)
        .filter(upload::Column::ProjectId.eq(scope.project_id()))
        .filter(upload::Column::PartBytes.gt(0))
        .one(conn)
        .await?
        .ok_or_else(|| Error::not_found("upload", id))
}

/// The newest upload in parts of this file of a run of the project, from the same source.
pub(super) async fn find(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
    new: &NewArtifact,
    source: &str,
) -> Result<Option<upload::Model>> {
    if source.is_empty() {
        return Ok(None);
    }
    Ok(upload::Entity::find()
        .filter(upload::Column::ProjectId.eq(scope.project_id()))
        .filter(upload::Column::RunId.eq(run_id))
        .filter(upload::Column::Path.eq(&new.path))
        .filter(upload::Column::SizeBytes.eq(new.size_bytes))
        .filter(upload::Column::Source.eq(source))
        .filter(upload::Column::PartBytes.gt(0))
        .order_by_desc(upload::Column::Id)
        .one(conn)
        .await?)
}

/// Notes that an upload goes on, unless that was noted a moment ago.
pub(super) async fn touch(app: &App, scope: &Scope, row: &mut upload::Model) -> Result<()> {
    const MOMENT_MICROS: i64 = 60_000_000;
    let now = app.now().micros();
    if now - row.used_at < MOMENT_MICROS.min(super::collect::grace_micros(app) / 4) {
        return Ok(());
    }
    let txn = app.db.begin().await?;
    upload::Entity::update_many()
        .col_expr(upload::Column::UsedAt, Expr::value(now))
        .filter(upload::Column::Id.eq(row.id))
        .filter(upload::Column::ProjectId.eq(scope.project_id()))
        .exec(&txn)
        .await?;
    txn.commit().await?;
    row.used_at = now;
    Ok(())
}

/// Ends an upload within the transaction of its record. One that was given up meanwhile cannot be recorded.
pub(super) async fn end(txn: &impl ConnectionTrait, scope: &Scope, id: Uuid) -> Result<()> {
    let ended = upload::Entity::delete_many()
        .filter(upload::Column::Id.eq(id))
        .filter(upload::Column::ProjectId.eq(scope.project_id()))
        .exec(txn)
        .await?;
    if ended.rows_affected == 0 {
        return Err(Error::not_found("upload", id));
    }
    Ok(())
}

/// Notes that the object of an upload is to be removed.
pub(super) async fn make_garbage(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    (id, object_key, stage): (Uuid, String, String),
    now: Timestamp,
) -> Result<()> {
    let row = garbage::Model {
        id,
        object_key,
        stage,
        created_at: now.micros(),
    };
    garbage::Entity::insert(row.into_active_model())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// Gives up an upload, and removes what there is of it. Who waits for an answer does not care whether that worked: what stays
/// is collected later.
pub(super) async fn give_up(app: &App, scope: &Scope, row: &upload::Model) {
    let key = blobs::object_key(scope.project_id(), row.id);
    let given_up = async {
        let txn = app.db.begin().await?;
        match end(&txn, scope, row.id).await {
            Ok(()) => {
                make_garbage(&txn, scope, (row.id, key, row.stage.clone()), app.now()).await?;
                txn.commit().await?;
                super::collect::remove_garbage(app, scope, Some(row.id)).await
            }
            // Given up by somebody else before its bytes were there; or else recorded, though the commit seemed to fail.
            Err(Error::NotFound { .. }) => {
                let recorded = blobs::is_used(&txn, scope, row.id).await?;
                drop(txn);
                if !recorded {
                    app.objects.discard(row.id, &key, &row.stage).await?;
                }
                Ok(0)
            }
            Err(error) => Err(error),
        }
    };
    if let Err(error) = given_up.await {
        tracing::debug!(%error, "an upload is left to be collected");
    }
}

/// The object of an upload in parts, as the object store knows it.
pub(super) fn stage_of(row: &upload::Model) -> Stage {
    Stage {
        id: row.id,
        key: blobs::object_key(row.project_id, row.id),
        size_bytes: u64::try_from(row.size_bytes).unwrap_or_default(),
        part_bytes: u64::try_from(row.part_bytes).unwrap_or_default().max(1),
        token: row.stage.clone(),
    }
}
