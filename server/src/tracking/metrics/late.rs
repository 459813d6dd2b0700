//! What arrives late: points of a process whose run another one has taken up again since from an earlier step.
//!
//! Invariant: they go to the end of the branch that the process logs to, and into the summary of the series as far as the current
//! branch shows them. A number of a chunk is used once, also where chunks were merged into one: that one has the first number and at
//! least one point of each, so the next number is its own and the number of its points.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    append::{Appender, Base},
    branch::{View, first_number},
    codec,
    pieces::{Piece, Steps},
    points::Points,
    store::{self, Locked},
    summary,
};
use crate::{
    auth::Scope,
    error::{Error, Result},
    tracking::{entity::metric_chunk, runs},
};

/// A series of an older branch.
#[derive(Debug)]
pub(super) struct LateSeries {
    /// Appends to the branch; it knows nothing of what the series has elsewhere.
    pub(super) appender: Appender,
    /// The greatest step that the current branch shows of this one.
    end_step: Option<i64>,
}

/// Keys of one branch that something arrives for; true where steps are to be counted on.
pub(super) type LateKeys<'a> = BTreeMap<&'a str, bool>;

/// Whether steps of some of the pieces are to be counted on from those of the series.
pub(super) fn counts_on(pieces: &[Piece]) -> bool {
    pieces.iter().any(|piece| match piece {
        Piece::Few(segment) => segment.steps.len() < segment.values.len(),
        Piece::Many(ready) => matches!(ready.steps, Steps::CountedOn),
    })
}

/// The series with these keys of an older branch of a locked run; `ids` are those of the series.
pub(super) async fn load<'a>(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    locked: &Locked,
    (run_id, branch): (Uuid, i32),
    keys: LateKeys<'a>,
    ids: &BTreeMap<&str, Uuid>,
) -> Result<Vec<(&'a str, LateSeries)>> {
    let branches = runs::store::load_branches(txn, scope, &[run_id]).await?;
    let current = locked.run(run_id).map_or(0, |run| run.branch);
    let end_step = View::new(current, &branches).end_step(first_number(branch));
    let own = View::new(branch, &branches);
    let all: Vec<Uuid> = ids.values().copied().collect();
    let last = store::load_last_chunks(txn, locked, &all, branch).await?;
    let mut loaded = Vec::with_capacity(keys.len());
    for (key, counts_on) in keys {
        let mut series = summary::empty_series(run_id, key);
        series.id = ids.get(key).copied().unwrap_or(series.id);
        if let Some(last) = last.get(&series.id) {
            series.tail_number = last.number + last.count - 1;
        }
        if counts_on && let Some(step) = last_step(txn, scope, &own, series.id).await? {
            (series.count, series.last_step) = (1, step);
        }
        let base = Base {
            series: Some(series),
            tail: None,
        };
        let appender = Appender::new(run_id, key, branch, base);
        loaded.push((key, LateSeries { appender, end_step }));
    }
    Ok(loaded)
}

/// The greatest step that a view shows of a series.
async fn last_step(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    view: &View,
    series_id: Uuid,
) -> Result<Option<i64>> {
    let (mut last, mut cut) = (None, Vec::new());
    for chunk in store::list_chunks(txn, scope, series_id).await? {
        match view.end_step(chunk.number) {
            Some(end) if chunk.max_step <= end => last = last.max(Some(chunk.max_step)),
            Some(end) if chunk.min_step <= end => cut.push((chunk.number, end)),
            _ => {}
        }
    }
    // Where a newer branch hides some points of a chunk, only these tell which ones are left.
    for (number, end) in cut {
        if last >= Some(end) {
            continue;
        }
        for data in store::load_chunks(txn, scope, series_id, &[number])
            .await?
            .values()
        {
            let steps = codec::Chunk::open(data).and_then(|chunk| chunk.steps());
            let steps = steps.map_err(Error::internal)?;
            last = last.max(steps.iter().copied().filter(|step| *step <= end).max());
        }
    }
    Ok(last)
}

impl LateSeries {
    /// The chunks to write; what the current branch shows of them enters `shown`.
    pub(super) fn finish(self, shown: &mut Appender) -> Result<Vec<metric_chunk::Model>> {
        let (_, chunks) = self.appender.finish();
        // Also of a chunk of which nothing is shown the series is known from now on.
        let end_step = self.end_step.unwrap_or(i64::MIN);
        for chunk in &chunks {
            let mut points = Points::default();
            if self.end_step.is_some() && chunk.min_step <= end_step {
                points = codec::decode(&chunk.data).map_err(Error::internal)?;
            }
            shown.note(points.iter().filter(|(step, ..)| *step <= end_step));
        }
        Ok(chunks)
    }
}
