//! Definitions: what entities, sources, views and services a project has, and how they change.
//!
//! Invariant: a [`Catalog`] that was applied fits together and fitted the data; nothing that a client filled into an output
//! field is kept. This module must not know how features are read.

pub(super) mod apply;
mod catalog;
mod check;
mod compatibility;
mod diff;
mod lineage;
pub(super) mod names;
mod plan;
pub(super) mod read;
mod resolve;
pub(super) mod store;

pub(super) use catalog::{Catalog, Definition, View};
