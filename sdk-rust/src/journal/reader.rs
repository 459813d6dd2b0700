//! A journal as it is read: record after record, through all of its segments.
//!
//! Invariant: a record is given once, with its number, and never before all of it is written. What is damaged is told and
//! skipped up to the next segment; a frame that is cut off at the very end is what a death leaves behind, and is none, nor
//! are zeros, which are space that was reserved.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    folder::{Folder, Position},
    frame::{self, Bad},
    notice,
    record::{Id, Record, RunDefinition, is_numbered},
    writer::Writer,
};

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

/// What the small numbers in records mean.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    runs: Vec<Option<RunDefinition>>,
    keys: Vec<Option<Arc<str>>>,
}

impl Definitions {
    pub(super) fn run(&self, id: Id) -> Option<RunDefinition> {
        self.runs.get(id as usize).copied().flatten()
    }

    pub(super) fn key(&self, id: Id) -> Option<&Arc<str>> {
        self.keys.get(id as usize)?.as_ref()
    }

    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }

    fn define_run(&mut self, id: Id, definition: RunDefinition) {
        if let Some(place) = place(&mut self.runs, id) {
            *place = Some(definition);
        }
    }

    fn define_key(&mut self, id: Id, key: &str) {
        if let Some(place) = place(&mut self.keys, id) {
            *place = Some(key.into());
        }
    }
}

/// The place of an id; none for one that no journal has come to.
fn place<T>(list: &mut Vec<Option<T>>, id: Id) -> Option<&mut Option<T>> {
    const MOST: usize = 10_000_000;
    let at = id as usize;
    if at > MOST {
        return None;
    }
    if list.len() <= at {
        list.resize_with(at + 1, || None);
    }
    list.get_mut(at)
}

/// A numbered record, as it lies in the buffer of the reader.
#[derive(Debug)]
pub(super) struct Numbered<'a> {
    pub(super) number: u64,
    pub(super) frame: &'a [u8],
    pub(super) record: Record<'a>,
}

#[derive(Debug)]
pub(super) struct Reader {
    folder: Option<Folder>,
    /// The other end, where this process writes it.
    writer: Option<Arc<Mutex<Writer>>>,
    pub(super) definitions: Definitions,
    segment: u64,
    file: Option<File>,
    /// Where in the segment the buffer begins, and how much of it is used up.
    offset: u64,
    buffer: Vec<u8>,
    used: usize,
    number: u64,
    /// Records up to here were delivered before.
    skip: u64,
    /// Whoever writes it is dead for sure.
    finished: bool,
    /// Segments in which something is lost.
    damaged: Vec<u64>,
    /// Records that are missing before later ones, until somebody asks.
    lost: u64,
}

impl Reader {
    /// The journal that this process writes.
    pub(super) fn own(folder: Option<Folder>, writer: Arc<Mutex<Writer>>) -> Self {
        Self::new(folder, Some(writer), 0, false)
    }

    /// The journal of another process, from where its delivery ended; `finished` when that one is dead, and not only silent.
    pub(super) fn leftover(folder: Folder, finished: bool) -> Self {
        let skip = folder.acked().number;
        Self::new(Some(folder), None, skip, finished)
    }

    fn new(
        folder: Option<Folder>,
        writer: Option<Arc<Mutex<Writer>>>,
        skip: u64,
        finished: bool,
    ) -> Self {
        Self {
            folder,
            writer,
            definitions: Definitions::default(),
            segment: 0,
            file: None,
            offset: 0,
            buffer: Vec::new(),
            used: 0,
            number: 0,
            skip,
            finished,
            damaged: Vec::new(),
            lost: 0,
        }
    }

    /// What was read so far.
    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.offset + self.used as u64,
            number: self.number,
        }
    }

    pub(super) fn damaged(&self) -> &[u64] {
        &self.damaged
    }

    /// The next record, up to number `limit`; `None` when there is none (yet).
    pub(super) fn next(&mut self, limit: u64) -> io::Result<Option<(Numbered<'_>, &Definitions)>> {
        loop {
            if self.number >= limit {
                return Ok(None);
            }
            let parsed = frame::parse(&self.buffer[self.used..]);
            match parsed.map(|frame| (frame.kind, frame.size())) {
                Ok((kind, size)) => {
                    let start = self.used;
                    self.used += size;
                    if !self.take(start, kind) {
                        continue;
                    }
                    let bytes = &self.buffer[start..start + size];
                    let record = frame::parse(bytes).ok().and_then(Record::read);
                    return Ok(Some((
                        Numbered {
                            number: self.number,
                            frame: bytes,
                            record: record.unwrap_or(Record::Unknown),
                        },
                        &self.definitions,
                    )));
                }
                Err(Bad::Incomplete) if self.fill(self.readable())? => {}
                Err(bad) => {
                    if !self.end_of_segment(bad)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Takes note of a frame, and says whether it is a record to be given.
    fn take(&mut self, start: usize, kind: u8) -> bool {
        if is_numbered(kind) {
            self.number += 1;
            return self.number > self.skip;
        }
        let frame = frame::parse(&self.buffer[start..]).ok();
        match frame.and_then(Record::read) {
            Some(Record::Header { first }) => self.begin_segment(first),
            Some(Record::Run { id, run }) => self.definitions.define_run(id, run),
            Some(Record::Key { id, key }) => self.definitions.define_key(id, key),
            _ => {}
        }
        false
    }

    /// The next record has this number.
    fn begin_segment(&mut self, first: u64) {
        let missing = first.saturating_sub(self.number + 1);
        if self.number >= self.skip && missing > 0 && self.number > 0 {
            self.lost += missing;
            notice::warn(&format!(
                "{missing} records of the journal {} are lost: it is damaged. What is left of the file is kept under `rejected`",
                self.name()
            ));
        }
        self.number = first.saturating_sub(1);
    }

    /// How much of the file is written: in the last segment more may be on its way.
    fn readable(&self) -> u64 {
        match &self.writer {
            Some(writer) => readable(self.segment, writer.lock().end()),
            None => u64::MAX,
        }
    }

    /// Reads more of the file, of which so much is written; false when there is no more.
    fn fill(&mut self, readable: u64) -> io::Result<bool> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        self.buffer.drain(..self.used);
        self.offset += self.used as u64;
        self.used = 0;
        let before = self.buffer.len();
        let at = self.offset + before as u64;
        let wanted = readable.saturating_sub(at).min(READ_BYTES as u64) as usize;
        file.seek(SeekFrom::Start(at))?;
        self.buffer.resize(before + wanted, 0);
        let read = file.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    /// Goes on behind the end, or the damaged part, of a segment; false when there is nothing behind it (yet).
    fn end_of_segment(&mut self, bad: Bad) -> io::Result<bool> {
        match self.writer.clone() {
            Some(writer) => self.end_of_own_segment(&mut writer.lock(), bad),
            None => self.end_of_left_segment(bad),
        }
    }

    fn end_of_own_segment(&mut self, writer: &mut Writer, bad: Bad) -> io::Result<bool> {
        let end = writer.end();
        // Under the lock nothing is added, so either the file has grown since it was read (or is there only now), or the rest is
        // in memory.
        if self.file.is_none() {
            let folder = self.folder.as_ref();
            self.file = folder.and_then(|folder| File::open(folder.segment(self.segment)).ok());
        }
        if self.fill(readable(self.segment, end))? {
            return Ok(true);
        }
        if self.segment < end.0 {
            self.note_damage();
            self.move_to(self.segment + 1);
            return Ok(true);
        }
        if bad == Bad::Damaged {
            self.note_damage();
            writer.finish();
            self.move_to(self.segment + 1);
            return Ok(true);
        }
        let at = self.offset + self.buffer.len() as u64;
        let waiting = writer.waiting(at, READ_BYTES);
        if waiting.is_empty() && self.buffer.len() > self.used {
            // What was written are whole frames, and this is none.
            self.note_damage();
            writer.finish();
            self.move_to(self.segment + 1);
            return Ok(true);
        }
        self.buffer.extend_from_slice(waiting);
        Ok(!waiting.is_empty())
    }

    /// Goes on in the next segment, which begins with what was not given yet.
    pub(super) fn follow(&mut self) {
        self.move_to(self.segment + 1);
    }

    /// Records that were lost since the last question, as the file is damaged.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn end_of_left_segment(&mut self, bad: Bad) -> io::Result<bool> {
        if bad == Bad::Damaged {
            // The rest of the file tells whether something follows.
            while self.buffer.len() - self.used < 2 * READ_BYTES && self.fill(u64::MAX)? {}
        }
        let next = self.next_left()?;
        if next.is_none() && !self.finished {
            // What looks damaged may be a frame that is being written.
            self.used = self.buffer.len();
            return Ok(false);
        }
        let rest = &self.buffer[self.used..];
        if self.segment > 0 && is_written(rest) && (next.is_some() || frame::any_behind(rest)) {
            self.note_damage();
            if next.is_none() {
                notice::warn(&format!(
                    "the end of the journal {} is damaged, and what was logged there is lost. What is left of the file is kept \
                     under `rejected`",
                    self.name()
                ));
            }
        }
        match next {
            Some(next) => self.move_to(next),
            None => self.used = self.buffer.len(),
        }
        Ok(next.is_some())
    }

    /// The next segment that a process has left.
    fn next_left(&self) -> io::Result<Option<u64>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let following = self.segment + 1;
        if folder.segment(following).exists() {
            return Ok(Some(following));
        }
        match folder.segments() {
            Ok(numbers) => Ok(numbers.into_iter().find(|&number| number > self.segment)),
            // Another process has delivered and removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn note_damage(&mut self) {
        if is_written(&self.buffer[self.used..]) && !self.damaged.contains(&self.segment) {
            self.damaged.push(self.segment);
        }
    }

    fn move_to(&mut self, segment: u64) {
        let folder = self.folder.as_ref();
        // It may not be there: what is in it is in memory, or another process has delivered it.
        self.file = folder.and_then(|folder| File::open(folder.segment(segment)).ok());
        self.segment = segment;
        self.offset = 0;
        self.used = 0;
        self.buffer.clear();
    }

    fn name(&self) -> String {
        match &self.folder {
            Some(folder) => folder.path().display().to_string(),
            None => "in memory".to_owned(),
        }
    }
}

/// How much of a segment is written, when the last one ends at `end`.
fn readable(segment: u64, end: (u64, u64)) -> u64 {
    if segment == end.0 { end.1 } else { u64::MAX }
}

/// Whether there is anything but reserved space.
fn is_written(bytes: &[u8]) -> bool {
    bytes.iter().any(|&byte| byte != 0)
}
