//! Bytes that nothing leads to are removed: of uploads that were broken off, and of files whose last record is gone.
//!
//! Invariant: an object is garbage only after a transaction made it unreachable, so no record can come to lead to it any more;
//! it stays in the list of garbage until its bytes are gone. So this may run at any time, on every replica, and die anywhere.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Select,
    sea_query::{Expr, ExprTrait as _, Query},
};
use uuid::Uuid;

use super::{blobs, uploads};
use crate::{
    app::App,
    auth::Scope,
    error::Result,
    tracking::entity::{
        artifact, artifact_blob as blob, artifact_garbage as garbage, artifact_upload as upload,
        run,
    },
};

/// Rows a transaction; short, for writers wait for it.
const BATCH: u64 = 500;

/// Removes what nothing leads to for longer than the time of grace; the answer is how many objects went. For the background,
/// and for who has just deleted many runs.
pub async fn collect_orphans(app: &App) -> Result<u64> {
    let scope = Scope::of_server();
    while give_up_old_uploads(app, &scope).await? {}
    let mut after = (Uuid::nil(), String::new());
    while let Some(last) = drop_unused_blobs(app, &scope, after).await? {
        after = last;
    }
    remove_garbage(app, &scope, None).await
}

/// Collects again and again, as the settings say, until it is aborted.
pub async fn collect_forever(app: Arc<App>) {
    let every = Duration::from_secs(app.config.artifacts.collect_every_s);
    if every.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(every).await;
        match collect_orphans(&app).await {
            Ok(0) => {}
            Ok(objects) => tracing::info!(objects, "removed objects that nothing led to"),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:?}"),
                    "objects could not be collected"
                );
            }
        }
    }
}

/// The time of grace in microseconds.
pub(super) fn grace_micros(app: &App) -> i64 {
    i64::try_from(
        app.config
            .artifacts
            .orphan_grace_s
            .saturating_mul(1_000_000),
    )
    .unwrap_or(i64::MAX)
}

/// What was last used before this is old.
fn cutoff(app: &App) -> i64 {
    app.now().micros().saturating_sub(grace_micros(app))
}

/// Gives up a batch of uploads that nobody went on with; false when there are no more.
async fn give_up_old_uploads(app: &App, scope: &Scope) -> Result<bool> {
    let txn = app.db.begin().await?;
    let old = upload::Entity::find()
        .filter(upload::Column::UsedAt.lt(cutoff(app)))
        .order_by_asc(upload::Column::Id)
        .limit(BATCH)
        .lock_exclusive()
        .all(&txn)
        .await?;
    for row in &old {
        upload::Entity::delete_by_id(row.id).exec(&txn).await?;
        let key = blobs::object_key(row.project_id, row.id);
        uploads::make_garbage(&txn, scope, (row.id, key, row.stage.clone()), app.now()).await?;
    }
    txn.commit().await?;
    Ok(!old.is_empty())
}

/// Drops the blobs of one batch, in the order of their keys from `after` on, that no record has any more. The answer is where
/// to go on.
async fn drop_unused_blobs(
    app: &App,
    scope: &Scope,
    (project_id, sha256): (Uuid, String),
) -> Result<Option<(Uuid, String)>> {
    let found = unused(scope, cutoff(app))
        .filter(
            blob::Column::ProjectId
                .gt(project_id)
                .or(blob::Column::ProjectId
                    .eq(project_id)
                    .and(blob::Column::Sha256.gt(sha256))),
        )
        .limit(BATCH)
        .all(app.db.read())
        .await?;
    let Some(last) = found.last() else {
        return Ok(None);
    };
    let last = (last.project_id, last.sha256.clone());
    let txn = app.db.begin().await?;
    for candidate in found {
        drop_if_unused(&txn, app, scope, candidate).await?;
    }
    txn.commit().await?;
    Ok(Some(last))
}

/// Blobs of all projects that no record of theirs has.
fn unused(_scope: &Scope, cutoff: i64) -> Select<blob::Entity> {
    let records = Query::select()
        .expr(Expr::value(1))
        .from(artifact::Entity)
        .inner_join(
            run::Entity,
            Expr::col((run::Entity, run::Column::Id))
                .equals((artifact::Entity, artifact::Column::RunId)),
        )
        .and_where(
            Expr::col((artifact::Entity, artifact::Column::Sha256))
                .equals((blob::Entity, blob::Column::Sha256)),
        )
        .and_where(
            Expr::col((run::Entity, run::Column::ProjectId))
                .equals((blob::Entity, blob::Column::ProjectId)),
        )
        .to_owned();
    blob::Entity::find()
        .filter(blob::Column::UsedAt.lt(cutoff))
        .filter(Expr::exists(records).not())
        .order_by_asc(blob::Column::ProjectId)
        .order_by_asc(blob::Column::Sha256)
}

/// Looked at again while the row is locked, in a statement of its own: what was recorded meanwhile is seen, and what would be
/// recorded now waits.
async fn drop_if_unused(
    txn: &impl ConnectionTrait,
    app: &App,
    scope: &Scope,
    candidate: blob::Model,
) -> Result<()> {
    let key = (candidate.project_id, candidate.sha256.clone());
    blob::Entity::find_by_id(key.clone())
        .lock_exclusive()
        .one(txn)
        .await?;
    let still = unused(scope, cutoff(app))
        .filter(blob::Column::ProjectId.eq(candidate.project_id))
        .filter(blob::Column::Sha256.eq(&candidate.sha256))
        .one(txn)
        .await?;
    if still.is_none() {
        return Ok(());
    }
    blob::Entity::delete_by_id(key).exec(txn).await?;
    let object_key = blobs::key_of(&candidate);
    let id = match candidate.object_id {
        Some(object_id) if blobs::is_used(txn, scope, object_id).await? => return Ok(()),
        Some(object_id) => object_id,
        None => Uuid::now_v7(),
    };
    uploads::make_garbage(txn, scope, (id, object_key, String::new()), app.now()).await
}

/// Removes the bytes of garbage: of one object, or of all. What cannot be removed now stays in the list.
pub(super) async fn remove_garbage(app: &App, _scope: &Scope, only: Option<Uuid>) -> Result<u64> {
    let (mut removed, mut after) = (0, Uuid::nil());
    loop {
        let mut query = garbage::Entity::find()
            .filter(garbage::Column::Id.gt(after))
            .order_by_asc(garbage::Column::Id)
            .limit(BATCH);
        if let Some(id) = only {
            query = query.filter(garbage::Column::Id.eq(id));
        }
        let rows = query.all(app.db.read()).await?;
        let Some(last) = rows.last() else {
            return Ok(removed);
        };
        after = last.id;
        let mut gone = Vec::with_capacity(rows.len());
        for row in &rows {
            match app
                .objects
                .discard(row.id, &row.object_key, &row.stage)
                .await
            {
                Ok(()) => gone.push(row.id),
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:?}"),
                        key = row.object_key,
                        "an object could not be removed"
                    );
                }
            }
        }
        removed += gone.len() as u64;
        let txn = app.db.begin().await?;
        garbage::Entity::delete_many()
            .filter(garbage::Column::Id.is_in(gone))
            .exec(&txn)
            .await?;
        txn.commit().await?;
    }
}
