//! Conversions between the types of the contracts and those of `std`.
//!
//! Invariant: no value from the wire panics; what does not fit is clamped (times) or is an error (ids).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlplat_proto::common::v1 as pb;

use crate::error::{Error, Result};

/// A point in time for the wire.
pub(crate) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

/// A point in time from the wire; what `SystemTime` cannot hold is the epoch.
pub(crate) fn system_time(timestamp: prost_types::Timestamp) -> SystemTime {
    SystemTime::try_from(timestamp).unwrap_or(UNIX_EPOCH)
}

/// A point in time that the server always fills.
pub(crate) fn filled_time(timestamp: Option<prost_types::Timestamp>) -> SystemTime {
    timestamp.map_or(UNIX_EPOCH, system_time)
}

/// Microseconds since 1970, as metric points carry them.
pub(crate) fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

/// The time that microseconds since 1970 mean.
pub(crate) fn from_micros(us: i64) -> SystemTime {
    let distance = Duration::from_micros(us.unsigned_abs());
    let time = if us >= 0 {
        UNIX_EPOCH.checked_add(distance)
    } else {
        UNIX_EPOCH.checked_sub(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// A length of time for the wire.
///
/// # Errors
/// [`Error::Misuse`] when it is longer than the wire can say.
pub(crate) fn duration(duration: Duration) -> Result<prost_types::Duration> {
    prost_types::Duration::try_from(duration)
        .map_err(|_| Error::misuse(format!("{duration:?} is too long")))
}

/// A length of time from the wire; a negative one is none.
pub(crate) fn std_duration(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

/// A stretch of time for the wire; none where both ends are open.
pub(crate) fn range(start: Option<SystemTime>, end: Option<SystemTime>) -> Option<pb::TimeRange> {
    (start.is_some() || end.is_some()).then(|| pb::TimeRange {
        start: start.map(timestamp),
        end: end.map(timestamp),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire_on_both_sides_of_1970() {
        for us in [0, 1, -1, 1_700_000_000_123_456, -1_700_000_000_123_456] {
            assert_eq!(micros(from_micros(us)), us);
            assert_eq!(system_time(timestamp(from_micros(us))), from_micros(us));
        }
        assert_eq!(from_micros(i64::MIN), from_micros(i64::MIN), "no panic");
    }
}
