//! Behaviour of the platform, seen through its API. One module per service or concern.

mod admin;
mod features;
mod platform;
mod rpc_walk;
