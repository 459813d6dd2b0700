//! server

pub mod features;
