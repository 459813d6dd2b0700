//! The files of runs: uploaded and downloaded as streams, with their digests checked.
//!
//! Invariant: memory does not grow with the size of a file, and a file is under its name only when all of it is there
//! and fits its digest, on the server as well as on the local disk. What paths are allowed, `path.rs` says.
//!
//! Small files go many at a time, large ones in parts, through the server or (where it offers that) straight to its object store.

mod breaks;
mod direct;
mod download;
mod download_many;
mod meter;
mod path;
mod read;
mod read_at;
mod target;
mod tree;
mod upload;
mod upload_many;
mod upload_parts;

use std::{fmt, path::Path, sync::Arc, time::SystemTime};

use mlplat_proto::tracking::v1::{self as pb, artifact_service_client::ArtifactServiceClient};
use tonic::transport::Channel;

pub use tree::Skipped;
pub use upload::Uploaded;

use crate::{
    call::{MAX_MESSAGE_BYTES, rpc},
    client::Client,
    convert::filled_time,
    error::{Error, Result},
    page::Paged,
    tracking::checked_run_id,
};

/// Calls about the files of runs; from [`Client::artifacts`].
#[derive(Debug, Clone)]
pub struct Artifacts {
    client: Client,
}

/// The record of one file of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Artifact {
    /// Path inside the run.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: String,
    /// Media type, e.g. `image/png`; empty when unknown.
    pub media_type: String,
    /// When it was logged.
    pub created_at: SystemTime,
}

impl Artifact {
    /// Whether a local file has the same content.
    pub(crate) async fn has_content_of(&self, local: &Path) -> Result<bool> {
        let path = local.to_owned();
        let hashed = tokio::task::spawn_blocking(move || tree::hash(&path));
        let (size, sha256) = hashed.await.map_err(upload_many::interrupted)??;
        Ok(size == self.size_bytes && sha256.eq_ignore_ascii_case(&self.sha256))
    }
}

impl From<pb::Artifact> for Artifact {
    fn from(a: pb::Artifact) -> Self {
        Self {
            path: a.path,
            size_bytes: a.size_bytes,
            sha256: a.sha256,
            media_type: a.media_type,
            created_at: filled_time(a.created_at),
        }
    }
}

/// How far a transfer of one or many files is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferProgress {
    /// Bytes moved so far, over all files.
    pub done_bytes: u64,
    /// Bytes to move in all.
    pub total_bytes: u64,
}

/// Told about the progress of a transfer, from the task that does it; should return quickly.
#[derive(Clone, Default)]
pub struct OnProgress(Option<Arc<dyn Fn(TransferProgress) + Send + Sync>>);

impl OnProgress {
    /// Calls `f` about once per MiB.
    pub fn new(f: impl Fn(TransferProgress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(f)))
    }

    fn report(&self, done_bytes: u64, total_bytes: u64) {
        if let Some(f) = &self.0 {
            f(TransferProgress {
                done_bytes,
                total_bytes,
            });
        }
    }
}

impl fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "OnProgress(set)"
        } else {
            "OnProgress(none)"
        })
    }
}

/// How to upload.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct UploadOptions {
    directory: String,
    media_type: String,
    progress: OnProgress,
    through_server: bool,
}

impl UploadOptions {
    /// Directory of the run to put the file or directory into; default: the top.
    pub fn directory(mut self, directory: impl Into<String>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Media type of a file; default: the server guesses it from the name.
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = media_type.into();
        self
    }

    /// Send everything through the server, also where it offers to send large files straight to its object store.
    pub fn through_server(mut self) -> Self {
        self.through_server = true;
        self
    }

    /// Who is told about the progress.
    pub fn progress(mut self, progress: OnProgress) -> Self {
        self.progress = progress;
        self
    }
}

/// The path as the contracts want it.
///
/// # Errors
/// [`Error::Misuse`] when it can be none.
pub(crate) fn checked_path(path: &str) -> Result<String> {
    path::checked(path)
}

fn artifacts(channel: Channel) -> ArtifactServiceClient<Channel> {
    ArtifactServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Artifacts {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The record of one file.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the run has no file of that path.
    pub async fn get(&self, run_id: &str, path: &str) -> Result<Artifact> {
        let request = pb::GetArtifactRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            path: path::checked(path)?,
        };
        let answer = rpc!(self.client, Repeatable, artifacts.get_artifact, request)?;
        answer
            .artifact
            .map(Artifact::from)
            .ok_or_else(|| Error::protocol("artifact"))
    }

    /// The files of a run by path: one file, those below a directory, or (`path` empty) all.
    pub fn list(&self, run_id: &str, path: &str) -> Paged<Artifact> {
        let checked = checked_run_id(run_id).and_then(|id| {
            let path = if path.is_empty() {
                String::new()
            } else {
                path::checked(path)?
            };
            Ok((id, path))
        });
        let (client, checked) = (self.client.clone(), checked.map_err(|e| e.to_string()));
        Paged::new(move |page_token| {
            let (client, checked) = (client.clone(), checked.clone());
            async move {
                let (run_id, path) = checked.map_err(Error::misuse)?;
                let project = client.project().to_owned();
                let request = pb::ListArtifactsRequest {
                    project,
                    run_id,
                    path,
                    page_size: 1000,
                    page_token,
                };
                let answer = rpc!(client, Repeatable, artifacts.list_artifacts, request)?;
                Ok((
                    answer.artifacts.into_iter().map(Artifact::from).collect(),
                    answer.next_page_token,
                ))
            }
        })
    }
}
