//! Finding and fetching the points of one series.
//!
//! Invariant: an answer holds what was stored when the series was opened, though batches are appended and chunks are merged
//! meanwhile. Points are known by their place among all points of their branch as they were logged, which never changes; a chunk
//! that was merged into another is found there.

use std::{ops::RangeInclusive, sync::Arc};

use sea_orm::DatabaseConnection;
use uuid::Uuid;

use super::{
    branch::{View, first_number, of_chunk},
    codec::{self, Corrupt},
    points::Points,
    store::{self, ChunkInfo},
};
use crate::{
    auth::Scope,
    error::{Error, Result},
};

/// Chunks that are fetched together have about this many points, and are at most this many.
const FETCH_POINTS: i64 = 131_072;
const FETCH_CHUNKS: usize = 512;
/// How often chunks may go away between looking for them and fetching them.
const ATTEMPTS: usize = 5;

/// A chunk, and what is wanted of it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) chunk: ChunkInfo,
    /// Place of its first point: the number of the first chunk of the branch, and how many points of it are before.
    pub(super) place: i64,
    /// Steps that are wanted.
    pub(super) steps: RangeInclusive<i64>,
}

impl Wanted {
    /// Whether some of its points may not be wanted.
    pub(super) fn is_part(&self) -> bool {
        self.chunk.min_step < *self.steps.start() || self.chunk.max_step > *self.steps.end()
    }
}

/// A chunk as it is stored, and where in it the wanted points begin.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) wanted: Wanted,
    data: Arc<Vec<u8>>,
    skip: usize,
}

impl Fetched {
    fn count(&self) -> usize {
        usize::try_from(self.wanted.chunk.count).unwrap_or(usize::MAX)
    }

    /// The points of the chunk as it was found first.
    pub(super) fn points(&self) -> std::result::Result<Points, Corrupt> {
        let mut points = codec::decode(&self.data)?;
        if self.skip > 0 {
            let end = points.len().min(self.skip + self.count());
            points = points.slice(self.skip.min(end)..end);
        }
        points.truncate(self.count());
        Ok(points)
    }

    /// How many of its points are wanted.
    pub(super) fn count_wanted(&self) -> std::result::Result<usize, Corrupt> {
        let steps = codec::Chunk::open(&self.data)?.steps()?;
        let own = steps.iter().skip(self.skip).take(self.count());
        Ok(own.filter(|step| self.wanted.steps.contains(step)).count())
    }
}

/// Reads one series.
#[derive(Debug, Clone)]
pub(super) struct SeriesReader {
    pub(super) conn: DatabaseConnection,
    pub(super) scope: Scope,
    pub(super) series_id: Uuid,
}

impl SeriesReader {
    /// The chunks that may hold steps of the range, as they were logged.
    pub(super) async fn plan(
        &self,
        view: &View,
        steps: &RangeInclusive<i64>,
    ) -> Result<Vec<Wanted>> {
        let chunks = self.list().await?;
        let shown = chunks.into_iter().filter_map(|(place, chunk)| {
            let end_step = view.end_step(chunk.number)?.min(*steps.end());
            let steps = *steps.start()..=end_step;
            let overlap = chunk.min_step <= *steps.end() && chunk.max_step >= *steps.start();
            overlap.then_some(Wanted {
                chunk,
                place,
                steps,
            })
        });
        Ok(shown.collect())
    }

    /// All chunks, each with the place of its first point.
    async fn list(&self) -> Result<Vec<(i64, ChunkInfo)>> {
        let chunks = store::list_chunks(&self.conn, &self.scope, self.series_id).await?;
        let mut next = 0;
        let placed = chunks.into_iter().map(|chunk| {
            // A branch has fewer points than there are numbers for its chunks.
            let first = of_chunk(chunk.number).map_or(0, first_number);
            let place = first.max(next);
            next = place + chunk.count;
            (place, chunk)
        });
        Ok(placed.collect())
    }

    /// The bytes of some chunks, in their order.
    pub(super) async fn fetch(&self, wanted: Vec<Wanted>) -> Result<Vec<Fetched>> {
        // Where each of them is thought to be: number of the chunk, points before it there.
        let mut found: Vec<(i64, i64)> = wanted
            .iter()
            .map(|wanted| (wanted.chunk.number, 0))
            .collect();
        for _ in 0..ATTEMPTS {
            let mut numbers: Vec<i64> = found.iter().map(|(number, _)| *number).collect();
            numbers.dedup();
            let data = store::load_chunks(&self.conn, &self.scope, self.series_id, &numbers);
            let data = data.await?;
            if numbers.iter().all(|number| data.contains_key(number)) {
                let fetched = wanted
                    .into_iter()
                    .zip(found)
                    .filter_map(|(wanted, (n, skip))| {
                        Some(Fetched {
                            wanted,
                            data: Arc::clone(data.get(&n)?),
                            skip: usize::try_from(skip).unwrap_or(usize::MAX),
                        })
                    });
                return Ok(fetched.collect());
            }
            let now = self.list().await?;
            for (wanted, found) in wanted.iter().zip(&mut found) {
                let at = now.partition_point(|(place, _)| *place <= wanted.place);
                if let Some((place, chunk)) = at.checked_sub(1).and_then(|at| now.get(at)) {
                    *found = (chunk.number, wanted.place - place);
                }
            }
        }
        Err(Error::Aborted {
            reason: "CONFLICT",
            message: "the history went away while it was read; try again".to_owned(),
        })
    }
}

/// Cuts a list of chunks into those that are fetched together.
pub(super) fn fetch_units(wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut units: Vec<Vec<Wanted>> = Vec::new();
    let mut points = i64::MAX;
    for next in wanted {
        let count = next.chunk.count;
        match units.last_mut() {
            Some(unit) if points + count <= FETCH_POINTS && unit.len() < FETCH_CHUNKS => {
                points += count;
                unit.push(next);
            }
            _ => {
                points = count;
                units.push(vec![next]);
            }
        }
    }
    units
}
