//! Where the content of a digest lies: SQL of `artifact_blobs`.
//!
//! Invariant: a row is there only when its bytes are durable, and is written, renewed or removed only while it is locked. So
//! who holds a row within the transaction of a record may rely on its bytes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
    sea_query::{Expr, OnConflict},
};
use uuid::Uuid;

use crate::{
    app::App,
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    tracking::entity::{artifact, artifact_blob as blob},
};

/// Rows a statement, so that its parameters stay below what SQLite takes (32,766).
pub(super) const ROWS: usize = 1000;

/// Where some bytes are: an object, and a range of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) key: String,
    pub(super) range: Range<u64>,
}

/// Key of an object of the project. Kept short: some S3 servers over a file system put the whole key into the name of one
/// file. Version 7 ids begin with the time, so that their ends spread.
pub(super) fn object_key(project_id: Uuid, object_id: Uuid) -> String {
    let id = object_id.simple().to_string();
    let (rest, end) = id.split_at_checked(30).unwrap_or((&id, ""));
    format!("objects/{}/{end}/{rest}", project_id.simple())
}

/// Key of what was stored before there were objects: under its digest.
fn digest_key(project_id: Uuid, sha256: &str) -> String {
    let (start, rest) = sha256.split_at_checked(2).unwrap_or((sha256, ""));
    format!("blobs/{}/{start}/{rest}", project_id.simple())
}

/// Key of the object that a blob is in.
pub(super) fn key_of(blob: &blob::Model) -> String {
    match blob.object_id {
        Some(object_id) => object_key(blob.project_id, object_id),
        None => digest_key(blob.project_id, &blob.sha256),
    }
}

/// Where the bytes of these files are, in their order.
pub(super) async fn locate(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    files: &[artifact::Model],
) -> Result<Vec<Location>> {
    let digests = files.iter().map(|file| file.sha256.clone()).collect();
    let found = find(conn, scope, digests).await?;
    let place = |file: &artifact::Model| {
        let size = u64::try_from(file.size_bytes).unwrap_or_default();
        match found.get(&file.sha256) {
            Some(blob) => {
                let start = u64::try_from(blob.start_byte).unwrap_or_default();
                Location {
                    key: key_of(blob),
                    range: start..start + size,
                }
            }
            None => Location {
                key: digest_key(scope.project_id(), &file.sha256),
                range: 0..size,
            },
        }
    };
    Ok(files.iter().map(place).collect())
}

/// The blobs of these digests, by digest.
async fn find(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    digests: Vec<String>,
) -> Result<HashMap<String, blob::Model>> {
    let mut found = HashMap::new();
    for digests in digests.chunks(ROWS) {
        let rows = blob::Entity::find()
            .filter(blob::Column::ProjectId.eq(scope.project_id()))
            .filter(blob::Column::Sha256.is_in(digests))
            .all(conn)
            .await?;
        found.extend(rows.into_iter().map(|row| (row.sha256.clone(), row)));
    }
    Ok(found)
}

/// Those of the digests whose content the project has. It stays for the time of grace, so that it need not be sent.
pub(super) async fn keep(
    app: &App,
    scope: &Scope,
    digests: Vec<String>,
) -> Result<HashMap<String, blob::Model>> {
    let found = find(app.db.read(), scope, digests).await?;
    let grace = super::collect::grace_micros(app);
    let stale = app.now().micros() - grace / 2;
    if found.values().all(|blob| blob.used_at >= stale) {
        return Ok(found);
    }
    let txn = app.db.begin().await?;
    let kept = renew(&txn, scope, found.into_keys().collect(), app.now()).await?;
    txn.commit().await?;
    Ok(kept)
}

/// Locks the blobs of these digests, as far as there are any, and notes that they are used now.
async fn renew(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    mut digests: Vec<String>,
    now: Timestamp,
) -> Result<HashMap<String, blob::Model>> {
    // In one order, so that transactions which want the same ones wait for each other, and not in a circle.
    digests.sort_unstable();
    let mut held = HashMap::new();
    for digests in digests.chunks(ROWS) {
        let rows = blob::Entity::find()
            .filter(blob::Column::ProjectId.eq(scope.project_id()))
            .filter(blob::Column::Sha256.is_in(digests))
            .order_by_asc(blob::Column::Sha256)
            .lock_exclusive()
            .all(txn)
            .await?;
        blob::Entity::update_many()
            .col_expr(blob::Column::UsedAt, Expr::value(now.micros()))
            .filter(blob::Column::ProjectId.eq(scope.project_id()))
            .filter(blob::Column::Sha256.is_in(rows.iter().map(|row| row.sha256.clone())))
            .exec(txn)
            .await?;
        held.extend(rows.into_iter().map(|row| (row.sha256.clone(), row)));
    }
    Ok(held)
}

/// Where new bytes are, by digest: the object, and start and size within it.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) object_id: Option<Uuid>,
    pub(super) ranges: BTreeMap<String, (u64, u64)>,
}

/// Holds the blobs of all `digests` until the transaction ends; those that the project does not have are taken from `stored`.
/// The answer is whether anything of it was needed.
pub(super) async fn hold(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    digests: Vec<String>,
    stored: &Stored,
    now: Timestamp,
) -> Result<bool> {
    let held = renew(txn, scope, digests.clone(), now).await?;
    let mut new: Vec<blob::Model> = Vec::new();
    for sha256 in digests {
        if held.contains_key(&sha256) {
            continue;
        }
        // Collected since it was found there: rare, as that takes longer than the time of grace.
        let (start, size) = stored.ranges.get(&sha256).ok_or_else(|| {
            Error::unavailable(
                "CONTENT_COLLECTED",
                "the content is gone by now; send it again",
            )
        })?;
        new.push(blob::Model {
            project_id: scope.project_id(),
            sha256,
            object_id: stored.object_id,
            start_byte: i64::try_from(*start).map_err(Error::internal)?,
            size_bytes: i64::try_from(*size).map_err(Error::internal)?,
            used_at: now.micros(),
        });
    }
    new.sort_unstable_by(|a, b| a.sha256.cmp(&b.sha256));
    new.dedup_by(|a, b| a.sha256 == b.sha256);
    for rows in new.chunks(ROWS) {
        // Stored by somebody else meanwhile: theirs stays.
        let theirs = OnConflict::columns([blob::Column::ProjectId, blob::Column::Sha256])
            .update_column(blob::Column::UsedAt)
            .to_owned();
        blob::Entity::insert_many(rows.iter().cloned().map(|row| row.into_active_model()))
            .on_conflict(theirs)
            .exec_without_returning(txn)
            .await?;
    }
    match stored.object_id {
        Some(object_id) => is_used(txn, scope, object_id).await,
        None => Ok(false),
    }
}

/// Whether some content lies in this object.
pub(super) async fn is_used(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    object_id: Uuid,
) -> Result<bool> {
    let used = blob::Entity::find()
        .filter(blob::Column::ObjectId.eq(object_id))
        .one(conn)
        .await?;
    Ok(used.is_some())
}

/// Whether other content lies in the object of this file.
pub(super) async fn is_shared(app: &App, scope: &Scope, file: &artifact::Model) -> Result<bool> {
    let conn = app.db.read();
    let found = find(conn, scope, vec![file.sha256.clone()]).await?;
    let Some(object_id) = found.get(&file.sha256).and_then(|blob| blob.object_id) else {
        return Ok(false);
    };
    let other = blob::Entity::find()
        .filter(blob::Column::ObjectId.eq(object_id))
        .filter(blob::Column::Sha256.ne(&file.sha256))
        .one(conn)
        .await?;
    Ok(other.is_some())
}

/// Whether the project has any content of this size.
pub(super) async fn any_of_size(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    size_bytes: i64,
) -> Result<bool> {
    let found = blob::Entity::find()
        .filter(blob::Column::ProjectId.eq(scope.project_id()))
        .filter(blob::Column::SizeBytes.eq(size_bytes))
        .one(conn)
        .await?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_and_short() {
        let key = object_key(Uuid::nil(), Uuid::from_u128(0xab));
        assert_eq!(
            key,
            format!("objects/{}/ab/{}", "0".repeat(32), "0".repeat(30))
        );
        assert_eq!(
            digest_key(Uuid::nil(), "abcd"),
            format!("blobs/{}/ab/cd", "0".repeat(32))
        );
    }
}
