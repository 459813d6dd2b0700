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

mod copied;
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
mod rejects;
mod retries;
mod run_log;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod thread;
mod window;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mlplat_proto::tracking::v1 as pb;
use parking_lot::Mutex;
use uuid::Uuid;

pub(crate) use folder::default_home;
pub(crate) use leftovers::deliver_before_resuming;
pub use leftovers::{JournalReport, SyncOptions, SyncReport, sync};
pub use patience::flush_all;
pub(crate) use patience::{Patience, deliver_before, tell};
pub(crate) use run_log::{RunLog, SpoolSource, Timestamps};

use crate::client::{Client, ClientBuilder};
use folder::{Folder, Meta};
use limits::Limits;
use owner::Owner;
use record::{Id, RunDefinition};
use shared::Shared;
use writer::Writer;

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

/// Whether this program has made the journal of this writer.
fn is_of_this_process(writer: Uuid) -> bool {
    journals().iter().any(|journal| journal.writer_id == writer)
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
    fn run(&self, run: RunDefinition) -> Id {
        self.writer.lock().run(run)
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
