//! Features: definitions, historical retrieval, materialization and online reads.

pub mod asof;
