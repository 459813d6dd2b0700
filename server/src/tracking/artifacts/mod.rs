//! ArtifactService: the files of runs.
//!
//! Invariant: bytes lie in the object store under their SHA-256, per project, and a record is made only when all of them are
//! there and fit the digest. So equal content is stored once, and a crash leaves no record without bytes.

mod convert;
mod download;
mod media_type;
mod path;
mod service;
pub(super) mod store;
mod upload;

pub use service::Artifacts;
