//! How long a call is tried, and what its failure means.
//!
//! Invariant: what may work later is tried again; only what the server refuses for good, or fails over for long, is refused.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::shared::{Progress, Shared};
use crate::error::{Error, Result};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long a server may fail over one call before its records are taken for the cause.
const DOUBTED: Duration = Duration::from_secs(300);
/// How long the run of another process may be missing before it is taken for deleted.
const AWAITED: Duration = Duration::from_secs(3600);

/// What the server says of a run that it does not know.
pub(super) const RUN_NOT_FOUND: &str = "RUN_NOT_FOUND";

/// Delivery was given up for now.
#[derive(Debug)]
pub(super) struct GivenUp(pub(super) Error);

/// Who waits for the delivery.
#[derive(Debug)]
pub(super) enum Manner {
    /// The process that writes the journal: it goes on for ever.
    Own(Arc<Shared>),
    /// Somebody who has found it: gives up after this long without success. A run that is not there is not waited for when
    /// the journal is `old`.
    Found { give_up: Duration, old: bool },
}

/// What a failure means for the call that failed.
enum Verdict {
    /// It will work later.
    Later,
    /// It works when the run is there, which another process begins.
    WhenBegun,
    /// It may work later, or never.
    Doubtful,
    /// It will never work.
    Refused,
}

fn verdict(error: &Error, of_others: bool) -> Verdict {
    match error {
        Error::Unavailable(_)
        | Error::DeadlineExceeded(_)
        | Error::Cancelled(_)
        | Error::Unauthenticated(_)
        | Error::ResourceExhausted(_)
        | Error::Aborted(_) => Verdict::Later,
        Error::NotFound(_) if of_others && error.reason() == RUN_NOT_FOUND => Verdict::WhenBegun,
        Error::Internal(_) | Error::DataLoss(_) | Error::Unimplemented(_) => Verdict::Doubtful,
        _ => Verdict::Refused,
    }
}

impl Manner {
    /// Tries a call until it is done or refused; the inner error says that it is refused. `of_others`: it needs a run that
    /// another process begins.
    pub(super) async fn until_done<R, F, Fut>(
        &self,
        of_others: bool,
        call: F,
    ) -> Result<Result<R>, GivenUp>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<R>>,
    {
        let (began, mut wait) = (Instant::now(), FIRST_WAIT);
        loop {
            let error = match call().await {
                Ok(answer) => {
                    self.note(None, false);
                    return Ok(Ok(answer));
                }
                Err(error) => error,
            };
            let given_up = match verdict(&error, of_others) {
                Verdict::Refused => return Ok(Err(error)),
                Verdict::Doubtful if began.elapsed() > DOUBTED => return Ok(Err(error)),
                Verdict::WhenBegun if began.elapsed() > AWAITED || self.is_old() => {
                    return Ok(Err(error));
                }
                Verdict::WhenBegun => self.note(Some(&error), true),
                Verdict::Later | Verdict::Doubtful => self.note(Some(&error), false),
            };
            if given_up.is_some_and(|after| began.elapsed() >= after) {
                return Err(GivenUp(error));
            }
            self.pause(wait.mul_f64(0.5 + 0.5 * rand::random::<f64>()))
                .await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Tells who waits how it goes; the answer is how long to try.
    fn note(&self, error: Option<&Error>, waits_for_run: bool) -> Option<Duration> {
        match self {
            Self::Own(shared) => {
                shared.note(error, waits_for_run);
                None
            }
            Self::Found { give_up, .. } => Some(*give_up),
        }
    }

    fn is_old(&self) -> bool {
        matches!(self, Self::Found { old: true, .. })
    }

    async fn pause(&self, time: Duration) {
        match self {
            // Who waits for the delivery wants it to be tried now.
            Self::Own(shared) => {
                let _ = tokio::time::timeout(time, shared.wake.notified()).await;
            }
            Self::Found { .. } => tokio::time::sleep(time).await,
        }
    }

    /// Tells who waits that records were refused.
    pub(super) fn note_rejected(&self, records: u64) {
        if let Self::Own(shared) = self {
            let add = |progress: &mut Progress| progress.rejected += records;
            shared.progress.send_modify(add);
        }
    }

    /// So much of the place of the journal is free again.
    pub(super) fn give_back(&self, bytes: u64) {
        if let Self::Own(shared) = self {
            shared.give_back(bytes);
        }
    }
}
