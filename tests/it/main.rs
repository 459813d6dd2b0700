//! Behaviour of the platform, seen through its API. One module per service or concern.

mod admin;
mod artifacts;
mod crash;
mod features;
mod full_disk;
mod journal;
mod lifecycle;
mod platform;
mod resumed;
mod rpc_walk;
mod search;
mod settings;
mod traces;
mod tracking;
