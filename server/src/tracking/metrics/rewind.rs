//! What a resumption from an earlier step does to the summaries of a run: they say what the points below that step say.
//!
//! Invariant: points are read chunk by chunk, before the transaction where possible; inside of it, under the lock of the run,
//! only series that have changed since are read again. No point is touched.

use std::collections::HashMap;

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{branch::View, codec, store, summary};
use crate::{
    auth::Scope,
    error::{Error, Result},
    tracking::{
        entity::{metric_series, run},
        runs,
    },
};

/// A series, and what it becomes.
#[derive(Debug)]
pub(crate) struct Rewound {
    before: metric_series::Model,
    after: metric_series::Model,
}

/// Computes what becomes of the series of a run that is not locked.
pub(crate) async fn prepare(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
    from_step: i64,
) -> Result<Vec<Rewound>> {
    let view = view_below(conn, scope, run, from_step).await?;
    let mut prepared = Vec::new();
    for before in store::load_series_from(conn, scope, run.id, from_step).await? {
        // Chunks may be merged meanwhile; then it is done under the lock.
        if let Some(after) = shortened(conn, scope, &view, &before).await? {
            prepared.push(Rewound { before, after });
        }
    }
    Ok(prepared)
}

/// Sets the summaries of a locked run; `prepared` saves work where it still fits.
pub(crate) async fn apply(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
    from_step: i64,
    prepared: Vec<Rewound>,
) -> Result<()> {
    let view = view_below(txn, scope, run, from_step).await?;
    let prepared: HashMap<Uuid, Rewound> = prepared
        .into_iter()
        .map(|rewound| (rewound.before.id, rewound))
        .collect();
    let mut changed = Vec::new();
    for series in store::load_series_from(txn, scope, run.id, from_step).await? {
        let known = prepared
            .get(&series.id)
            .filter(|rewound| rewound.before == series);
        changed.push(match known {
            Some(rewound) => rewound.after.clone(),
            None => shortened(txn, scope, &view, &series)
                .await?
                .ok_or_else(|| {
                    Error::internal(anyhow::anyhow!(
                        "chunks of metric series {} are missing",
                        series.id
                    ))
                })?,
        });
    }
    store::save_rewound(txn, scope, changed).await
}

async fn view_below(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run: &run::Model,
    from_step: i64,
) -> Result<View> {
    let branches = runs::store::load_branches(conn, scope, &[run.id]).await?;
    Ok(View::new(run.branch, &branches).below(from_step))
}

/// The series as the points of the view say; `None` when a chunk went away meanwhile.
async fn shortened(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    view: &View,
    series: &metric_series::Model,
) -> Result<Option<metric_series::Model>> {
    let mut after = summary::without_points(series);
    for chunk in store::list_chunks(conn, scope, series.id).await? {
        let Some(end_step) = view
            .end_step(chunk.number)
            .filter(|end_step| chunk.min_step <= *end_step)
        else {
            continue;
        };
        let mut found = store::load_chunks(conn, scope, series.id, &[chunk.number]).await?;
        let Some(data) = found.remove(&chunk.number) else {
            return Ok(None);
        };
        let mut points = codec::decode(&data).map_err(Error::internal)?;
        // What was logged since the list was made is not part of it.
        points.truncate(usize::try_from(chunk.count).unwrap_or(usize::MAX));
        let shown = points.iter().filter(|(step, ..)| *step <= end_step);
        summary::add(&mut after, shown);
    }
    Ok(Some(after))
}
