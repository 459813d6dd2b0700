//! How long a call is tried, and what its failure means.
//!
//! Invariant: what may work later is tried again; only what the server refuses for good, or fails over for long, is refused.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    record::RunDefinition,
    shared::{Progress, Shared},
};
use crate::error::{Error, Result};

const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A call that is not answered for this long is told of.
const SILENCE: Duration = Duration::from_secs(15);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long a server may fail over one call before its records are taken for the cause.
const DOUBTED: Duration = Duration::from_secs(300);
/// How long the run of another process may be missing before it is taken for deleted; a journal that is left is so old then.
const AWAITED: Duration = Duration::from_secs(3600);
const AWAITED_OF_LEFT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a run is awaited in which one is to be nested. Then it is stored without, which is better than later.
const PARENT_AWAITED: Duration = Duration::from_secs(20);
const PARENT_AWAITED_OF_LEFT: Duration = Duration::from_secs(24 * 3600);

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
    /// Somebody who has found it, so many hours or days after it began: gives up after a while without success.
    Found {
        give_up: Duration,
        age: Duration,
        /// It goes before another one, which waits for it.
        for_another: bool,
    },
}

/// Which run a call needs that may not be there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// None.
    Nothing,
    /// The run itself, which another process begins.
    Run,
    /// The run that this one is nested in.
    Parent,
}

impl Needs {
    /// What the records of a run need.
    pub(super) fn of(run: RunDefinition) -> Self {
        if run.own { Self::Nothing } else { Self::Run }
    }
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

fn verdict(error: &Error, needs: Needs) -> Verdict {
    match error {
        Error::Unavailable(_)
        | Error::DeadlineExceeded(_)
        | Error::Cancelled(_)
        | Error::Unauthenticated(_)
        | Error::ResourceExhausted(_)
        | Error::Aborted(_) => Verdict::Later,
        Error::NotFound(_) if needs != Needs::Nothing && error.reason() == RUN_NOT_FOUND => {
            Verdict::WhenBegun
        }
        Error::Internal(_) | Error::DataLoss(_) | Error::Unimplemented(_) => Verdict::Doubtful,
        _ => Verdict::Refused,
    }
}

impl Manner {
    /// Tries a call until it is done or refused; the inner error says that it is refused. One that is not answered for long is
    /// told of.
    pub(super) async fn until_done<R, F, Fut>(
        &self,
        needs: Needs,
        call: F,
    ) -> Result<Result<R>, GivenUp>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<R>>,
    {
        self.until_moved(needs, || self.watched(call())).await
    }

    /// As [`Manner::until_done`], for what may take long to move.
    pub(super) async fn until_moved<R, F, Fut>(
        &self,
        needs: Needs,
        call: F,
    ) -> Result<Result<R>, GivenUp>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<R>>,
    {
        let (began, mut wait) = (Instant::now(), FIRST_WAIT);
        let mut missing: Option<Instant> = None;
        loop {
            let error = match call().await {
                Ok(answer) => {
                    self.note(None, false);
                    return Ok(Ok(answer));
                }
                Err(error) => error,
            };
            let given_up = match verdict(&error, needs) {
                Verdict::Refused => return Ok(Err(error)),
                Verdict::Doubtful if began.elapsed() > DOUBTED => return Ok(Err(error)),
                Verdict::WhenBegun if self.has_waited(needs, missing) => return Ok(Err(error)),
                Verdict::WhenBegun => {
                    missing.get_or_insert_with(Instant::now);
                    self.note(Some(&error), true)
                }
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

    /// Waits for an answer, and tells who waits for the delivery when there is none for long.
    async fn watched<R>(&self, call: impl Future<Output = Result<R>>) -> Result<R> {
        let Self::Own(shared) = self else {
            return call.await;
        };
        tokio::pin!(call);
        match tokio::time::timeout(SILENCE, &mut call).await {
            Ok(answer) => answer,
            Err(_) => {
                shared.note_silence(SILENCE);
                call.await
            }
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

    /// Whether a run, missing since then, is not waited for any more.
    fn has_waited(&self, needs: Needs, missing: Option<Instant>) -> bool {
        match (self, needs) {
            (_, Needs::Nothing) => true,
            (Self::Own(_), Needs::Run) => missing.is_some_and(|since| since.elapsed() > AWAITED),
            (Self::Own(_), Needs::Parent) => {
                missing.is_some_and(|since| since.elapsed() > PARENT_AWAITED)
            }
            (Self::Found { age, .. }, Needs::Run) => *age > AWAITED_OF_LEFT,
            (Self::Found { age, .. }, Needs::Parent) => *age > PARENT_AWAITED_OF_LEFT,
        }
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

    /// Whether another delivery waits for this one.
    pub(super) fn is_for_another(&self) -> bool {
        matches!(
            self,
            Self::Found {
                for_another: true,
                ..
            }
        )
    }

    /// So much of the place of the journal is free again.
    pub(super) fn give_back(&self, bytes: u64) {
        if let Self::Own(shared) = self {
            shared.give_back(bytes);
        }
    }
}
