//! Bytes that nothing leads to are removed: of uploads that were broken off, and of files whose last record is gone. What a
//! model version has captured stays; the catalogue is asked by who calls.
//!
//! Invariant: an object is garbage only after a transaction made it unreachable, so no record can come to lead to it any more;
//! it stays in the list of garbage until its bytes are gone. So this may run at any time, on every replica, and die anywhere.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select, TransactionTrait as _,
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

/// Those of some digests of a project that something beside the records of artifacts names: who knows of more than tracking
/// says it. It is asked once for many.
pub(crate) type Claimed = for<'a> fn(
    &'a DatabaseTransaction,
    Uuid,
    &'a [String],
) -> BoxFuture<'a, Result<BTreeSet<String>>>;

/// Removes what nothing leads to for longer than the time of grace, in one project or in all; the answer is how many contents
/// went. For the background, and for who has just deleted many runs.
pub(crate) async fn collect_orphans(
    app: &App,
    project: Option<Uuid>,
    claimed: Claimed,
) -> Result<u64> {
    let scope = Scope::of_server();
    while give_up_old_uploads(app, &scope).await? {}
    let (mut dropped, mut after) = (0, (Uuid::nil(), String::new()));
    loop {
        let found = unused_behind(app, &scope, project, &after).await?;
        let Some(last) = found.last() else {
            break;
        };
        after = (last.project_id, last.sha256.clone());
        dropped += drop_unused(app, &scope, found, claimed).await?;
    }
    remove_garbage(app, &scope, None).await?;
    Ok(dropped)
}

/// How many contents of the project no record has, for longer than the time of grace.
pub(crate) async fn count_orphans(app: &App, scope: &Scope) -> Result<u64> {
    Ok(unused(scope, cutoff(app))
        .filter(blob::Column::ProjectId.eq(scope.project_id()))
        .count(app.db.read())
        .await?)
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

/// A batch of blobs that no record has, in the order of their keys, behind `after`.
async fn unused_behind(
    app: &App,
    scope: &Scope,
    project: Option<Uuid>,
    (project_id, sha256): &(Uuid, String),
) -> Result<Vec<blob::Model>> {
    let mut found = unused(scope, cutoff(app)).filter(
        blob::Column::ProjectId
            .gt(*project_id)
            .or(blob::Column::ProjectId
                .eq(*project_id)
                .and(blob::Column::Sha256.gt(sha256.as_str()))),
    );
    if let Some(project) = project {
        found = found.filter(blob::Column::ProjectId.eq(project));
    }
    Ok(found.limit(BATCH).all(app.db.read()).await?)
}

/// Drops those of the blobs that are still unused; the answer is how many.
async fn drop_unused(
    app: &App,
    scope: &Scope,
    found: Vec<blob::Model>,
    claimed: Claimed,
) -> Result<u64> {
    // What is claimed stays so, mostly for ever: it is found out without holding up writers.
    let reading = app.db.read().begin().await?;
    let candidates = unclaimed(&reading, found, claimed).await?;
    reading.rollback().await?;
    if candidates.is_empty() {
        return Ok(0);
    }
    let txn = app.db.begin().await?;
    let mut unused = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        if is_still_unused(&txn, app, scope, &candidate).await? {
            unused.push(candidate);
        }
    }
    // Asked again now that no record can come: one that came and went meanwhile may have been captured.
    let garbage = unclaimed(&txn, unused, claimed).await?;
    for blob in &garbage {
        drop_blob(&txn, app, scope, blob).await?;
    }
    txn.commit().await?;
    Ok(garbage.len() as u64)
}

/// Those of the blobs, which come by project, that nothing else names.
async fn unclaimed(
    txn: &DatabaseTransaction,
    blobs: Vec<blob::Model>,
    claimed: Claimed,
) -> Result<Vec<blob::Model>> {
    let mut free = Vec::with_capacity(blobs.len());
    for of_project in blobs.chunk_by(|one, next| one.project_id == next.project_id) {
        let Some(first) = of_project.first() else {
            continue;
        };
        let digests: Vec<String> = of_project.iter().map(|blob| blob.sha256.clone()).collect();
        let taken = claimed(txn, first.project_id, &digests).await?;
        let of_project = of_project.iter();
        free.extend(
            of_project
                .filter(|blob| !taken.contains(&blob.sha256))
                .cloned(),
        );
    }
    Ok(free)
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
async fn is_still_unused(
    txn: &DatabaseTransaction,
    app: &App,
    scope: &Scope,
    candidate: &blob::Model,
) -> Result<bool> {
    blob::Entity::find_by_id((candidate.project_id, candidate.sha256.clone()))
        .lock_exclusive()
        .one(txn)
        .await?;
    let still = unused(scope, cutoff(app))
        .filter(blob::Column::ProjectId.eq(candidate.project_id))
        .filter(blob::Column::Sha256.eq(&candidate.sha256))
        .one(txn)
        .await?;
    Ok(still.is_some())
}

/// Drops a blob that is locked, and lists its object as garbage unless another blob leads to it.
async fn drop_blob(
    txn: &DatabaseTransaction,
    app: &App,
    scope: &Scope,
    blob: &blob::Model,
) -> Result<()> {
    blob::Entity::delete_by_id((blob.project_id, blob.sha256.clone()))
        .exec(txn)
        .await?;
    let id = match blob.object_id {
        Some(object_id) if blobs::is_used(txn, scope, object_id).await? => return Ok(()),
        Some(object_id) => object_id,
        None => Uuid::now_v7(),
    };
    let garbage = (id, blobs::key_of(blob), String::new());
    uploads::make_garbage(txn, scope, garbage, app.now()).await
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
