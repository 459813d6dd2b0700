//! Behaviour of the platform, seen through its API. One module per service or concern.

mod admin;
mod artifacts;
mod crash;
mod features;
mod full_disk;
mod lifecycle;
mod platform;
mod rpc_walk;
mod search;
mod traces;
mod tracking;
mod transfers;
