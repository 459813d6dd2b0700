//! Behaviour of the platform, seen through its API. One module per service or concern.

mod admin;
mod artifacts;
mod crash;
mod features;
mod full_disk;
mod histories;
mod journal;
mod keeping;
mod late_writers;
mod lifecycle;
mod measure;
mod new_runs;
mod platform;
mod resumed;
mod rpc_walk;
mod search;
mod search_again;
mod search_random;
mod search_speed;
mod settings;
mod system;
mod traces;
mod tracking;
mod transfers;
