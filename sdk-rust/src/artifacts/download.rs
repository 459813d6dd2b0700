//! From artifacts of a run to local files.
//!
//! Invariant: bytes go to a temporary name beside the target, and get the target's name only when size and digest fit; a
//! download that fails or is dropped leaves neither.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mlplat_proto::tracking::v1::{self as pb, download_artifact_response::Part};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
};
use tonic::Request;
use uuid::Uuid;

use super::{Artifact, Artifacts, OnProgress, PARALLEL_FILES, artifacts, path};
use crate::{
    call::CallError,
    error::{Detail, Error, Result},
    retry::Safety,
    tracking::checked_run_id,
};

/// A file under its temporary name; removed when dropped, unless it was given its real one.
struct Unfinished {
    temporary: PathBuf,
}

impl Unfinished {
    fn beside(target: &Path) -> Self {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // Names may be as long as the file system allows, so only a part of it goes into the temporary one.
        let short: String = name.chars().take(40).collect();
        Self {
            temporary: target.with_file_name(format!(".{short}.{}.part", Uuid::new_v4().simple())),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Artifacts {
    /// Downloads a file, or a directory with all below it, into the local directory `into` (made where it does not exist),
    /// and returns where it is now: `into` with the last part of `path`. An empty `path` means all files, into `into`
    /// itself. Files of the same names are replaced.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the run has nothing of that path, [`Error::DataLoss`] when what arrives does not fit its
    /// digest, [`Error::Io`] when it cannot be written.
    pub async fn download(
        &self,
        run_id: &str,
        path: &str,
        into: impl AsRef<Path>,
    ) -> Result<PathBuf> {
        self.download_with(run_id, path, into, OnProgress::default())
            .await
    }

    /// As [`Artifacts::download`], with progress.
    ///
    /// # Errors
    /// As [`Artifacts::download`].
    pub async fn download_with(
        &self,
        run_id: &str,
        path: &str,
        into: impl AsRef<Path>,
        progress: OnProgress,
    ) -> Result<PathBuf> {
        let (run_id, into) = (checked_run_id(run_id)?, into.as_ref());
        let path = if path.is_empty() {
            String::new()
        } else {
            path::checked_local(path)?
        };
        let files = self.list(&run_id, &path).collect(None).await?;
        if files.is_empty() && !path.is_empty() {
            return Err(nothing_at(&run_id, &path));
        }
        // What is cut off is the parent of the thing asked for, so `a/b` becomes `into/b` or `into/b/…`.
        let parent = path.rfind('/').map_or(0, |at| at + 1);
        let total = files.iter().map(|f| f.size_bytes).sum();
        let done = AtomicU64::new(0);
        fs::create_dir_all(into)
            .await
            .map_err(|e| Error::io(into, e))?;
        let downloads = files.into_iter().map(|file| {
            let (run_id, path, done, progress) = (&run_id, &path, &done, &progress);
            async move {
                let inner = path::checked_local(&file.path)?;
                let within = path.is_empty()
                    || inner
                        .strip_prefix(path.as_str())
                        .is_some_and(|r| r.is_empty() || r.starts_with('/'));
                if !within {
                    return Err(Error::protocol("artifact at or below the path asked for"));
                }
                let tell = |bytes| {
                    progress.report(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total)
                };
                self.download_file(run_id, &file, &into.join(&inner[parent..]), &tell)
                    .await
            }
        });
        stream::iter(downloads)
            .buffer_unordered(PARALLEL_FILES)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(if path.is_empty() {
            into.to_path_buf()
        } else {
            into.join(&path[parent..])
        })
    }

    async fn download_file(
        &self,
        run_id: &str,
        file: &Artifact,
        target: &Path,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)
                .await
                .map_err(|e| Error::io(parent, e))?;
        }
        let unfinished = Unfinished::beside(target);
        let message = pb::DownloadArtifactRequest {
            project: self.client.project().to_owned(),
            run_id: run_id.to_owned(),
            path: file.path.clone(),
        };
        let download = self.client.streaming(
            Safety::Repeatable,
            "download_artifact",
            |request_id, remaining| {
                let request = self.client.request(message.clone(), remaining, &request_id);
                self.receive(request, &unfinished.temporary, tell)
            },
        );
        download
            .await
            .map_err(|e| e.context(format_args!("download of {}", file.path)))?;
        fs::rename(&unfinished.temporary, target)
            .await
            .map_err(|e| Error::io(target, e))
    }

    /// Writes one answer to `temporary` and checks it.
    async fn receive(
        &self,
        request: Request<pb::DownloadArtifactRequest>,
        temporary: &Path,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(), CallError> {
        let write_error = |e| CallError::Final(Error::io(temporary, e));
        let mut stream = artifacts(self.client.channel())
            .download_artifact(request)
            .await?
            .into_inner();
        let first = stream.message().await?.and_then(|message| message.part);
        let Some(Part::Artifact(record)) = first else {
            return Err(Error::protocol("artifact record").into());
        };
        let mut file = File::create(temporary).await.map_err(write_error)?;
        let (mut digest, mut size_bytes) = (Sha256::new(), 0_u64);
        while let Some(message) = stream.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(Error::protocol("chunk").into());
            };
            digest.update(&chunk);
            size_bytes += chunk.len() as u64;
            if size_bytes > record.size_bytes {
                break;
            }
            file.write_all(&chunk).await.map_err(write_error)?;
            tell(chunk.len() as u64);
        }
        file.flush().await.map_err(write_error)?;
        if size_bytes != record.size_bytes
            || !hex::encode(digest.finalize()).eq_ignore_ascii_case(&record.sha256)
        {
            let text = format!(
                "the {size_bytes} bytes of `{}` that arrived do not fit its digest",
                record.path
            );
            return Err(Error::data_loss(text).into());
        }
        Ok(())
    }
}

fn nothing_at(run_id: &str, path: &str) -> Error {
    Error::NotFound(Box::new(Detail {
        message: format!("run {run_id} has no artifact `{path}`"),
        reason: "ARTIFACT_NOT_FOUND".into(),
        ..Detail::default()
    }))
}
