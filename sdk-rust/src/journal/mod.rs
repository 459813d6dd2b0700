//! The client journal: what is logged goes into a file of this machine first, and from there to the server.
//!
//! ```text
//! log_metrics(…) ─► writer ─► $MLPLAT_HOME/journal/<writer>/000001.seg … ─► reader ─► window ─► courier ─► server
//!                   one copy                                                a thread of its own
//! ```
//!
//! Invariants:
//! - Logging costs one copy into the page cache (through a mapping on local disks, else by `write(2)`); it never waits for
//!   the network, and never fails because of it or of the disk.
//! - What was written survives the death of the process, and is delivered once: records are numbered, and the server
//!   remembers the last number of each writer. So it does no harm when two processes deliver one journal, and no locks
//!   are needed.
//! - A process has one journal per server and project, a forked one has its own (`fork.rs`).
//! - The journal of a dead process is found and delivered by the next one, or by [`sync`].

mod courier;
mod folder;
mod fork;
mod frame;
#[cfg(target_os = "linux")]
mod guard;
mod leftovers;
mod limits;
mod notice;
mod owner;
mod patience;
mod reader;
mod record;
mod segment;
#[cfg(test)]
mod tests;
mod thread;
mod window;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mlplat_proto::tracking::v1 as pb;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

pub(crate) use folder::default_home;
pub(crate) use leftovers::deliver_before_resuming;
pub use leftovers::{JournalReport, SyncOptions, SyncReport, sync};
pub use patience::flush_all;
pub(crate) use patience::{Delivered, Patience, deliver_before, tell};

use crate::{
    client::{Client, ClientBuilder},
    error::{Error, Result},
};
use folder::{Folder, Meta};
use limits::Limits;
use owner::Owner;
use record::{Column, Id};
use writer::Writer;

/// Points of one series in one record.
const SERIES_POINTS: usize = 1 << 16;
/// Metrics in one record.
const METRICS: usize = 5_000;

/// What the writing and the delivering side of a journal know of each other.
#[derive(Debug)]
struct Shared {
    /// Number of the last record that is written.
    appended: AtomicU64,
    /// Bytes on disk, but for the current segment.
    stored: AtomicU64,
    /// Records that no place was left for.
    dropped: AtomicU64,
    /// The disk does not take what is written.
    in_trouble: AtomicBool,
    /// The thread must be woken for new records.
    asleep: AtomicBool,
    /// Somebody waits until the folder is given up.
    closing: AtomicBool,
    wake: Notify,
    progress: watch::Sender<Progress>,
    /// Runs that this process has begun and not ended.
    under_way: Mutex<HashSet<Uuid>>,
    /// Those of them that the server knows.
    begun: Mutex<HashSet<Uuid>>,
    /// Those of them that the server calls ended.
    ended_elsewhere: Mutex<HashSet<String>>,
    /// What people were told last is not delivered.
    told: Mutex<Option<String>>,
    /// What the server said at the end of the last runs.
    ended: Mutex<HashMap<Uuid, pb::Run>>,
}

/// How far the delivery is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// All records up to this number are delivered, or refused.
    pub(crate) acked: u64,
    /// Records that the server refused for good.
    pub(crate) rejected: u64,
    /// Calls that were tried.
    attempts: u64,
    /// Since when nothing can be delivered, and why; none while it goes well.
    trouble: Option<(std::time::Instant, Arc<str>)>,
    /// The trouble is that a run which another process begins is not there yet.
    waits_for_run: bool,
}

impl Shared {
    fn new() -> Self {
        Self {
            appended: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            in_trouble: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            wake: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            under_way: Mutex::default(),
            begun: Mutex::default(),
            ended_elsewhere: Mutex::default(),
            told: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    fn wake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }
}

/// The journal of this process for one server and project.
#[derive(Debug)]
pub(crate) struct Journal {
    settings: ClientBuilder,
    home: Option<PathBuf>,
    folder: Option<Folder>,
    writer_id: Uuid,
    writer: Arc<Mutex<Writer>>,
    shared: Arc<Shared>,
    thread: AtomicBool,
}

/// The journals of this process. They stay: what was not delivered is, as long as the process lives.
static JOURNALS: fork::PerProcess<Mutex<Vec<Arc<Journal>>>> = fork::PerProcess::new();

/// The journals that this process has made so far.
fn journals() -> Vec<Arc<Journal>> {
    JOURNALS
        .get()
        .map(|list| list.lock().clone())
        .unwrap_or_default()
}

impl Journal {
    /// The journal for the server and the project of a client; `None` behind too many forks.
    pub(crate) fn of(client: &Client) -> Option<Arc<Self>> {
        fork::watch();
        let list = JOURNALS.get_or_init(Mutex::default)?;
        let home = client.journal_home();
        let mut list = list.lock();
        if let Some(found) = list.iter().find(|found| found.serves(client, &home)) {
            return Some(Arc::clone(found));
        }
        let made = Arc::new(Self::new(client.to_builder(), home));
        list.push(Arc::clone(&made));
        Some(made)
    }

    /// As [`Journal::of`], where there is one already.
    fn existing(client: &Client) -> Option<Arc<Self>> {
        let list = JOURNALS.get()?.lock();
        let home = client.journal_home();
        list.iter()
            .find(|found| found.serves(client, &home))
            .cloned()
    }

    fn new(settings: ClientBuilder, home: Option<PathBuf>) -> Self {
        let writer_id = Uuid::now_v7();
        let shared = Arc::new(Shared::new());
        let place = |home: &PathBuf| folder::journals(home).join(writer_id.to_string());
        let folder = home.as_ref().map(place).map(Folder::at);
        let meta = Meta::new(
            writer_id,
            settings.given_url(),
            settings.given_project(),
            Owner::this(),
        );
        let writer = Writer::new(
            meta,
            folder.clone(),
            Limits::from_env(),
            Arc::clone(&shared),
        );
        Self {
            settings,
            home,
            folder,
            writer_id,
            writer: Arc::new(Mutex::new(writer)),
            shared,
            thread: AtomicBool::new(false),
        }
    }

    fn serves(&self, client: &Client, home: &Option<PathBuf>) -> bool {
        self.settings.given_url() == client.url()
            && self.settings.given_project() == client.project()
            && self.home == *home
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> String {
        match &self.folder {
            Some(folder) => folder.path().display().to_string(),
            None => "the memory of this process".to_owned(),
        }
    }

    /// The small number of a run.
    fn run(&self, run: Uuid, own: bool) -> Id {
        self.writer.lock().run(run, own)
    }

    /// Makes sure that what is written is delivered.
    fn start(self: &Arc<Self>) {
        if !self.thread.load(Ordering::Relaxed) && !self.thread.swap(true, Ordering::AcqRel) {
            thread::start(self);
        }
    }

    /// Number of the last record that was written.
    pub(crate) fn appended(&self) -> u64 {
        self.shared.appended()
    }

    /// Records that were lost, as there was no place for them.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// What the server said when the run ended, where that is known.
    pub(crate) fn ended(&self, run: Uuid) -> Option<pb::Run> {
        self.shared.ended.lock().remove(&run)
    }

    /// Removes the folder when nothing in it is needed any more.
    pub(crate) fn retire_if_idle(&self) {
        if self.shared.under_way.lock().is_empty() {
            let acked = self.shared.progress.borrow().acked;
            self.writer.lock().retire(acked);
        }
    }
}

/// Where one run is logged to, in every process that has it.
pub(crate) struct RunLog {
    client: Client,
    run: Uuid,
    own: bool,
    places: fork::PerProcess<Place>,
}

impl fmt::Debug for RunLog {
    /// Without the journal, which holds what was logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLog")
            .field("run", &self.run)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Place {
    journal: Arc<Journal>,
    run: Id,
}

impl RunLog {
    /// `own`: this process starts and ends the run. A process that is forked off only takes part in it.
    pub(crate) fn new(client: Client, run: Uuid, own: bool) -> Self {
        let log = Self {
            client,
            run,
            own,
            places: fork::PerProcess::new(),
        };
        log.make_place(own);
        log
    }

    fn make_place(&self, own: bool) -> Option<&Place> {
        self.places.get().or_else(|| {
            let journal = Journal::of(&self.client)?;
            let run = journal.run(self.run, own);
            journal.start();
            self.places.get_or_init(|| Place { journal, run })
        })
    }

    #[inline]
    fn place(&self) -> Option<&Place> {
        match self.places.get() {
            Some(place) => Some(place),
            None => self.make_place(false),
        }
    }

    /// Whether this process starts and ends the run.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// The journal of this process.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.place().map(|place| &place.journal)
    }

    /// Logs values of some metrics at one moment.
    pub(crate) fn metrics<'k>(
        &self,
        step: Option<i64>,
        timestamp_us: i64,
        pairs: impl Iterator<Item = (&'k str, f64)> + Clone,
    ) -> Result<()> {
        let Some(place) = self.place() else {
            return Ok(());
        };
        let (mut at, mut rest) = (0, pairs);
        if rest.clone().next().is_none() {
            return Ok(());
        }
        let mut writer = place.journal.writer.lock();
        loop {
            let part = rest.clone().take(METRICS);
            writer
                .metrics(place.run, step, timestamp_us, part)
                .map_err(|(index, complaint)| {
                    Error::invalid(format!("metrics[{}].key", at + index), complaint)
                })?;
            if rest.nth(METRICS - 1).is_none() || rest.clone().next().is_none() {
                return Ok(());
            }
            at += METRICS;
        }
    }

    /// Logs many values of one metric.
    pub(crate) fn series(
        &self,
        key: &str,
        steps: Option<&[i64]>,
        timestamps_us: Timestamps<'_>,
        values: &[f64],
    ) -> Result<()> {
        let Some(place) = self.place() else {
            return Ok(());
        };
        for start in (0..values.len().max(1)).step_by(SERIES_POINTS) {
            let part = start..values.len().min(start + SERIES_POINTS);
            let at = match timestamps_us {
                Timestamps::All(start) => Column::Even { start, stride: 0 },
                Timestamps::Each(times) => Column::of(&times[part.clone()]),
            };
            let steps = steps.map_or(Column::Absent, |steps| Column::of(&steps[part.clone()]));
            let mut writer = place.journal.writer.lock();
            writer
                .series(place.run, key, steps, at, &values[part])
                .map_err(|(_, complaint)| Error::invalid("metrics[0].key", complaint))?;
        }
        Ok(())
    }

    /// Logs what a batch holds beside metrics. It must be small enough for one message.
    pub(crate) fn batch(&self, message: &pb::LogBatchRequest) {
        let bytes = prost::Message::encode_to_vec(message);
        self.record(false, |buffer, run| record::put_batch(buffer, run, &bytes));
    }

    /// Begins the run, or goes on with it where `resume` is given and it exists.
    pub(crate) fn open(
        &self,
        create: &pb::CreateRunRequest,
        resume: Option<&pb::ResumeRunRequest>,
    ) {
        let create = prost::Message::encode_to_vec(create);
        let resume = resume.map(prost::Message::encode_to_vec);
        if let Some(place) = self.place() {
            place.journal.shared.under_way.lock().insert(self.run);
        }
        self.record(true, |buffer, run| {
            record::put_open(buffer, run, &create, resume.as_deref());
        });
    }

    /// Ends the run.
    pub(crate) fn end(&self, message: &pb::EndRunRequest) {
        let bytes = prost::Message::encode_to_vec(message);
        self.record(true, |buffer, run| record::put_end(buffer, run, &bytes));
        if let Some(place) = self.place() {
            place.journal.shared.under_way.lock().remove(&self.run);
        }
    }

    /// Keeps a file in the journal, and uploads it later as `directory/file_name`. A disk that takes no more is told, and is
    /// no error.
    pub(crate) fn spool(
        &self,
        source: SpoolSource<'_>,
        directory: &str,
        file_name: &str,
        media_type: &str,
    ) -> Result<()> {
        let Some(place) = self.place() else {
            return Ok(());
        };
        if let SpoolSource::File(path) = source
            && !std::fs::metadata(path)
                .map_err(|e| Error::io(path, e))?
                .is_file()
        {
            return Err(Error::misuse(format!("`{}` is not a file", path.display())));
        }
        let held = place.journal.writer.lock().hold();
        let kept = held.and_then(|folder| {
            let kept = place.journal.keep(&folder, source, file_name);
            if let Ok(spooled) = &kept {
                self.record(false, |buffer, run| {
                    record::put_artifact(buffer, run, spooled, directory, media_type);
                });
            }
            place.journal.writer.lock().release();
            kept
        });
        if let Err(error) = kept {
            place.journal.shared.dropped.fetch_add(1, Ordering::Relaxed);
            notice::warn(&format!(
                "`{file_name}` of run {} IS LOST: it cannot be kept in {}: {error}",
                self.run,
                place.journal.place()
            ));
        }
        Ok(())
    }

    fn record(&self, vital: bool, put: impl FnOnce(&mut Vec<u8>, Id)) {
        if let Some(place) = self.place() {
            let mut writer = place.journal.writer.lock();
            writer.record(place.run, vital, |buffer| put(buffer, place.run));
        }
    }
}

/// When the points of a series were measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timestamps<'a> {
    All(i64),
    Each(&'a [i64]),
}

/// A file to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SpoolSource<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
}

impl Journal {
    /// Copies a file into the folder.
    fn keep(
        &self,
        folder: &Folder,
        source: SpoolSource<'_>,
        file_name: &str,
    ) -> std::io::Result<String> {
        let (name, path) = folder.new_spooled(file_name)?;
        let size = match source {
            SpoolSource::File(from) => std::fs::copy(from, &path)?,
            SpoolSource::Bytes(bytes) => {
                std::fs::write(&path, bytes)?;
                bytes.len() as u64
            }
        };
        self.shared.stored.fetch_add(size, Ordering::Relaxed);
        Ok(name)
    }
}
