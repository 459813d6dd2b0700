//! What the writing and the delivering side of a journal know of each other.
//!
//! Invariant: no lock in here is held while anything is waited for.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mlplat_proto::tracking::v1 as pb;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::notice;
use crate::error::Error;

/// What the writing and the delivering side of a journal know of each other.
#[derive(Debug)]
pub(super) struct Shared {
    /// Number of the last record that is written.
    pub(super) appended: AtomicU64,
    /// Bytes on disk, but for the current segment.
    pub(super) stored: AtomicU64,
    /// Records that no place was left for.
    pub(super) dropped: AtomicU64,
    /// The disk does not take what is written.
    pub(super) in_trouble: AtomicBool,
    /// The thread must be woken for new records.
    pub(super) asleep: AtomicBool,
    /// Somebody waits until the folder is given up.
    pub(super) closing: AtomicBool,
    pub(super) wake: Notify,
    pub(super) progress: watch::Sender<Progress>,
    /// Runs that this process has begun and not ended.
    pub(super) under_way: Mutex<HashSet<Uuid>>,
    /// Those of them that the server knows.
    pub(super) begun: Mutex<HashSet<Uuid>>,
    /// Those of them that the server calls ended.
    pub(super) ended_elsewhere: Mutex<HashSet<String>>,
    /// What people were told last is not delivered.
    pub(super) told: Mutex<Option<String>>,
    /// What the server said at the end of the last runs.
    pub(super) ended: Mutex<HashMap<Uuid, pb::Run>>,
}

/// How far the delivery is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// All records up to this number are delivered, or refused.
    pub(crate) acked: u64,
    /// Records that the server refused for good.
    pub(crate) rejected: u64,
    /// Calls that were tried.
    pub(super) attempts: u64,
    /// Since when nothing can be delivered, and why; none while it goes well.
    pub(super) trouble: Option<(Instant, Arc<str>)>,
    /// The trouble is that a run which another process begins is not there yet.
    pub(super) waits_for_run: bool,
}

impl Shared {
    pub(super) fn new() -> Self {
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

    pub(super) fn wake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(super) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let update = |stored: u64| Some(stored.saturating_sub(bytes));
        // The closure never refuses.
        let _ = self
            .stored
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    pub(super) fn note(&self, error: Option<&Error>, waits_for_run: bool) {
        self.progress.send_modify(|progress| {
            progress.attempts += 1;
            progress.waits_for_run = waits_for_run;
            progress.trouble = error.map(|error| {
                let since = progress.trouble.as_ref().map(|trouble| trouble.0);
                (since.unwrap_or_else(Instant::now), error.to_string().into())
            });
        });
    }

    /// Tells who waits that the server has taken a call, and does not answer for this long.
    pub(super) fn note_silence(&self, time: Duration) {
        self.progress.send_modify(|progress| {
            progress.trouble.get_or_insert_with(|| {
                let why = format!("the server does not answer, for {time:?} so far");
                (Instant::now(), why.into())
            });
        });
    }

    /// The runs that the server knows, and that this process does.
    pub(super) fn heartbeats(&self) -> Vec<String> {
        const MOST: usize = 1000;
        let (under_way, mut begun) = (self.under_way.lock(), self.begun.lock());
        begun.retain(|run| under_way.contains(run));
        begun.iter().take(MOST).map(Uuid::to_string).collect()
    }

    /// Somebody else has ended a run of this process.
    pub(super) fn note_ended_elsewhere(&self, run: &str) {
        // Its end may have been on the way.
        let id = Uuid::try_parse(run).unwrap_or_default();
        if self.under_way.lock().contains(&id) && self.ended_elsewhere.lock().insert(run.to_owned())
        {
            notice::warn(&format!(
                "run {run} was ended by somebody else, or deleted, while this process goes on with it"
            ));
        }
    }

    pub(super) fn note_end(&self, run: Uuid, ended: pb::Run) {
        const KEPT: usize = 64;
        let mut ends = self.ended.lock();
        if ends.len() >= KEPT {
            ends.clear();
        }
        ends.insert(run, ended);
    }
}
