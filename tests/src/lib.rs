//! What the behaviour tests share: a real server in the process, on SQLite or PostgreSQL, on local files or S3.
//!
//! `MLPLAT_TEST_DATABASE_URL` chooses PostgreSQL; every server then has a schema of its own. Callers are told apart by the
//! metadata key [`CALLER`]; a request without it comes from the owner.

pub mod binary;
mod database;
pub mod parquet;
pub mod rpc;
pub mod s3;
mod server;

pub use database::TestDatabase;
pub use server::{CALLER, TestServer, TestServerBuilder};

/// Letters that no compression makes small.
pub fn random_text(length: usize) -> String {
    use rand::RngExt as _;
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(rng.random_range(b'a'..=b'z')))
        .collect()
}
