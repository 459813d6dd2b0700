//! The segments of a journal that is written, and the disk below them.
//!
//! Invariant: a segment begins with a header and with the definitions that its records need, so each can be read alone. What
//! the disk does not take waits in memory, in order, and goes on in the file, or in the next one, as soon as there is room.
//! What is written survives the death of the process, as the page cache has it; with `fsync` also that of the machine. What
//! the records say is not known here, only where a frame ends and whether it is numbered.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::Writer;
use crate::journal::{
    folder::{Folder, Position},
    frame, notice,
    record::{self, Id},
    segment::Segment,
};

/// How long to leave the disk alone after it failed.
const RETRY_DISK: Duration = Duration::from_millis(200);

impl Writer {
    /// Begins the next segment, unless what is left of the current one waits for the disk.
    pub(super) fn next_segment(&mut self) {
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
    pub(super) fn follow(&mut self, first: u64, frames: &[u8]) {
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
                record::put_run(&mut self.pending, id as Id, entry.definition);
                entry.epoch = self.epoch;
            }
            for (key, entry) in &mut self.keys {
                record::put_key(&mut self.pending, entry.id, key);
                entry.epoch = self.epoch;
            }
            self.copied.put_all(&mut self.pending, self.epoch);
            self.pending.extend_from_slice(frames);
        }
        self.retry_at = Instant::now();
        self.try_disk();
    }

    /// Ends the current segment: what is in its file cannot be read. What waits for the disk goes on in the next one.
    pub(in crate::journal) fn finish(&mut self) {
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

    /// What is delivered needs no place any more, where it is in memory only. Whether a new segment begins with the rest.
    pub(in crate::journal) fn forget(&mut self, delivered: Position) -> bool {
        let done = delivered.offset.saturating_sub(self.written()) as usize;
        if delivered.segment != self.segment || done == 0 || self.pending.is_empty() {
            return false;
        }
        let rest = self.pending.split_off(done.min(self.pending.len()));
        self.follow(delivered.number + 1, &rest);
        true
    }

    /// Closes the journal and removes its folder when all up to `acked` is all there is. A later record begins it anew.
    pub(in crate::journal) fn retire(&mut self, acked: u64) -> bool {
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

    /// Brings to the disk what waits in memory, unless that failed only just now.
    pub(super) fn try_disk(&mut self) {
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

    pub(super) fn sync(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = file.sync()
        {
            self.trouble(&error);
        }
    }

    /// Tells of trouble with the disk, once until it is over.
    pub(super) fn trouble(&self, error: &io::Error) {
        if !self.shared.in_trouble.swap(true, Ordering::Relaxed) {
            notice::warn(&format!(
                "{} cannot be written: {error}. Up to {} MiB of what is logged now wait in memory, and are lost when this \
                 process is killed",
                self.place(),
                self.limits.memory_bytes >> 20
            ));
        }
    }

    /// Sees to it that a failing disk does not end the process.
    pub(in crate::journal) fn look_at_guard(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Segment::look_at_guard) {
            self.trouble(&error);
        }
    }

    /// What of the current segment is in memory only, from a place in the segment on; at most so many bytes.
    pub(in crate::journal) fn waiting(&self, from: u64, most: usize) -> &[u8] {
        let skip = from.saturating_sub(self.written()) as usize;
        let rest = self.pending.get(skip..).unwrap_or_default();
        &rest[..rest.len().min(most)]
    }

    /// Records that are in memory only.
    pub(in crate::journal) fn in_memory(&self) -> u64 {
        if self.pending.is_empty() {
            0
        } else {
            self.number - self.kept
        }
    }

    /// Makes sure that there is a folder to put a file into, and keeps it until [`Writer::release`].
    pub(in crate::journal) fn hold(&mut self) -> io::Result<Folder> {
        let folder = self.usable_folder()?.clone();
        folder.create(&self.meta)?;
        self.held += 1;
        Ok(folder)
    }

    pub(in crate::journal) fn release(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// Where it is, for messages.
    pub(in crate::journal) fn place(&self) -> String {
        match &self.folder {
            Some(folder) => folder.path().display().to_string(),
            None => "the journal".to_owned(),
        }
    }
}
