//! Waiting until what was logged is delivered, but not for ever.
//!
//! Invariant: every wait is bounded. A server that cannot be reached is not waited for as long as one that is busy: what is
//! in the journal is safe there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Journal, notice};
use crate::client::Client;

/// How long to wait for a run that another process begins.
const FOR_A_RUN: Duration = Duration::from_secs(10);

/// How long to wait for the delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// In all.
    total: Duration,
    /// While nothing can be delivered.
    offline: Duration,
    /// For the end of a try, after others that failed: one that takes longer hangs.
    hanging: Duration,
}

impl Patience {
    /// `MLPLAT_FLUSH_TIMEOUT` (60 s), but only `MLPLAT_OFFLINE_TIMEOUT` (5 s) while the server cannot be reached.
    pub(crate) fn from_env() -> Self {
        Self {
            total: seconds("MLPLAT_FLUSH_TIMEOUT").unwrap_or(Duration::from_secs(60)),
            offline: seconds("MLPLAT_OFFLINE_TIMEOUT").unwrap_or(Duration::from_secs(5)),
            hanging: Duration::from_secs(1),
        }
    }

    /// This long, whether the server can be reached or not.
    pub(crate) fn of(total: Duration) -> Self {
        Self {
            total,
            offline: total,
            hanging: total,
        }
    }

    /// For a call that fails by itself where there is no server.
    fn before_a_call(timeout: Duration) -> Self {
        Self {
            total: timeout,
            offline: Duration::ZERO,
            hanging: timeout,
        }
    }
}

fn seconds(name: &str) -> Option<Duration> {
    let text = std::env::var(name).ok()?;
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

/// How a wait ended.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) enum Delivered {
    /// Everything up to then is at the server.
    All,
    /// So many records are not, and perhaps why.
    Left(u64, Option<Arc<str>>),
}

impl Journal {
    /// Waits until the records up to this number are delivered.
    pub(crate) async fn delivered(&self, up_to: u64, patience: Patience) -> Delivered {
        let mut progress = self.shared.progress.subscribe();
        let (began, tried) = (Instant::now(), progress.borrow().attempts);
        if progress.borrow().acked < up_to {
            self.shared.wake();
        }
        loop {
            {
                let now = progress.borrow_and_update();
                if now.acked >= up_to {
                    return Delivered::All;
                }
                let trouble = now.trouble.as_ref();
                let left = || {
                    let why = trouble.map(|(_, why)| Arc::clone(why));
                    Delivered::Left(up_to - now.acked, why)
                };
                let hopeless = trouble.is_some_and(|(since, _)| {
                    let most = if now.waits_for_run {
                        patience.offline.max(FOR_A_RUN)
                    } else {
                        patience.offline
                    };
                    let tried = now.attempts > tried || began.elapsed() >= patience.hanging;
                    tried && since.elapsed() >= most
                });
                if hopeless || began.elapsed() >= patience.total {
                    return left();
                }
            }
            let most = patience.total.saturating_sub(began.elapsed());
            let tick = most.clamp(Duration::from_millis(1), Duration::from_millis(100));
            let _ = tokio::time::timeout(tick, progress.changed()).await;
        }
    }

    /// Gives the folder up when nothing in it is needed any more: all is delivered, and no run is under way.
    pub(crate) async fn close(&self) {
        const LONGEST: Duration = Duration::from_millis(300);
        if !self.shared.under_way.lock().is_empty() {
            return;
        }
        let mut progress = self.shared.progress.subscribe();
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake();
        let closed = progress.wait_for(|_| !self.shared.closing.load(Ordering::Acquire));
        let _ = tokio::time::timeout(LONGEST, closed).await;
    }
}

/// Delivers what was logged before a call that may need it. When that fails, the call will say why.
pub(crate) async fn deliver_before(client: &Client, timeout: Duration) {
    if let Some(journal) = Journal::existing(client) {
        let up_to = journal.appended();
        let delivered = journal.delivered(up_to, Patience::before_a_call(timeout));
        if matches!(delivered.await, Delivered::All) && up_to > 0 {
            client.note_answer();
        }
    }
}

/// What has not been delivered by this process: records, why, and where they are.
pub(crate) struct Undelivered {
    pub(crate) records: u64,
    pub(crate) in_memory: u64,
    pub(crate) dropped: u64,
    pub(crate) rejected: u64,
    pub(crate) why: Option<Arc<str>>,
    pub(crate) place: String,
}

impl Undelivered {
    /// What to tell people; none where there is nothing to tell.
    pub(crate) fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.records > 0 {
            let why = self.why.as_deref().map(|why| format!(" ({why})"));
            parts.push(format!(
                "{} records are not delivered yet{}. They are safe in {}; the next process that logs to this server delivers \
                 them, or `mlplat sync`",
                self.records,
                why.unwrap_or_default(),
                self.place
            ));
        }
        if self.in_memory > 0 {
            parts.push(format!(
                "BUT THE LAST {} OF THEM ARE ONLY IN MEMORY, as the disk does not take them, and are lost with this process",
                self.in_memory
            ));
        }
        if self.dropped > 0 {
            parts.push(format!(
                "{} RECORDS ARE LOST, as there was no place for them",
                self.dropped
            ));
        }
        if self.rejected > 0 {
            parts.push(format!(
                "{} records were refused by the server; they are kept, and `mlplat sync --rejected` tries them again",
                self.rejected
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Says on stderr what is not delivered after a wait, if anything.
pub(crate) fn tell(journal: &Journal, delivered: &Delivered) {
    let text = journal.undelivered(delivered).text();
    // The end of the last run and the end of the process have the same to say.
    let mut told = journal.shared.told.lock();
    if *told != text
        && let Some(text) = &text
    {
        notice::warn(text);
    }
    *told = text;
}

/// Waits until all that this process logged, to whatever server, is delivered, as at its end: for `timeout`, or else for the
/// time that `MLPLAT_FLUSH_TIMEOUT` (60 s) and, while no server can be reached, `MLPLAT_OFFLINE_TIMEOUT` (5 s) allow. What is
/// left is told on stderr, and the answer is false; it is safe in the journal. It is false too where records were refused or lost.
pub async fn flush_all(timeout: Option<Duration>) -> bool {
    let patience = timeout.map_or_else(Patience::from_env, Patience::of);
    let waits = super::journals().into_iter().map(|journal| async move {
        let delivered = journal.delivered(journal.appended(), patience).await;
        tell(&journal, &delivered);
        journal.close().await;
        journal.has_stored_all(&delivered)
    });
    let done = futures::future::join_all(waits).await;
    done.into_iter().all(|all| all)
}

impl Journal {
    /// Whether the server has, after a wait, all that was logged: nothing is left, lost or refused.
    pub(crate) fn has_stored_all(&self, delivered: &Delivered) -> bool {
        matches!(delivered, Delivered::All)
            && self.dropped() == 0
            && self.shared.progress.borrow().rejected == 0
    }

    /// What there is to tell after a wait.
    pub(crate) fn undelivered(&self, delivered: &Delivered) -> Undelivered {
        let (records, why) = match delivered {
            Delivered::All => (0, None),
            Delivered::Left(records, why) => (*records, why.clone()),
        };
        Undelivered {
            records,
            in_memory: match records {
                0 => 0,
                _ => self.writer.lock().in_memory().min(records),
            },
            dropped: self.dropped(),
            rejected: self.shared.progress.borrow().rejected,
            why,
            place: self.place(),
        }
    }
}
