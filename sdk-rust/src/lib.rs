//! sdk-rust
