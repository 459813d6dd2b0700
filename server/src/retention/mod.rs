//! Removing for good what was deleted long ago: runs, experiments, and bytes that nothing names any more.
//!
//! Invariants: a run that a model version was published from stays, and so do bytes that any record or model version of the
//! project names. An upload that found bytes there, and so did not send them again, keeps them for a time of grace
//! (`artifacts.orphan_grace_s`). It reads tracking and the catalogue; neither knows of it.

mod collect;
mod objects;
mod rounds;

use crate::clock::Timestamp;

pub(crate) use collect::collect;
pub(crate) use objects::collect_orphans_forever;
pub(crate) use rounds::rounds;

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// The moment so many days before.
pub(crate) fn days_before(now: Timestamp, days: u32) -> Timestamp {
    Timestamp(now.micros().saturating_sub(i64::from(days) * DAY_MICROS))
}
