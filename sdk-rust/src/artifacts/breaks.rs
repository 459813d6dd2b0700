//! Outlasting a server that is restarted in the middle of a transfer.
//!
//! Invariant: only what was under way is waited for, so a server that is not there from the start is told soon.

use std::time::Duration;

use crate::{client::Client, error::Error};

/// How often a transfer goes on after the tries of a call are used up; it waits 1 s, 2 s, 4 s, …
const BREAKS: u32 = 7;

/// The breaks of one transfer so far.
#[derive(Debug, Default)]
pub(super) struct Breaks(u32);

impl Breaks {
    /// Waits, and says whether to go on, after a failure.
    pub(super) async fn outlast(&mut self, client: &Client, error: &Error) -> bool {
        if !matches!(error, Error::Unavailable(_))
            || self.0 >= BREAKS
            || client.retry().max_attempts <= 1
        {
            return false;
        }
        tracing::debug!(%error, "the transfer goes on in a moment");
        tokio::time::sleep(Duration::from_secs(1 << self.0)).await;
        self.0 += 1;
        true
    }
}
