//! SQL of artifacts: the records of files.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
    sea_query::{ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use super::{
    blobs::{self, ROWS, Stored},
    collect,
    convert::NewArtifact,
    path, uploads,
};
use crate::{
    app::App,
    auth::Scope,
    error::{Error, Result},
    page::Page,
    tracking::{entity::artifact, runs},
};

/// Records files of one run, in one transaction, after their bytes were stored; the upload that brought bytes ends with it.
/// The records come back by path.
pub(super) async fn record(
    app: &App,
    scope: &Scope,
    run_id: Uuid,
    files: Vec<NewArtifact>,
    stored: Stored,
) -> Result<Vec<artifact::Model>> {
    let now = app.now();
    let txn = app.db.begin().await?;
    runs::store::lock_run(&txn, scope, run_id).await?;
    let digests: BTreeSet<String> = files.iter().map(|file| file.sha256.clone()).collect();
    let needed = blobs::hold(&txn, scope, digests.into_iter().collect(), &stored, now).await?;
    let rows = files.into_iter().map(|file| {
        let row = artifact::Model {
            run_id,
            path: file.path,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
            media_type: file.media_type,
            created_at: now.micros(),
        };
        (row.path.clone(), row)
    });
    let recorded = record_artifacts(&txn, scope, run_id, rows.collect()).await?;
    let mut unneeded = None;
    if let Some(object_id) = stored.object_id {
        uploads::end(&txn, scope, object_id).await?;
        if !needed {
            let key = blobs::object_key(scope.project_id(), object_id);
            uploads::make_garbage(&txn, scope, (object_id, key, String::new()), now).await?;
            unneeded = Some(object_id);
        }
    }
    txn.commit().await?;
    if unneeded.is_some()
        && let Err(error) = collect::remove_garbage(app, scope, unneeded).await
    {
        tracing::debug!(%error, "an object that others stored as well is left to be collected");
    }
    Ok(recorded)
}

/// Records files, by path, of a run whose row is locked. The same content again leaves a record as it is.
async fn record_artifacts(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
    files: BTreeMap<String, artifact::Model>,
) -> Result<Vec<artifact::Model>> {
    let known = known_around(txn, scope, run_id, &files).await?;
    refuse_clashes(&files, &known)?;
    let (mut recorded, mut changed) = (Vec::with_capacity(files.len()), Vec::new());
    for (path, row) in files {
        match known.get(&path) {
            Some(found) if (&found.sha256, &found.media_type) == (&row.sha256, &row.media_type) => {
                recorded.push(found.clone());
            }
            _ => {
                changed.push(row.clone().into_active_model());
                recorded.push(row);
            }
        }
    }
    use artifact::Column as C;
    for rows in changed.chunks(ROWS) {
        let replace = OnConflict::columns([C::RunId, C::Path])
            .update_columns([C::SizeBytes, C::Sha256, C::MediaType, C::CreatedAt])
            .to_owned();
        artifact::Entity::insert_many(rows.iter().cloned())
            .on_conflict(replace)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(recorded)
}

/// The files of the run that these may clash with: at the same paths, below them, or where their directories are.
async fn known_around(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    files: &BTreeMap<String, artifact::Model>,
) -> Result<BTreeMap<String, artifact::Model>> {
    // What is uploaded together mostly lies in one directory, so this is not much more than what is needed.
    let end = files.keys().map(|path| path::below(path).1).max();
    let (Some((first, _)), Some(end)) = (files.first_key_value(), end) else {
        return Ok(BTreeMap::new());
    };
    let of_run = || artifact::Entity::find().filter(artifact::Column::RunId.eq(run_id));
    let mut rows = of_run()
        .filter(artifact::Column::Path.gte(first.as_str()))
        .filter(artifact::Column::Path.lt(end))
        .all(txn)
        .await?;
    let directories: BTreeSet<&str> = files
        .keys()
        .flat_map(|path| path::directories(path))
        .collect();
    let directories: Vec<&str> = directories.into_iter().collect();
    for directories in directories.chunks(ROWS) {
        let above = of_run().filter(artifact::Column::Path.is_in(directories.iter().copied()));
        rows.extend(above.all(txn).await?);
    }
    Ok(rows
        .into_iter()
        .map(|row| (row.path.clone(), row))
        .collect())
}

/// A file cannot be where a directory is, nor the reverse: such a run could not be downloaded.
fn refuse_clashes(
    files: &BTreeMap<String, artifact::Model>,
    known: &BTreeMap<String, artifact::Model>,
) -> Result<()> {
    for path in files.keys() {
        let file = path::directories(path)
            .find(|above| files.contains_key(*above) || known.contains_key(*above));
        if let Some(file) = file {
            let message = format!("{file:?} is a file of this run, so nothing can lie below it");
            return Err(Error::precondition("ARTIFACT_PATH_TAKEN", message));
        }
        let (from, to) = path::below(path);
        if let Some((below, _)) = known.range(from..to).next() {
            let message = format!("{path:?} is a directory of this run, which holds {below:?}");
            return Err(Error::precondition("ARTIFACT_PATH_TAKEN", message));
        }
    }
    Ok(())
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

/// The files of a run of the project at these paths, in their order; all must be there.
pub(super) async fn get_artifacts(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    paths: &[String],
) -> Result<Vec<artifact::Model>> {
    let rows = artifact::Entity::find()
        .filter(artifact::Column::RunId.eq(run_id))
        .filter(artifact::Column::Path.is_in(paths))
        .all(conn)
        .await?;
    let mut found: BTreeMap<String, artifact::Model> = rows
        .into_iter()
        .map(|row| (row.path.clone(), row))
        .collect();
    paths
        .iter()
        .map(|path| {
            found
                .remove(path)
                .ok_or_else(|| Error::not_found("artifact", path))
        })
        .collect()
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
