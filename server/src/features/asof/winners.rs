//! Which feature row is ahead in each slot, and the values of those rows.
//!
//! Rows are ranked by event timestamp, created timestamp (null lowest), part, and arrival. Invariant: a slot's winner
//! refers to a stored row that names the slot as its owner; a stored row whose owner has another winner is garbage.
//! Garbage and fragments are cleared away as they build up, so that memory follows the number of winners. This file
//! must not know what a slot means.

use std::mem::size_of;

use arrow::array::{Array, ArrayRef, UInt32Array};

use super::{Result, storage};

/// Rows of garbage that are put up with before anything is copied.
const GARBAGE_ROWS: usize = 4096;

/// Chunks that are put up with before small ones are merged.
const MAX_CHUNKS: usize = 16;

/// Chunks are not merged beyond this size: kernels with 32-bit offsets end at 2 GiB.
const MAX_CHUNK_BYTES: usize = 1 << 30;

/// The order of feature rows; the greatest wins. Among equal ranks it is the row that arrived last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Event timestamp, [`super::time::ALWAYS`] in a static view.
    pub(super) event: i128,
    /// Created timestamp, [`super::time::ABSENT`] if there is none.
    pub(super) created: i128,
    /// The ordered part of the source that the row belongs to.
    pub(super) part: u32,
}

/// A stored row: (chunk, row).
pub(super) type RowRef = (u32, u32);

/// The chunk of a winner that is not there.
const NO_CHUNK: u32 = u32::MAX;

/// The winner of a slot: its rank, spelled out to save padding, and where its values are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Winner {
    event: i128,
    created: i128,
    part: u32,
    at: RowRef,
}

impl Winner {
    const NONE: Self = Self {
        event: 0,
        created: 0,
        part: 0,
        at: (NO_CHUNK, 0),
    };

    fn new(rank: Rank, at: RowRef) -> Self {
        Self {
            event: rank.event,
            created: rank.created,
            part: rank.part,
            at,
        }
    }

    fn exists(&self) -> bool {
        self.at.0 != NO_CHUNK
    }

    pub(super) fn rank(&self) -> Rank {
        Rank {
            event: self.event,
            created: self.created,
            part: self.part,
        }
    }

    pub(super) fn at(&self) -> RowRef {
        self.at
    }
}

/// Values of rows that won when they were stored.
#[derive(Debug)]
struct Chunk {
    columns: Vec<ArrayRef>,
    /// The slot that each row was stored for.
    owners: Vec<u32>,
    bytes: usize,
}

/// The winners of all slots so far.
#[derive(Debug, Default)]
pub(super) struct Winners {
    slots: Vec<Winner>,
    chunks: Vec<Chunk>,
    /// Slots that have a winner.
    live: usize,
    /// Slots won by the batch at hand; its rows become the next chunk.
    touched: Vec<u32>,
}

impl Winners {
    pub(super) fn with_slots(slots: usize) -> Self {
        Self {
            slots: vec![Winner::NONE; slots],
            ..Self::default()
        }
    }

    /// Adds a slot without a winner.
    pub(super) fn add_slot(&mut self) {
        self.slots.push(Winner::NONE);
    }

    /// Lets row `row` of the batch at hand compete for a slot. [`Winners::commit`] must follow before the next batch.
    pub(super) fn offer(&mut self, slot: u32, rank: Rank, row: u32) {
        let pending = self.chunks.len() as u32;
        let holder = &mut self.slots[slot as usize];
        if holder.exists() && rank < holder.rank() {
            return;
        }
        if !holder.exists() {
            self.live += 1;
        }
        if holder.at.0 != pending {
            self.touched.push(slot);
        }
        *holder = Winner::new(rank, (pending, row));
    }

    /// Stores the rows of the batch at hand that are ahead. `columns` are the batch's feature columns.
    pub(super) fn commit(&mut self, columns: &[ArrayRef]) -> Result<()> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let slots = &self.slots;
        let mut won: Vec<(u32, u32)> = self
            .touched
            .drain(..)
            .map(|slot| (slots[slot as usize].at.1, slot))
            .collect();
        won.sort_unstable();
        let rows = UInt32Array::from_iter_values(won.iter().map(|&(row, _)| row));
        let columns = columns
            .iter()
            .map(|column| storage::pick(column, &rows))
            .collect::<Result<Vec<_>>>()?;
        let owners: Vec<u32> = won.into_iter().map(|(_, slot)| slot).collect();
        self.place(self.chunks.len(), &owners);
        self.chunks.push(Chunk::new(columns, owners));
        if self.stored_rows() > 2 * self.live + GARBAGE_ROWS {
            self.sweep(|garbage, rows| garbage * 4 > rows)?;
        }
        if self.chunks.len() > MAX_CHUNKS {
            self.merge_tail()?;
        }
        Ok(())
    }

    /// Frees all garbage now, whatever it costs, and merges all chunks unless they are too large for that.
    pub(super) fn compact(&mut self) -> Result<()> {
        self.sweep(|garbage, _| garbage > 0)?;
        let bytes: usize = self.chunks.iter().map(|chunk| chunk.bytes).sum();
        if self.chunks.len() > 1 && bytes <= MAX_CHUNK_BYTES {
            self.rewrite(0, self.chunks.len())
        } else {
            Ok(())
        }
    }

    /// The winner of a slot.
    pub(super) fn winner(&self, slot: usize) -> Option<Winner> {
        Some(self.slots[slot]).filter(Winner::exists)
    }

    /// The stored columns of each chunk, and its number of rows.
    pub(super) fn into_chunks(self) -> Vec<(Vec<ArrayRef>, usize)> {
        self.chunks
            .into_iter()
            .map(|chunk| (chunk.columns, chunk.owners.len()))
            .collect()
    }

    /// Slots that have a winner.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Rows whose values are held, garbage included.
    pub(super) fn stored_rows(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.owners.len()).sum()
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Winner>()
            + self.touched.capacity() * size_of::<u32>()
            + self.chunks.iter().map(|chunk| chunk.bytes).sum::<usize>()
    }

    /// Rewrites every chunk for whose rows of garbage, out of all its rows, that is `worthwhile`.
    fn sweep(&mut self, worthwhile: impl Fn(usize, usize) -> bool) -> Result<()> {
        for index in 0..self.chunks.len() {
            let rows = self.chunks[index].owners.len();
            if worthwhile(rows - self.live_rows(index).count(), rows) {
                self.rewrite(index, index + 1)?;
            }
        }
        Ok(())
    }

    /// Merges the last chunks, as many as keeps the copying of a row logarithmic: an older chunk is taken along only
    /// while it is at most twice as large as all that follow it.
    fn merge_tail(&mut self) -> Result<()> {
        let mut start = self.chunks.len() - 1;
        let (mut rows, mut bytes) = (self.chunks[start].owners.len(), self.chunks[start].bytes);
        while start > 0 {
            let older = &self.chunks[start - 1];
            let is_small = older.owners.len() <= 2 * rows || start == self.chunks.len() - 1;
            if !is_small || bytes + older.bytes > MAX_CHUNK_BYTES {
                break;
            }
            start -= 1;
            rows += older.owners.len();
            bytes += older.bytes;
        }
        if start + 1 < self.chunks.len() {
            self.rewrite(start, self.chunks.len())
        } else {
            Ok(())
        }
    }

    /// Replaces chunks `start..end` by one with their live rows. References to later chunks must stay right, so that
    /// either one chunk is rewritten or all the last ones are.
    fn rewrite(&mut self, start: usize, end: usize) -> Result<()> {
        debug_assert!(end == start + 1 || end == self.chunks.len());
        let mut rows = Vec::new();
        let mut owners = Vec::new();
        for index in start..end {
            for (row, owner) in self.live_rows(index) {
                rows.push((index - start, row));
                owners.push(owner);
            }
        }
        let width = self.chunks[start].columns.len();
        let merged = (0..width).map(|column| {
            let arrays: Vec<&dyn Array> = self.chunks[start..end]
                .iter()
                .map(|chunk| chunk.columns[column].as_ref())
                .collect();
            storage::gather(&arrays, &rows)
        });
        let merged = merged.collect::<Result<Vec<_>>>()?;
        self.place(start, &owners);
        self.chunks[start] = Chunk::new(merged, owners);
        self.chunks.drain(start + 1..end);
        Ok(())
    }

    /// The rows of a chunk that are winners, with their slots.
    fn live_rows(&self, index: usize) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.chunks[index]
            .owners
            .iter()
            .enumerate()
            .filter_map(move |(row, &owner)| {
                let at = self.slots[owner as usize].at;
                (at == (index as u32, row as u32)).then_some((row, owner))
            })
    }

    /// Points each owner's winner at its row of chunk `index`.
    fn place(&mut self, index: usize, owners: &[u32]) {
        for (row, &owner) in owners.iter().enumerate() {
            self.slots[owner as usize].at = (index as u32, row as u32);
        }
    }
}

impl Chunk {
    fn new(columns: Vec<ArrayRef>, owners: Vec<u32>) -> Self {
        let values: usize = columns
            .iter()
            .map(|column| column.get_array_memory_size())
            .sum();
        let bytes = values + owners.capacity() * size_of::<u32>() + size_of::<Self>();
        Self {
            columns,
            owners,
            bytes,
        }
    }
}
