//! Lineage: the OpenLineage events that every change records with itself, and the graph that they make.
//!
//! Invariant: an event is stored in the transaction of the change it tells of, so lineage can neither be lost nor lie.
//! Knows nothing of the other services; they build a [`RunEvent`] with the [`Names`] of their things and call
//! [`store::record`].

mod convert;
mod detours;
mod entity;
mod event;
mod graph;
mod naming;
mod service;
mod start;
pub mod store;
#[cfg(test)]
mod tests;

pub use event::{EventType, RunEvent};
pub use naming::{Dataset, Job, Names};
pub use service::Lineage;
