//! The platform itself: its projects, and facts about the server.
//!
//! The smallest service, and the pattern of the others: `service` parses, authorizes, acts in one transaction and replies;
//! `store` is SQL; `convert` is the two directions between messages and rows.

mod convert;
pub mod entity;
mod service;
pub(crate) mod store;

pub use service::Admin;
