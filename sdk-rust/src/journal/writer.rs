//! The end of a journal that is written, record by record.
//!
//! Invariant: the bytes of the current segment are those in its file followed by `pending`, so whatever the disk does (it is
//! full, it takes half of a write), frames stay whole and in order, and numbers have no gaps. What is written survives the
//! death of the process, as the page cache has it; with `fsync` also that of the machine. Nothing here waits for the
//! network, and no trouble with the disk is an error for the caller: what cannot be kept is counted and told.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use mlplat_proto::rules;
use uuid::Uuid;

use super::{
    folder::{Folder, Meta, Position},
    frame,
    limits::Limits,
    notice,
    record::{self, Column, Id},
    segment::Segment,
    shared::Shared,
};

/// How long to leave the disk alone after it failed.
const RETRY_DISK: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Key {
    id: Id,
    epoch: u64,
}

#[derive(Debug)]
struct Run {
    run: Uuid,
    own: bool,
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
            ids: Vec::new(),
            buffer: Vec::new(),
            held: 0,
        }
    }

    /// The small number of a run; `own` when this process starts and ends it.
    pub(super) fn run(&mut self, run: Uuid, own: bool) -> Id {
        let known = self.runs.iter().position(|known| known.run == run);
        let at = known.unwrap_or_else(|| {
            self.runs.push(Run { run, own, epoch: 0 });
            self.runs.len() - 1
        });
        if own && !self.runs[at].own {
            self.runs[at].own = true;
            self.runs[at].epoch = 0;
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

    /// A record of another journal, as it is there, with the definitions it needs.
    pub(super) fn copy(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.continue_segment();
        self.buffer.clear();
        put(&mut self.buffer);
        self.commit(1, true);
    }

    /// Begins a record in an empty buffer, with the definition of its run where that is needed.
    fn begin(&mut self, run: Id) {
        self.continue_segment();
        self.buffer.clear();
        let entry = &mut self.runs[run as usize];
        if entry.epoch != self.epoch {
            record::put_run(&mut self.buffer, run, entry.run, entry.own);
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

    /// Begins the next segment, unless what is left of the current one waits for the disk.
    fn next_segment(&mut self) {
        if !self.pending.is_empty() {
            self.try_disk();
        }
        if !self.pending.is_empty() {
            self.finished |= self.written() >= self.limits.segment_bytes;
            if self.segment > 0 {
                return;
            }
        }
        self.follow(self.number + 1, &[]);
    }

    /// Begins the next segment with what waits for the disk, from record `first` on: frames, with the definitions that
    /// they need.
    fn follow(&mut self, first: u64, frames: &[u8]) {
        self.shared
            .stored
            .fetch_add(self.written(), Ordering::Relaxed);
        self.segment += 1;
        self.epoch += 1;
        (self.file, self.finished) = (None, false);
        self.pending.clear();
        record::put_header(&mut self.pending, self.meta.writer, self.segment, first);
        if !frames.is_empty() {
            for (id, entry) in self.runs.iter_mut().enumerate() {
                record::put_run(&mut self.pending, id as Id, entry.run, entry.own);
                entry.epoch = self.epoch;
            }
            for (key, entry) in &mut self.keys {
                record::put_key(&mut self.pending, entry.id, key);
                entry.epoch = self.epoch;
            }
            self.pending.extend_from_slice(frames);
        }
        self.retry_at = Instant::now();
        self.try_disk();
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

    /// Brings to the disk what waits in memory, unless that failed only just now.
    fn try_disk(&mut self) {
        let now = Instant::now();
        if now < self.retry_at {
            return;
        }
        self.retry_at = now + RETRY_DISK;
        if let Err(error) = self.open().and_then(|()| self.drain()) {
            self.trouble(&error);
        }
    }

    /// Opens the file of the current segment.
    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let folder = self.usable_folder()?;
        folder.create(&self.meta)?;
        let path = folder.segment(self.segment);
        self.file = Some(Segment::create(&path, self.limits.reserves_space())?);
        Ok(())
    }

    /// The folder, when the quota allows more in it.
    fn usable_folder(&self) -> io::Result<&Folder> {
        let folder = self.folder.as_ref();
        let folder =
            folder.ok_or_else(|| io::Error::other("there is no home folder; set MLPLAT_HOME"))?;
        let stored = self.shared.stored.load(Ordering::Relaxed);
        if stored.saturating_add(self.limits.segment_bytes) > self.limits.quota_bytes {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!(
                    "{stored} bytes of it are not delivered yet, and MLPLAT_JOURNAL_QUOTA allows {}",
                    self.limits.quota_bytes
                ),
            ));
        }
        Ok(folder)
    }

    fn drain(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        while !self.pending.is_empty() {
            let length = file.append(&self.pending)?;
            self.pending.drain(..length);
        }
        self.kept = self.number;
        if self.shared.in_trouble.swap(false, Ordering::Relaxed) {
            notice::warn("the journal is written to disk again");
        }
        Ok(())
    }

    fn sync(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = file.sync()
        {
            self.trouble(&error);
        }
    }

    /// Tells of trouble with the disk, once until it is over.
    fn trouble(&self, error: &io::Error) {
        if !self.shared.in_trouble.swap(true, Ordering::Relaxed) {
            notice::warn(&format!(
                "{} cannot be written: {error}. Up to {} MiB of what is logged now wait in memory, and are lost when this \
                 process is killed",
                self.place(),
                self.limits.memory_bytes >> 20
            ));
        }
    }

    /// What of the current segment is in memory only, from a place in the segment on; at most so many bytes.
    pub(super) fn waiting(&self, from: u64, most: usize) -> &[u8] {
        let skip = from.saturating_sub(self.written()) as usize;
        let rest = self.pending.get(skip..).unwrap_or_default();
        &rest[..rest.len().min(most)]
    }

    /// What is delivered needs no place any more, where it is in memory only. Whether a new segment begins with the rest.
    pub(super) fn forget(&mut self, delivered: Position) -> bool {
        let done = delivered.offset.saturating_sub(self.written()) as usize;
        if delivered.segment != self.segment || done == 0 || self.pending.is_empty() {
            return false;
        }
        let rest = self.pending.split_off(done.min(self.pending.len()));
        self.follow(delivered.number + 1, &rest);
        true
    }

    /// Sees to it that a failing disk does not end the process.
    pub(super) fn look_at_guard(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Segment::look_at_guard) {
            self.trouble(&error);
        }
    }

    /// Makes sure that there is a folder to put a file into, and keeps it until [`Writer::release`].
    pub(super) fn hold(&mut self) -> io::Result<Folder> {
        let folder = self.usable_folder()?.clone();
        folder.create(&self.meta)?;
        self.held += 1;
        Ok(folder)
    }

    pub(super) fn release(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// Ends the current segment: what is in its file cannot be read. What waits for the disk goes on in the next one.
    pub(super) fn finish(&mut self) {
        let (mut rest, mut count) = (&self.pending[..], 0);
        while let Ok(frame) = frame::parse(rest) {
            count += u64::from(record::is_numbered(frame.kind));
            rest = &rest[frame.size()..];
        }
        let whole = rest.is_empty();
        let frames = std::mem::take(&mut self.pending);
        if whole {
            self.follow(self.number + 1 - count, &frames);
        } else {
            self.follow(self.number + 1, &[]);
        }
    }

    /// Records that are in memory only.
    pub(super) fn in_memory(&self) -> u64 {
        if self.pending.is_empty() {
            0
        } else {
            self.number - self.kept
        }
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> String {
        match &self.folder {
            Some(folder) => folder.path().display().to_string(),
            None => "the journal".to_owned(),
        }
    }

    /// The current segment, and how much of it is in its file: what follows there is being written, or nothing.
    pub(super) fn end(&self) -> (u64, u64) {
        (self.segment, self.written())
    }

    fn written(&self) -> u64 {
        self.file.as_ref().map_or(0, Segment::length)
    }

    /// Closes the journal and removes its folder when all up to `acked` is all there is. A later record begins it anew.
    pub(super) fn retire(&mut self, acked: u64) -> bool {
        if self.number != acked || self.finished || self.held > 0 {
            return false;
        }
        self.pending.clear();
        (self.file, self.finished) = (None, true);
        if let Some(folder) = &self.folder {
            folder.remove();
        }
        self.shared.stored.store(0, Ordering::Relaxed);
        true
    }
}
