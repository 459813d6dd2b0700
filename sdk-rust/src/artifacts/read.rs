//! Ranges of artifacts, read into memory.

use bytes::{Bytes, BytesMut};
use mlplat_proto::tracking::v1::{self as pb, download_artifact_response::Part};

use super::{Artifacts, artifacts, breaks::Breaks, path};
use crate::{
    call::CallError,
    error::{Error, Result},
    retry::Safety,
    tracking::checked_run_id,
};

/// Most bytes of one read.
pub const MAX_READ: u64 = 1 << 30;

impl Artifacts {
    /// Reads a range of a file: `length` bytes from `offset` on, fewer at its end. Such a part cannot be compared with the digest
    /// of the whole; what the server reads is what it had compared when it was uploaded.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the run has no file of that path, [`Error::Misuse`] for more than 1 GiB.
    pub async fn read(&self, run_id: &str, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.read_of(run_id, path, "", offset, length).await
    }

    /// Reads a range of a file that has this very content, for who reads one file in several ranges.
    ///
    /// # Errors
    /// As [`Artifacts::read`]; [`Error::FailedPrecondition`] (`ARTIFACT_CHANGED`) when the file has other content by now.
    pub async fn read_of(
        &self,
        run_id: &str,
        path: &str,
        sha256: &str,
        offset: u64,
        length: u64,
    ) -> Result<Bytes> {
        let (run_id, path) = (checked_run_id(run_id)?, path::checked(path)?);
        if length > MAX_READ {
            return Err(Error::misuse(format!(
                "a read of {length} bytes is more than {MAX_READ}; download the file, or read it in parts"
            )));
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        if sha256.is_empty() {
            self.range(&run_id, &path, sha256, offset, length).await
        } else {
            self.range_under_way(&run_id, &path, sha256, offset, length)
                .await
        }
    }

    /// A range of a file of which others were read: a server that is restarted meanwhile is waited for.
    pub(super) async fn range_under_way(
        &self,
        run_id: &str,
        path: &str,
        sha256: &str,
        offset: u64,
        length: u64,
    ) -> Result<Bytes> {
        let mut breaks = Breaks::default();
        loop {
            match self.range(run_id, path, sha256, offset, length).await {
                Err(error) if breaks.outlast(&self.client, &error).await => {}
                done => return done,
            }
        }
    }

    /// A range of at least one byte; of whatever content where `sha256` is empty.
    pub(super) async fn range(
        &self,
        run_id: &str,
        path: &str,
        sha256: &str,
        offset: u64,
        length: u64,
    ) -> Result<Bytes> {
        let message = pb::DownloadArtifactRequest {
            project: self.client.project().to_owned(),
            run_id: run_id.to_owned(),
            path: path.to_owned(),
            offset,
            length,
            sha256: sha256.to_owned(),
        };
        let read = self.client.streaming(
            Safety::Repeatable,
            "download_artifact",
            |request_id, remaining| {
                let request = self.client.request(message.clone(), remaining, &request_id);
                async move {
                    let mut stream = artifacts(self.client.channel())
                        .download_artifact(request)
                        .await?
                        .into_inner();
                    let first = stream.message().await?.and_then(|message| message.part);
                    let Some(Part::Artifact(record)) = first else {
                        return Err(CallError::Final(Error::protocol("artifact record")));
                    };
                    let expected = length.min(record.size_bytes.saturating_sub(offset));
                    let mut bytes = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0));
                    while let Some(message) = stream.message().await? {
                        let Some(Part::Chunk(chunk)) = message.part else {
                            return Err(Error::protocol("chunk").into());
                        };
                        if (bytes.len() + chunk.len()) as u64 > expected {
                            break;
                        }
                        bytes.extend_from_slice(&chunk);
                    }
                    if bytes.len() as u64 != expected {
                        let text = format!(
                            "{expected} bytes of `{path}` were asked for, and {} arrived",
                            bytes.len()
                        );
                        return Err(Error::data_loss(text).into());
                    }
                    Ok(bytes.freeze())
                }
            },
        );
        read.await
    }
}
