//! Behaviour of the platform, seen through its API. One module per service or concern.

mod admin;
mod artifacts;
mod crash;
mod features;
mod full_disk;
mod journal;
mod keeping;
mod lifecycle;
mod platform;
mod resumed;
mod rpc_walk;
mod search;
mod search_random;
mod search_speed;
mod settings;
mod traces;
mod tracking;
