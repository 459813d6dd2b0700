//! The end of a journal that is written, record by record, with the definitions that records need.
//!
//! Invariant: the bytes of the current segment are those in its file followed by `pending`, so whatever the disk does (it is
//! full, it takes half of a write), frames stay whole and in order, and numbers have no gaps. Nothing here waits for the
//! network, and no trouble with the disk is an error for the caller: what cannot be kept is counted and told. How segments
//! follow each other, and what is done while the disk takes nothing, is the business of `disk.rs`.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use foldhash::fast::RandomState;
use mlplat_proto::rules;

use super::{
    copied::{Copied, Definition},
    folder::{Folder, Meta},
    limits::Limits,
    notice,
    record::{self, Column, Id, RunDefinition},
    segment::Segment,
    shared::Shared,
};

mod disk;

#[derive(Debug)]
struct Key {
    id: Id,
    epoch: u64,
}

#[derive(Debug)]
struct Run {
    definition: RunDefinition,
    epoch: u64,
}

/// What is written to.
#[derive(Debug)]
pub(super) struct Writer {
    meta: Meta,
    /// None where there is no place for journals: then all is in memory.
    folder: Option<Folder>,
    limits: Limits,
    shared: Arc<Shared>,
    /// Number of the current segment, and its file.
    segment: u64,
    file: Option<Segment>,
    /// What follows in the segment, and is not in the file (yet).
    pending: Vec<u8>,
    /// Number of the last record that was in the file when nothing else waited.
    kept: u64,
    /// The current segment is to be followed by a new one before the next record.
    finished: bool,
    retry_at: Instant,
    /// Number of the last record.
    number: u64,
    /// Definitions of other epochs are not in the current segment.
    epoch: u64,
    keys: HashMap<Box<str>, Key, RandomState>,
    runs: Vec<Run>,
    copied: Copied,
    ids: Vec<Id>,
    buffer: Vec<u8>,
    /// Files that are being put into the folder.
    held: usize,
}

impl Writer {
    pub(super) fn new(
        meta: Meta,
        folder: Option<Folder>,
        limits: Limits,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            meta,
            folder,
            limits,
            shared,
            segment: 0,
            file: None,
            pending: Vec::new(),
            kept: 0,
            finished: true,
            retry_at: Instant::now(),
            number: 0,
            epoch: 0,
            keys: HashMap::default(),
            runs: Vec::new(),
            copied: Copied::default(),
            ids: Vec::new(),
            buffer: Vec::new(),
            held: 0,
        }
    }

    /// The small number of a run.
    pub(super) fn run(&mut self, definition: RunDefinition) -> Id {
        let mut runs = self.runs.iter();
        let known = runs.position(|known| known.definition.run == definition.run);
        let at = known.unwrap_or_else(|| {
            self.runs.push(Run {
                definition,
                epoch: 0,
            });
            self.runs.len() - 1
        });
        let known = &mut self.runs[at];
        let both = RunDefinition {
            own: known.definition.own || definition.own,
            origin: known.definition.origin.or(definition.origin),
            ..known.definition
        };
        if both != known.definition {
            known.definition = both;
            known.epoch = 0;
        }
        at as Id
    }

    /// Values of some metrics at one moment. A key that cannot be one is the error, and then nothing is written.
    pub(super) fn metrics<'k>(
        &mut self,
        run: Id,
        step: Option<i64>,
        timestamp_us: i64,
        pairs: impl Iterator<Item = (&'k str, f64)> + Clone,
    ) -> Result<(), (usize, String)> {
        self.begin(run);
        self.ids.clear();
        for (key, _) in pairs.clone() {
            match self.keys.get(key) {
                Some(found) if found.epoch == self.epoch => self.ids.push(found.id),
                _ => {
                    self.define(pairs.clone().map(|pair| pair.0))?;
                    break;
                }
            }
        }
        let values = pairs.map(|pair| pair.1);
        record::put_metrics(&mut self.buffer, run, step, timestamp_us, &self.ids, values);
        self.commit(1, false);
        Ok(())
    }

    /// Many values of one metric.
    pub(super) fn series(
        &mut self,
        run: Id,
        key: &str,
        steps: Column<'_>,
        timestamps_us: Column<'_>,
        values: &[f64],
    ) -> Result<(), (usize, String)> {
        self.begin(run);
        self.define(std::iter::once(key))?;
        record::put_series(
            &mut self.buffer,
            run,
            self.ids[0],
            steps,
            timestamps_us,
            values,
        );
        self.commit(1, false);
        Ok(())
    }

    /// Some other record of a run. One that is `vital` (the run itself begins or ends) is kept before others.
    pub(super) fn record(&mut self, run: Id, vital: bool, put: impl FnOnce(&mut Vec<u8>)) {
        self.begin(run);
        put(&mut self.buffer);
        self.commit(1, vital);
    }

    /// A record of another journal, as it is there; of the definitions that it needs those that are not in the segment come
    /// first.
    pub(super) fn copy(&mut self, needs: impl IntoIterator<Item = Definition>, frame: &[u8]) {
        self.continue_segment();
        self.buffer.clear();
        for definition in needs {
            self.copied.put(&mut self.buffer, self.epoch, definition);
        }
        self.buffer.extend_from_slice(frame);
        self.commit(1, true);
    }

    /// Begins a record in an empty buffer, with the definition of its run where that is needed.
    fn begin(&mut self, run: Id) {
        self.continue_segment();
        self.buffer.clear();
        let entry = &mut self.runs[run as usize];
        if entry.epoch != self.epoch {
            record::put_run(&mut self.buffer, run, entry.definition);
            entry.epoch = self.epoch;
        }
    }

    /// Fills `ids` with the small numbers of some keys, and writes the definitions that are needed.
    fn define<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k str> + Clone,
    ) -> Result<(), (usize, String)> {
        for (at, key) in keys.clone().enumerate() {
            if !self.keys.contains_key(key)
                && let Err(complaint) = rules::metric_key(key)
            {
                // The definition of the run may be in the buffer that is given up.
                self.epoch += 1;
                return Err((at, complaint));
            }
        }
        self.ids.clear();
        for key in keys {
            let next = self.keys.len() as Id;
            let entry = match self.keys.get_mut(key) {
                Some(entry) => entry,
                None => self
                    .keys
                    .entry(key.into())
                    .or_insert(Key { id: next, epoch: 0 }),
            };
            if entry.epoch != self.epoch {
                record::put_key(&mut self.buffer, entry.id, key);
                entry.epoch = self.epoch;
            }
            self.ids.push(entry.id);
        }
        Ok(())
    }

    /// Begins the next segment where the current one is full.
    fn continue_segment(&mut self) {
        if self.finished || self.written() >= self.limits.segment_bytes {
            self.next_segment();
        }
    }

    /// Writes the buffer, which holds so many records.
    fn commit(&mut self, records: u64, vital: bool) {
        if self.pending.is_empty()
            && let Some(file) = &mut self.file
        {
            match file.append(&self.buffer) {
                Ok(length) if length == self.buffer.len() => {
                    if self.limits.fsync {
                        self.sync();
                    }
                    return self.publish(records);
                }
                Ok(length) => {
                    self.pending.extend_from_slice(&self.buffer[length..]);
                }
                Err(error) => {
                    let failed = file.has_failed();
                    self.trouble(&error);
                    if failed {
                        // Behind what is lost nothing could be found again.
                        let frames = std::mem::take(&mut self.buffer);
                        self.follow(self.number + 1, &frames);
                        self.buffer = frames;
                    } else {
                        self.pending.extend_from_slice(&self.buffer);
                    }
                }
            }
            return self.publish(records);
        }
        self.try_disk();
        let room = self.limits.memory_bytes << u32::from(vital);
        if self.pending.is_empty() && self.file.is_some() {
            self.commit(records, vital);
        } else if self.pending.len() + self.buffer.len() <= room {
            self.pending.extend_from_slice(&self.buffer);
            self.publish(records);
        } else {
            // The definitions that were in the buffer must come again.
            self.epoch += 1;
            if self.shared.dropped.fetch_add(records, Ordering::Relaxed) == 0 {
                notice::warn(
                    "the journal's place on disk and in memory is used up: what is logged from now on IS LOST until there is \
                     room again, or a server to deliver to",
                );
            }
        }
    }

    fn publish(&mut self, records: u64) {
        self.number += records;
        if self.pending.is_empty() {
            self.kept = self.number;
        }
        self.shared.appended.store(self.number, Ordering::Release);
        if self.shared.asleep.load(Ordering::Relaxed) {
            self.shared.wake();
        }
    }

    /// The current segment, and how much of it is in its file: what follows there is being written, or nothing.
    pub(super) fn end(&self) -> (u64, u64) {
        (self.segment, self.written())
    }

    fn written(&self) -> u64 {
        self.file.as_ref().map_or(0, Segment::length)
    }
}
