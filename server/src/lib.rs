//! The mlplat server: tracking, features, catalogue and lineage behind one authenticated port.
//!
//! Start at [`serve::Server`] for how a request comes in, at [`admin`] for how a service is built, and at ARCHITECTURE.md for the map.

pub mod admin;
pub mod app;
pub mod auth;
pub mod catalogue;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod features;
mod http;
mod idempotency;
mod layers;
pub mod lineage;
pub mod objects;
mod page;
mod request;
mod retention;
pub mod serve;
mod tags;
pub mod telemetry;
pub mod tracking;

pub use error::{Error, Result};
