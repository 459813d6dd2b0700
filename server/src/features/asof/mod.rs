//! The point-in-time join: for every entity row, the feature row that was valid and known at that row's time.
//!
//! Arrow in, Arrow out. [`AsOf`] answers historical retrieval, [`Latest`] materialization; both order feature
//! rows by the same rank, so offline and online agree by construction. The meaning of every rule is that of the
//! feature semantics: inclusive bounds, instants compared in nanoseconds, the winner is the greatest event
//! timestamp, then the greatest created timestamp (null lowest), then the row written last.
//!
//! Invariants: one output row per entity row, in its order; the answer does not depend on how feature rows are cut
//! into batches; memory grows with entity rows and winners, never with feature rows, and has a limit.
//!
//! This module must not know gRPC, databases, object stores or query engines. Whoever scans the feature side may
//! push its rows in any time order, and may skip what [`AsOf::pruning`] rules out.
//!
//! ```text
//! entity rows -> key groups -> per group the sorted distinct timestamps ("slots")
//! feature row -> availability = event_ts (or max(event_ts, created_ts)) -> first slot at or after it
//!             -> per slot only the greatest rank is kept -> at the end a running maximum over each group's slots
//! ```

mod budget;
mod columns;
mod error;
mod join;
mod keys;
mod latest;
mod matches;
mod pruning;
mod slots;
mod storage;
mod time;
mod winners;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use columns::{EntitySide, FeatureSide};
pub use error::{AsOfError, ErrorKind};
pub use join::{AsOf, AsOfOptions};
pub use latest::Latest;
pub use matches::Matches;
pub use pruning::{ColumnRange, Pruning};

/// What the functions of this module return.
pub type Result<T, E = AsOfError> = std::result::Result<T, E>;
