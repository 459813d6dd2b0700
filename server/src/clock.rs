//! Time as the server knows it: microseconds since 1970 in UTC, read from a clock that tests can replace.
//!
//! Invariant: nothing in the server asks the operating system for the time but [`SystemClock`].

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// A point in time: microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From the wire; `None` when the time is outside the years 1 to 9999 or the nanoseconds are not valid.
    /// What is finer than a microsecond is cut off.
    pub fn from_proto(at: &prost_types::Timestamp) -> Option<Self> {
        let valid = (-62_135_596_800..=253_402_300_799).contains(&at.seconds)
            && (0..1_000_000_000).contains(&at.nanos);
        valid.then(|| Self(at.seconds * 1_000_000 + i64::from(at.nanos / 1000)))
    }

    /// To the wire.
    pub fn to_proto(self) -> prost_types::Timestamp {
        prost_types::Timestamp {
            seconds: self.0.div_euclid(1_000_000),
            nanos: i32::try_from(self.0.rem_euclid(1_000_000) * 1000).unwrap_or_default(),
        }
    }

    /// From RFC 3339 text such as `2026-01-02T03:04:05Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos().div_euclid(1000))
            .ok()
            .map(Self)
    }

    /// RFC 3339 with microseconds, e.g. `2026-01-02T03:04:05.000000Z`, as OpenLineage wants it.
    pub fn rfc3339(self) -> String {
        let format = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        );
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000)
            .ok()
            .and_then(|at| at.format(&format).ok())
            .unwrap_or_else(|| "1970-01-01T00:00:00.000000Z".to_owned())
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the operating system"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    /// A clock that shows `at`.
    pub fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        self.0.fetch_add(
            i64::try_from(by.as_micros()).unwrap_or_default(),
            Ordering::SeqCst,
        );
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_and_back() {
        for micros in [0, 1, -1, 1_767_312_000_123_456, -62_135_596_800_000_000] {
            let at = Timestamp(micros);
            assert_eq!(Timestamp::from_proto(&at.to_proto()), Some(at));
        }
        assert_eq!(
            Timestamp::from_proto(&prost_types::Timestamp {
                seconds: 0,
                nanos: -1
            }),
            None
        );
        assert_eq!(
            Timestamp::from_proto(&prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
    }

    #[test]
    fn text_and_back() {
        let at = Timestamp(1_767_312_000_123_456);
        assert_eq!(at.rfc3339(), "2026-01-02T00:00:00.123456Z");
        assert_eq!(Timestamp::parse(&at.rfc3339()), Some(at));
        assert_eq!(
            Timestamp::parse("2026-01-02T01:00:00+01:00"),
            Some(Timestamp(1_767_312_000_000_000))
        );
    }
}
