//! ArtifactService: the files of runs.
//!
//! Invariant: a record is made only when all of its bytes are durable and fit its SHA-256, in the transaction that says where
//! they lie (`blobs`). Equal content of a project is stored once. What is written is known before its first byte (`uploads`),
//! so that what a crash leaves is found and removed (`collect`).
//!
//! Small files come and go many at a time and are packed into one object (`upload_many`, `download_many`), middling ones in one
//! stream (`upload`), large ones in parts that can be resumed, through this server or past it (`session`, `finish`).

mod blobs;
mod collect;
mod convert;
mod digests;
mod download;
mod download_many;
mod finish;
mod incoming;
mod media_type;
mod path;
mod service;
mod session;
pub(super) mod store;
mod upload;
mod upload_many;
mod uploads;

pub(crate) use collect::{Claimed, collect_orphans, count_orphans};
pub use service::Artifacts;
