//! The model catalogue: registered models, their versions, aliases and life cycle.
//!
//! Invariant: what a version captured when it was published never changes, and its number is never given twice. Reads
//! tracking and features; they know nothing of it.

mod capture;
mod convert;
mod entity;
mod events;
mod service;
mod stage;
pub(crate) mod store;
#[cfg(test)]
mod tests;

pub use service::Catalogue;
