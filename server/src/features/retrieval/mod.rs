//! Historical retrieval: entity rows in, the same rows with their features out, over Arrow Flight.
//!
//! Invariant: one result row per entity row, in their order, input columns unchanged; what was read is in the lineage exactly
//! when the client gets the last message. The join itself is in [`super::asof`].

mod batches;
mod entities;
mod flight;
mod join;
mod lineage;
mod query;
mod result;
mod window;

pub use flight::FeatureFlight;
pub(super) use lineage::source_datasets;
