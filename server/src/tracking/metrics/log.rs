//! LogBatch: points, params and tags of one run in one transaction.
//!
//! Compression is done before the transaction, on the series as they were then. Inside, under the lock of the run, only
//! series that another batch has changed in between are read and encoded again.

use std::{collections::HashMap, sync::Arc};

use mlplat_proto::tracking::v1 as pb;
use sea_orm::ConnectionTrait;
use tonic::Request;

use super::{
    append::{self, Appended, Base, End, Refused},
    convert::Batch,
    store::{self, Advance},
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    clock::Timestamp,
    error::{Error, Result},
    request,
    tracking::runs,
};

/// Up to this many points are encoded at once; more go to a thread of their own, for that takes milliseconds.
const POINTS_IN_PLACE: usize = 4096;

/// Stores a batch.
pub(crate) async fn log_batch(
    app: &App,
    request: Request<pb::LogBatchRequest>,
) -> Result<pb::LogBatchResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let project = request::project_name(&message.project);
    let batch = Arc::new(Batch::parse(message, app.now())?);
    let scope = caller.authorize(app, Action::WriteRuns, &project).await?;

    let found = runs::store::load_run(app.db.read(), &scope, batch.run_id).await?;
    let keys: Vec<&str> = batch.series.keys().map(String::as_str).collect();
    let mut appended = encode(app.db.read(), &scope, &batch, found.branch, &keys).await?;

    let now = app.now();
    let txn = app.db.begin().await?;
    let run = runs::store::lock_run(&txn, &scope, batch.run_id).await?;
    if let Some(writer) = batch.writer
        && let Advance::Stored(stored) =
            store::advance_writer(&txn, &scope, batch.run_id, writer).await?
    {
        return Ok(pb::LogBatchResponse {
            replayed: true,
            stored_sequence: stored.try_into().unwrap_or_default(),
        });
    }
    if run.branch != found.branch {
        appended.clear();
    }
    let changed = changed_since(&txn, &scope, &batch, &keys, &appended).await?;
    let again: Vec<&str> = changed.iter().map(String::as_str).collect();
    appended.retain(|change| !changed.contains(&change.series.key));
    appended.extend(encode(&txn, &scope, &batch, run.branch, &again).await?);
    store::save(&txn, &scope, appended).await?;
    runs::store::set_params(&txn, &scope, batch.run_id, &batch.params).await?;
    runs::store::set_tags(&txn, &scope, batch.run_id, &batch.tags).await?;
    runs::store::touch(&txn, &scope, batch.run_id, now).await?;
    if is_live(app, &batch, now) {
        runs::heard_of(app, &txn, &scope, run, now).await?;
    }
    txn.commit().await?;
    Ok(pb::LogBatchResponse {
        replayed: false,
        stored_sequence: batch
            .writer
            .and_then(|writer| writer.sequence.try_into().ok())
            .unwrap_or_default(),
    })
}

/// Whether the batch tells of what happened just now. What a journal delivers late is no sign of life.
fn is_live(app: &App, batch: &Batch, now: Timestamp) -> bool {
    let timeout = i64::from(app.config.tracking.heartbeat_timeout_s) * 1_000_000;
    batch
        .newest
        .is_some_and(|newest| newest.micros() >= now.micros() - timeout)
}

/// What the batch does to the series with these keys, as they are now.
async fn encode(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    batch: &Arc<Batch>,
    branch: i32,
    keys: &[&str],
) -> Result<Vec<Appended>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let bases = store::load_bases(conn, scope, batch.run_id, branch, keys).await?;
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    if batch.points() <= POINTS_IN_PLACE {
        return append_all(batch, branch, &keys, &bases);
    }
    let batch = Arc::clone(batch);
    tokio::task::spawn_blocking(move || append_all(&batch, branch, &keys, &bases))
        .await
        .map_err(Error::internal)?
}

fn append_all(
    batch: &Batch,
    branch: i32,
    keys: &[String],
    bases: &HashMap<String, Base>,
) -> Result<Vec<Appended>> {
    let fresh = Base::default();
    keys.iter()
        .map(|key| {
            let segments = batch.series.get(key).map(Vec::as_slice).unwrap_or_default();
            append::append(
                batch.run_id,
                key,
                branch,
                bases.get(key).unwrap_or(&fresh),
                segments,
            )
            .map_err(|refused| match refused {
                Refused::StepsUsedUp => {
                    Error::invalid(format!("metrics[{key}].steps"), refused.to_string())
                }
                Refused::Corrupt(_) => Error::internal(refused),
            })
        })
        .collect()
}

/// The keys whose series are not as they were when they were encoded.
async fn changed_since(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    batch: &Batch,
    keys: &[&str],
    appended: &[Appended],
) -> Result<Vec<String>> {
    let series = store::load_series(txn, scope, batch.run_id, keys).await?;
    let ends: HashMap<&str, End> = series
        .iter()
        .map(|series| (series.key.as_str(), End::of(Some(series))))
        .collect();
    let fits = |key: &str| {
        let end = ends.get(key).copied().unwrap_or(End::of(None));
        let found = appended.iter().find(|change| change.series.key == key);
        found.is_some_and(|change| change.base == end)
    };
    Ok(keys
        .iter()
        .filter(|key| !fits(key))
        .map(|key| (*key).to_owned())
        .collect())
}
