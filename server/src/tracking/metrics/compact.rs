//! Background compaction: merges small chunks that follow each other, so that a series takes little room and is read fast.
//!
//! Invariant: points and their order stay what they were; numbers of chunks only rise and are never used twice, so that who
//! reads meanwhile notices. Reading and compressing is done outside of the transaction; inside, the chunks are compared with
//! what was read. Nothing here must be done for data to be right, so work that is lost with the process is done later.

use std::{collections::HashMap, ops::Range, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    append::{self, OPEN_TAIL},
    branch::of_chunk,
    codec::{self, Corrupt, Effort, MAX_POINTS},
    points::Points,
    store::{self, ChunkInfo},
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    tracking::{entity::metric_chunk, runs},
};

/// A chunk of so many points is left as it is.
const FULL: i64 = 32_768;
/// Below this many points chunks are merged first, so that no point is written more than three times.
const SMALL: i64 = 4096;
/// So many chunks that follow each other are worth merging while their series still grows.
pub(super) const WORTH: usize = 16;
/// Most chunks that are merged at once.
const AT_ONCE: usize = 1024;
/// Most pieces of work that wait; what comes then is due again later.
const WAITING: usize = 65_536;

/// What may be merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Due {
    /// One series, which may still grow.
    Series(Uuid),
    /// All series of a run that has ended.
    Run,
}

/// Where work is handed in.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompactorHandle {
    due: Arc<Mutex<HashMap<(Uuid, Due), String>>>,
    wake: Arc<Notify>,
}

impl CompactorHandle {
    /// A series of this run of this project has come to have many chunks.
    pub(super) fn grown(&self, project: &str, run_id: Uuid, series_id: Uuid) {
        self.add(project, run_id, Due::Series(series_id));
    }

    /// A run has ended.
    pub(crate) fn ended(&self, project: &str, run_id: Uuid) {
        self.add(project, run_id, Due::Run);
    }

    fn add(&self, project: &str, run_id: Uuid, due: Due) {
        let mut waiting = self.due.lock();
        if waiting.len() < WAITING {
            waiting.insert((run_id, due), project.to_owned());
            self.wake.notify_one();
        }
    }

    async fn next(&self) -> (String, Uuid, Due) {
        loop {
            let woken = self.wake.notified();
            if let Some(next) = self.take() {
                return next;
            }
            woken.await;
        }
    }

    fn take(&self) -> Option<(String, Uuid, Due)> {
        let mut waiting = self.due.lock();
        let key = waiting.keys().next().cloned()?;
        let project = waiting.remove(&key)?;
        Some((project, key.0, key.1))
    }

    /// Does the work, one piece after the other; ends never.
    pub(crate) async fn run(self, app: Arc<App>) {
        loop {
            let (project, run_id, due) = self.next().await;
            if let Err(error) = compact(&app, &project, run_id, &due).await {
                tracing::warn!(%error, %run_id, "metric chunks could not be merged");
            }
        }
    }
}

async fn compact(app: &App, project: &str, run_id: Uuid, due: &Due) -> Result<()> {
    let scope = Caller::server()
        .authorize(app, Action::WriteRuns, project)
        .await?;
    match due {
        Due::Series(series_id) => compact_series(app, &scope, run_id, *series_id, false).await,
        Due::Run => {
            for series_id in store::scattered_series(app.db.read(), &scope, run_id).await? {
                compact_series(app, &scope, run_id, series_id, true).await?;
            }
            Ok(())
        }
    }
}

/// Merges what is worth merging in a series; all that can be when it has come to its end.
async fn compact_series(
    app: &App,
    scope: &Scope,
    run_id: Uuid,
    series_id: Uuid,
    ended: bool,
) -> Result<()> {
    let mut chunks = store::list_chunks(app.db.read(), scope, series_id).await?;
    if !ended {
        // The last one may grow at any moment.
        chunks.pop();
    }
    let mut from = 0;
    while let Some(range) = plan(&chunks, from, ended) {
        let sources = chunks[range.clone()].to_vec();
        let Some(merged) = merge(app, scope, series_id, &sources, ended).await? else {
            return Ok(());
        };
        let info = ChunkInfo::of(&merged);
        if !replace(app, scope, run_id, &sources, merged).await? {
            // Somebody else was here; that means that the series is being looked after.
            return Ok(());
        }
        from = range.start;
        chunks.splice(range, [info]);
    }
    Ok(())
}

/// The next chunks from `from` on that are to become one.
fn plan(chunks: &[ChunkInfo], from: usize, ended: bool) -> Option<Range<usize>> {
    if ended {
        return find(chunks, from, FULL, |range, _| range.len() > 1);
    }
    // Small ones first, many at a time; what comes of them waits until it fills a chunk.
    find(chunks, 0, SMALL, |range, _| range.len() >= WORTH)
        .or_else(|| find(chunks, 0, FULL, |range, full| full && range.len() > 1))
}

/// The first chunks from `start` on, all of less than `limit` points, that are worth it. That is asked with whether the next one
/// does not fit any more.
fn find(
    chunks: &[ChunkInfo],
    mut start: usize,
    limit: i64,
    worth: impl Fn(&Range<usize>, bool) -> bool,
) -> Option<Range<usize>> {
    let most = i64::try_from(MAX_POINTS).unwrap_or(i64::MAX);
    while start < chunks.len() {
        let branch = of_chunk(chunks[start].number);
        let (mut total, mut end, mut full) = (0, start, false);
        while let Some(chunk) = chunks.get(end)
            && chunk.count < limit
            && of_chunk(chunk.number) == branch
        {
            full = total + chunk.count > most || end - start == AT_ONCE;
            if full {
                break;
            }
            total += chunk.count;
            end += 1;
        }
        if worth(&(start..end), full) {
            return Some(start..end);
        }
        // Where one begins later, it is a part of this one, unless this one was cut off.
        start = if full { start + 1 } else { end.max(start + 1) };
    }
    None
}

fn points(chunks: &[ChunkInfo]) -> i64 {
    chunks.iter().map(|chunk| chunk.count).sum()
}

/// The chunks as one, under the number of the first; `None` when they are not there any more.
async fn merge(
    app: &App,
    scope: &Scope,
    series_id: Uuid,
    sources: &[ChunkInfo],
    ended: bool,
) -> Result<Option<metric_chunk::Model>> {
    let numbers: Vec<i64> = sources.iter().map(|chunk| chunk.number).collect();
    let mut data = store::load_chunks(app.db.read(), scope, series_id, &numbers).await?;
    let parts: Option<Vec<(Arc<Vec<u8>>, i64)>> = sources
        .iter()
        .map(|chunk| Some((data.remove(&chunk.number)?, chunk.count)))
        .collect();
    let Some((parts, number)) = parts.zip(numbers.first().copied()) else {
        return Ok(None);
    };
    // What will be merged once more need not be small yet.
    let effort = if ended || points(sources) >= FULL {
        Effort::Small
    } else {
        Effort::Fast
    };
    let merged = tokio::task::spawn_blocking(move || {
        let points = concatenate(&parts)?;
        Ok(append::chunk(series_id, number, &points, effort))
    })
    .await
    .map_err(Error::internal)?;
    merged
        .map(Some)
        .map_err(|corrupt: Corrupt| Error::internal(corrupt))
}

fn concatenate(parts: &[(Arc<Vec<u8>>, i64)]) -> std::result::Result<Points, Corrupt> {
    let mut all = Points::default();
    for (data, count) in parts {
        let mut points = codec::decode(data)?;
        points.truncate(usize::try_from(*count).unwrap_or(usize::MAX));
        all.append(&mut points);
    }
    Ok(all)
}

/// Puts the merged chunk in the place of its sources; false when these have changed.
async fn replace(
    app: &App,
    scope: &Scope,
    run_id: Uuid,
    sources: &[ChunkInfo],
    merged: metric_chunk::Model,
) -> Result<bool> {
    let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
        return Ok(false);
    };
    let series_id = merged.series_id;
    let numbers = first.number..=last.number;
    let txn = app.db.begin().await?;
    match runs::store::lock_run(&txn, scope, run_id).await {
        // Deleted meanwhile.
        Err(Error::NotFound { .. }) => return Ok(false),
        locked => locked?,
    };
    if store::list_chunks_between(&txn, scope, series_id, &numbers).await? != sources {
        return Ok(false);
    }
    store::replace_chunks(&txn, scope, &numbers, merged).await?;
    // The number of the last chunk stays taken, though there may be none of it any more.
    store::close_tail(&txn, scope, series_id, last.number, OPEN_TAIL + 1).await?;
    txn.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tracking::metrics::branch::first_number;

    fn infos(counts: &[i64]) -> Vec<ChunkInfo> {
        (0..)
            .zip(counts)
            .map(|(number, count)| ChunkInfo {
                number,
                min_step: 0,
                max_step: 0,
                count: *count,
            })
            .collect()
    }

    /// Merges on paper until nothing is left to do.
    fn compacted(mut chunks: Vec<ChunkInfo>, ended: bool) -> Vec<i64> {
        let mut from = 0;
        while let Some(range) = plan(&chunks, from, ended) {
            assert!(range.len() > 1);
            let count = points(&chunks[range.clone()]);
            let first = chunks[range.start].clone();
            from = range.start;
            chunks.splice(range, [ChunkInfo { count, ..first }]);
        }
        chunks.iter().map(|chunk| chunk.count).collect()
    }

    #[test]
    fn a_series_that_grows_is_left_alone_until_it_is_worth_it() {
        assert_eq!(compacted(infos(&[300; 15]), false), [300; 15]);
        assert_eq!(compacted(infos(&[300; 16]), false), [4800]);
        assert_eq!(compacted(infos(&[300; 15]), true), [4500]);
    }

    #[test]
    fn branches_are_not_mixed() {
        let mut chunks = infos(&[300; 4]);
        for (index, chunk) in (0..).zip(&mut chunks[2..]) {
            chunk.number = first_number(1) + index;
        }
        assert_eq!(compacted(chunks, true), [600, 600]);
    }

    proptest! {
        #[test]
        fn all_points_stay_and_chunks_become_few(
            counts in prop::collection::vec(1i64..65_537, 0..300),
            ended in any::<bool>(),
        ) {
            let done = compacted(infos(&counts), ended);
            prop_assert_eq!(done.iter().sum::<i64>(), counts.iter().sum::<i64>());
            prop_assert!(done.iter().all(|count| *count <= 65_536));
            if ended {
                let pair = done.windows(2).find(|pair| pair[0] < FULL && pair[1] < FULL);
                prop_assert!(pair.is_none(), "{:?} could be one", pair);
            }
        }

        /// A series that grows by equal batches has few chunks at all times, and no point is written often.
        #[test]
        fn growing_costs_little(batch in 257i64..5000) {
            let mut chunks: Vec<ChunkInfo> = Vec::new();
            let (mut written, mut total) = (0, 0);
            for number in 0..2000 {
                chunks.push(ChunkInfo { number, min_step: 0, max_step: 0, count: batch });
                total += batch;
                while let Some(range) = plan(&chunks, 0, false) {
                    let count = points(&chunks[range.clone()]);
                    written += count;
                    let first = chunks[range.start].clone();
                    chunks.splice(range, [ChunkInfo { count, ..first }]);
                }
            }
            prop_assert!(written <= 2 * total, "{} of {}", written, total);
            let most = total / FULL + 2 * WORTH as i64 + 2;
            prop_assert!((chunks.len() as i64) <= most, "{} chunks", chunks.len());
        }
    }
}
