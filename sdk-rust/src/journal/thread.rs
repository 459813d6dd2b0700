//! The thread that delivers the journal of this process, says that it lives, and looks after what dead ones left behind.
//!
//! Invariant: it starts with the first record and lives as long as the process. It holds no lock while it waits for the
//! network, so no caller ever waits for it.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mlplat_proto::tracking::v1 as pb;

use super::{
    Journal,
    courier::{Courier, tracking},
    folder::{self, Folder},
    leftovers, notice,
    reader::Reader,
    retries::Manner,
    window::Window,
};
use crate::{call::rpc, client::Client};

/// How often to look for new records while some came lately.
const POLL: Duration = Duration::from_millis(20);
/// Without any for this long, the writer wakes the thread.
const SLEEPS_AFTER: Duration = Duration::from_secs(2);
/// The folder is given up after this long without anything to do.
const RETIRES_AFTER: Duration = Duration::from_secs(1);
/// Longest pause between two deliveries of a busy process.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often other machines are told that this process lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// How often at least it is looked whether one is due.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Starts the thread.
pub(super) fn start(journal: &Arc<Journal>) {
    let journal = Arc::clone(journal);
    let thread = std::thread::Builder::new().name("mlplat-journal".to_owned());
    let spawned = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            // A bug must not end the delivery: it begins again, and what comes twice is recognized.
            Ok(runtime) => {
                let work = || runtime.block_on(run(&journal));
                while std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Err(error) => undelivered(&error),
        }
    });
    if let Err(error) = spawned {
        undelivered(&error);
    }
}

fn undelivered(error: &std::io::Error) {
    notice::warn(&format!(
        "the thread that delivers what is logged cannot be started: {error}. It is kept; `mlplat sync` delivers it"
    ));
}

async fn run(journal: &Arc<Journal>) {
    let client = match journal.settings.clone().without_journal().build() {
        Ok(client) => client,
        Err(error) => return notice::warn(&format!("what is logged cannot be delivered: {error}")),
    };
    let life = tokio::spawn(signs_of_life(Arc::clone(journal), client.clone()));
    let others = tokio::spawn(leftovers::look_after(Arc::clone(journal), client.clone()));
    let reader = Reader::own(journal.folder.clone(), Arc::clone(&journal.writer));
    let courier = Courier::new(
        client,
        journal.writer_id,
        journal.folder.clone(),
        journal.home.clone(),
        Manner::Own(Arc::clone(&journal.shared)),
    );
    let mut delivery = Delivery {
        journal,
        reader,
        courier,
        window: Window::default(),
        said: notice::Once::default(),
    };
    let result = AssertUnwindSafe(delivery.run());
    let result = futures::FutureExt::catch_unwind(result).await;
    life.abort();
    others.abort();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

struct Delivery<'a> {
    journal: &'a Arc<Journal>,
    reader: Reader,
    courier: Courier,
    window: Window,
    said: notice::Once,
}

impl Delivery<'_> {
    async fn run(&mut self) {
        let shared = &self.journal.shared;
        let mut busy = Instant::now();
        loop {
            let began = Instant::now();
            self.read();
            self.note_lost();
            if self.window.records > 0 {
                self.deliver().await;
                busy = Instant::now();
                if self.window.is_full() {
                    continue;
                }
                // Who logs all the time is delivered in larger batches; a single record goes at once.
                self.pause((began.elapsed() * 4).clamp(POLL, LONGEST_PAUSE))
                    .await;
                continue;
            }
            let closing = shared.closing.load(Ordering::Acquire);
            if closing || busy.elapsed() > RETIRES_AFTER {
                self.journal.retire_if_idle();
            }
            if closing {
                shared.closing.store(false, Ordering::Release);
                shared.progress.send_modify(|_| {});
            }
            if busy.elapsed() < SLEEPS_AFTER {
                self.pause(POLL).await;
            } else {
                self.sleep().await;
            }
        }
    }

    /// Fills the window with what is there.
    fn read(&mut self) {
        let limit = self.journal.shared.appended();
        self.window.clear();
        while !self.window.is_full() {
            match self.reader.next(limit) {
                Ok(Some((numbered, definitions))) => self.window.push(&numbered, definitions),
                Ok(None) => break,
                Err(error) => {
                    let place = self.journal.place();
                    self.said.warn("read", || {
                        format!("{place} cannot be read: {error}; this is tried again")
                    });
                    break;
                }
            }
        }
        self.window.end = self.reader.position();
    }

    /// What is lost is counted, and waited for no more: no window that holds it will ever be delivered.
    fn note_lost(&mut self) {
        let shared = &self.journal.shared;
        self.journal.writer.lock().look_at_guard();
        let lost = self.reader.take_lost();
        if lost > 0 {
            shared.dropped.fetch_add(lost, Ordering::Relaxed);
        }
        if lost > 0 && self.window.records == 0 {
            let number = self.window.end.number;
            shared.progress.send_modify(|progress| {
                progress.acked = progress.acked.max(number);
            });
        }
    }

    async fn deliver(&mut self) {
        let delivered = self
            .courier
            .deliver(&self.window, &self.reader.definitions)
            .await;
        if delivered.is_err() {
            // It never gives up on the journal of its own process.
            return;
        }
        let end = self.window.end;
        self.journal.shared.progress.send_modify(|progress| {
            progress.acked = progress.acked.max(end.number);
        });
        if let Some(folder) = &self.journal.folder {
            note_acked(folder, end);
        }
        if self.journal.writer.lock().forget(end) {
            self.reader.follow();
        }
        self.courier.remove_segments(&self.reader, end.segment);
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.journal.shared.wake.notified()).await;
    }

    /// Waits until there is something new; looks once a second, as nothing orders the two sides.
    async fn sleep(&self) {
        let shared = &self.journal.shared;
        shared.asleep.store(true, Ordering::SeqCst);
        if shared.appended() == self.reader.position().number {
            self.pause(Duration::from_secs(1)).await;
        }
        shared.asleep.store(false, Ordering::Relaxed);
    }
}

/// Notes what is delivered. It is only advice, so a disk that is full is no trouble.
pub(super) fn note_acked(folder: &Folder, end: folder::Position) {
    let noted = folder
        .open_acked()
        .and_then(|mut file| folder::write_acked(&mut file, end));
    if let Err(error) = noted {
        tracing::debug!(%error, "what is delivered could not be noted");
    }
}

/// Tells other machines, and the server, that this process lives.
async fn signs_of_life(journal: Arc<Journal>, client: Client) {
    let (mut interval, mut touched) = (SIGN_OF_LIFE, Instant::now());
    let mut told: Option<Instant> = None;
    let mut progress = journal.shared.progress.subscribe();
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        // A run may begin at any time, and is told of then.
        let due = told.map_or(LONGEST_LOOK, |last| interval.saturating_sub(last.elapsed()));
        let _ = tokio::time::timeout(due.min(LONGEST_LOOK), progress.changed()).await;
        if touched.elapsed() >= SIGN_OF_LIFE {
            touched = Instant::now();
            if let Some(folder) = journal.folder.as_ref().filter(|folder| folder.exists()) {
                let _ = folder.touch();
            }
        }
        let runs = journal.shared.heartbeats();
        if runs.is_empty() {
            told = None;
        } else if told.is_none_or(|last| last.elapsed() >= interval) {
            told = Some(Instant::now());
            if let Some(seconds) = heartbeat(&journal, &client, runs).await {
                interval = Duration::from_secs(u64::from(seconds.clamp(1, 3600)));
            }
        }
    }
}

/// One heartbeat; the answer is when to send the next one.
async fn heartbeat(journal: &Journal, client: &Client, run_ids: Vec<String>) -> Option<u32> {
    let request = pb::HeartbeatRunsRequest {
        last_heard_at: None,
        writer_id: journal.writer_id.to_string(),
        project: client.project().to_owned(),
        run_ids,
    };
    let answer = rpc!(client, Repeatable, tracking.heartbeat_runs, request);
    match answer {
        Ok(answer) => {
            for run in answer.ended_run_ids {
                journal.shared.note_ended_elsewhere(&run);
            }
            Some(answer.interval_s)
        }
        Err(error) => {
            tracing::debug!(%error, "a heartbeat failed");
            None
        }
    }
}
