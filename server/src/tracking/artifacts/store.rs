//! SQL of artifacts, and where their bytes lie.

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
    sea_query::{ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use super::{convert::NewArtifact, path};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    page::Page,
    tracking::entity::artifact,
};

/// Key of the bytes with this digest, in the object store. Kept short: some S3 servers over a file system put the whole key
/// into the name of one file.
pub(crate) fn object_key(scope: &Scope, sha256: &str) -> String {
    let (start, rest) = sha256.split_at_checked(2).unwrap_or((sha256, ""));
    format!("blobs/{}/{start}/{rest}", scope.project_id().simple())
}

/// Records a file of a run whose row is locked. The same content again leaves the record as it is.
pub(super) async fn record_artifact(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    new: NewArtifact,
    now: Timestamp,
) -> Result<artifact::Model> {
    let found = artifact::Entity::find_by_id((new.run_id, new.path.clone()))
        .one(txn)
        .await?;
    if let Some(found) = found
        && (&found.sha256, &found.media_type) == (&new.sha256, &new.media_type)
    {
        return Ok(found);
    }
    refuse_clash(txn, &new).await?;
    let row = artifact::Model {
        run_id: new.run_id,
        path: new.path,
        size_bytes: new.size_bytes,
        sha256: new.sha256,
        media_type: new.media_type,
        created_at: now.micros(),
    };
    use artifact::Column as C;
    let replace = OnConflict::columns([C::RunId, C::Path])
        .update_columns([C::SizeBytes, C::Sha256, C::MediaType, C::CreatedAt])
        .to_owned();
    artifact::Entity::insert(row.clone().into_active_model())
        .on_conflict(replace)
        .exec_without_returning(txn)
        .await?;
    Ok(row)
}

/// A file cannot be where a directory is, nor the reverse: such a run could not be downloaded.
async fn refuse_clash(txn: &impl ConnectionTrait, new: &NewArtifact) -> Result<()> {
    let (from, to) = path::below(&new.path);
    let clash = Condition::any()
        .add(artifact::Column::Path.is_in(path::directories(&new.path)))
        .add(
            artifact::Column::Path
                .gte(from)
                .and(artifact::Column::Path.lt(to)),
        );
    let found = artifact::Entity::find()
        .filter(artifact::Column::RunId.eq(new.run_id))
        .filter(clash)
        .one(txn)
        .await?;
    let Some(found) = found else { return Ok(()) };
    let message = if found.path.len() < new.path.len() {
        format!(
            "{:?} is a file of this run, so nothing can lie below it",
            found.path
        )
    } else {
        format!(
            "{:?} is a directory of this run, which holds {:?}",
            new.path, found.path
        )
    };
    Err(Error::precondition("ARTIFACT_PATH_TAKEN", message))
}

/// One file of a run of the project.
pub(super) async fn get_artifact(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    path: &str,
) -> Result<artifact::Model> {
    artifact::Entity::find_by_id((run_id, path.to_owned()))
        .one(conn)
        .await?
        .ok_or_else(|| Error::not_found("artifact", path))
}

/// All files at a path of a run of the project (a file, or a directory with all below it; empty is everything), by path.
pub(crate) async fn artifacts_under(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    path: &str,
) -> Result<Vec<artifact::Model>> {
    Ok(under(run_id, path).all(conn).await?)
}

/// A page of the same; one more than fits, if there are more.
pub(super) async fn list_artifacts(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    path: &str,
    page: &Page,
) -> Result<Vec<artifact::Model>> {
    let mut query = under(run_id, path).limit(page.limit() + 1);
    if let Some([last]) = page.after() {
        query = query.filter(artifact::Column::Path.gt(last));
    }
    Ok(query.all(conn).await?)
}

fn under(run_id: Uuid, path: &str) -> Select<artifact::Entity> {
    let files = artifact::Entity::find()
        .filter(artifact::Column::RunId.eq(run_id))
        .order_by_asc(artifact::Column::Path);
    if path.is_empty() {
        return files;
    }
    let (from, to) = path::below(path);
    files.filter(
        Condition::any().add(artifact::Column::Path.eq(path)).add(
            artifact::Column::Path
                .gte(from)
                .and(artifact::Column::Path.lt(to)),
        ),
    )
}
