//! When a failed call is tried again, and after how long: exponential backoff with full jitter.
//!
//! Invariant: a call that may have changed something is repeated only where repeating it is safe ([`Safety::Repeatable`]),
//! or where the server cannot have seen it. This module knows statuses and durations, no particular call.

use std::time::Duration;

use tonic::{Code, Status};

use crate::error::never_sent;

/// How often and how long to try again.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Tries in all, the first one included; 1 means never again.
    pub max_attempts: u32,
    /// Longest wait before the second try.
    pub initial_backoff: Duration,
    /// Longest wait before any try.
    pub max_backoff: Duration,
    /// Growth of the wait from try to try.
    pub multiplier: f64,
}

impl Default for RetryPolicy {
    /// Five tries within about 1.5 seconds of waiting.
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            multiplier: 2.0,
        }
    }
}

impl RetryPolicy {
    /// Never tries again.
    pub fn none() -> Self {
        Self {
            max_attempts: 1,
            ..Self::default()
        }
    }

    /// Sets the number of tries in all.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the longest wait before the second try, and before any try.
    #[must_use]
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        (self.initial_backoff, self.max_backoff) = (initial, max);
        self
    }

    /// The longest wait after try number `attempt` (from 1).
    fn ceiling(&self, attempt: u32) -> Duration {
        let growth = self
            .multiplier
            .max(1.0)
            .powi(attempt.saturating_sub(1).min(64) as i32);
        let wait = self.initial_backoff.as_secs_f64() * growth;
        Duration::try_from_secs_f64(wait)
            .unwrap_or(self.max_backoff)
            .min(self.max_backoff)
    }

    /// How long to wait after try number `attempt` (from 1): half of the ceiling for certain, the other half by `jitter`
    /// in 0..=1, so that clients which failed together do not come back together.
    pub(crate) fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        self.ceiling(attempt)
            .mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// Whether to try again after `status` in try number `attempt` (from 1).
    pub(crate) fn again(&self, attempt: u32, safety: Safety, status: &Status) -> bool {
        if attempt >= self.max_attempts {
            return false;
        }
        match safety {
            Safety::Repeatable => {
                status.code() == Code::Unavailable || never_sent(status) || connection_lost(status)
            }
            Safety::Once => never_sent(status),
        }
    }
}

/// Whether doing a call twice is the same as doing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// A read, or a write that the server recognizes when it comes again.
    Repeatable,
    /// Anything else.
    Once,
}

/// A connection that broke under the call shows as UNKNOWN, INTERNAL or CANCELLED with a transport error as its source.
fn connection_lost(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return false;
        }
        if error.is::<tonic::transport::Error>()
            || error.is::<std::io::Error>()
            || error.is::<h2::Error>()
        {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_jitter_stays_within() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait(1, 1.0), Duration::from_millis(100));
        assert_eq!(policy.wait(2, 1.0), Duration::from_millis(200));
        assert_eq!(policy.wait(3, 0.0), Duration::from_millis(200));
        assert_eq!(policy.wait(40, 1.0), policy.max_backoff);
        assert_eq!(policy.wait(u32::MAX, 1.0), policy.max_backoff);
    }

    #[test]
    fn unavailable_is_repeated_only_when_that_is_safe() {
        let policy = RetryPolicy::default();
        let status = Status::unavailable("draining");
        assert!(policy.again(1, Safety::Repeatable, &status));
        assert!(!policy.again(1, Safety::Once, &status));
        assert!(!policy.again(5, Safety::Repeatable, &status));
        assert!(!policy.again(1, Safety::Repeatable, &Status::invalid_argument("no")));
        assert!(!policy.again(1, Safety::Repeatable, &Status::deadline_exceeded("late")));
        assert!(!RetryPolicy::none().again(1, Safety::Repeatable, &status));
    }

    #[test]
    fn what_was_never_sent_is_always_repeated() {
        let status =
            Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert!(RetryPolicy::default().again(1, Safety::Once, &status));
    }

    #[test]
    fn a_reset_connection_is_repeated_when_safe() {
        let status = Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(RetryPolicy::default().again(1, Safety::Repeatable, &status));
        assert!(!RetryPolicy::default().again(1, Safety::Once, &status));
    }
}
