//! Outlasting a server that is restarted in the middle of a transfer.
//!
//! Invariant: a server that was never there is told soon. One that was is waited for: long where something is under way, else as
//! long as it takes to start it again.

use std::time::Duration;

use crate::{client::Client, error::Error};

/// How often a transfer goes on after the tries of a call are used up; it waits 1 s, 2 s, 4 s, …
const BREAKS: u32 = 7;
/// The same where the server has taken nothing of it so far.
const BREAKS_BEFORE: u32 = 4;

/// The breaks of one transfer so far.
#[derive(Debug, Default)]
pub(super) struct Breaks(u32);

impl Breaks {
    /// Waits, and says whether to go on, after a failure.
    pub(super) async fn outlast(&mut self, client: &Client, error: &Error) -> bool {
        self.outlast_up_to(BREAKS, client, error).await
    }

    /// The same for a transfer of which it is known whether something is under way.
    pub(super) async fn outlast_if(
        &mut self,
        under_way: bool,
        client: &Client,
        error: &Error,
    ) -> bool {
        let most = match under_way {
            true => BREAKS,
            false if client.has_answered() => BREAKS_BEFORE,
            false => 0,
        };
        self.outlast_up_to(most, client, error).await
    }

    async fn outlast_up_to(&mut self, most: u32, client: &Client, error: &Error) -> bool {
        if !matches!(error, Error::Unavailable(_))
            || self.0 >= most
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
