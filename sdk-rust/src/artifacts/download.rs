//! From artifacts of a run to local files.
//!
//! Invariant: bytes go to a temporary name beside the target, and get the target's name only when size and digest fit; a
//! download that fails or is dropped leaves neither. A broken connection costs one range, not the file.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mlplat_proto::tracking::v1::{self as pb, SignedUrl};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    Artifact, Artifacts, OnProgress, artifacts,
    direct::Direct,
    download_many, path,
    target::Target,
    upload_many::{SMALL, interrupted},
};
use crate::{
    call::rpc,
    error::{Detail, Error, Result},
    tracking::checked_run_id,
};

/// Bytes asked for at once; a few of these are in memory.
const RANGE: u64 = 8 << 20;
/// Ranges of one file on their way at a time.
const PARALLEL_RANGES: usize = 4;
/// Calls and files at a time.
const PARALLEL_JOBS: usize = 4;
/// Files from this size on are read past the server, where it offers that.
const DIRECT: u64 = 16 << 20;

/// A download as a whole.
pub(super) struct Download<'a> {
    pub(super) run_id: &'a str,
    pub(super) target: &'a Target,
    /// Bytes of the paths of the run that are cut off.
    pub(super) cut: usize,
    done: AtomicU64,
    total: u64,
    progress: OnProgress,
}

impl Download<'_> {
    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.report(done.min(self.total), self.total);
    }
}

/// What is moved at once.
enum Job {
    Many(Vec<Artifact>),
    One(Artifact),
}

impl Artifacts {
    /// Downloads a file, or a directory with all below it, into the local directory `into` (made where it does not exist),
    /// and returns where it is now: `into` with the last part of `path`. An empty `path` means all files, into `into`
    /// itself. Files of the same names are replaced. Nothing is written outside of `into`, nor through links below it.
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
        let (run_id, into) = (checked_run_id(run_id)?, into.as_ref().to_path_buf());
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
        let cut = path.rfind('/').map_or(0, |at| at + 1);
        for file in &files {
            check_within(&path, &file.path)?;
        }
        let opened = into.clone();
        let (target, files) = tokio::task::spawn_blocking(move || {
            let target = Target::open(&opened)?;
            target.refuse_collisions(files.iter().map(|file| &file.path[cut..]))?;
            Ok::<_, Error>((target, files))
        })
        .await
        .map_err(interrupted)??;
        let download = Download {
            run_id: &run_id,
            target: &target,
            cut,
            done: AtomicU64::new(0),
            total: files.iter().map(|f| f.size_bytes).sum(),
            progress,
        };
        self.download_files(&download, files).await?;
        Ok(if path.is_empty() {
            into
        } else {
            into.join(&path[cut..])
        })
    }

    async fn download_files(&self, download: &Download<'_>, files: Vec<Artifact>) -> Result<()> {
        let (small, larger): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.size_bytes <= SMALL);
        let (large, middling): (Vec<_>, Vec<_>) = larger
            .into_iter()
            .partition(|file| file.size_bytes >= DIRECT);
        let calls = download_many::calls(small).into_iter().map(Job::Many);
        let jobs = calls.chain(middling.into_iter().map(Job::One));
        stream::iter(jobs)
            .map(|job| async {
                match job {
                    Job::Many(files) => self.download_many(download, files).await,
                    Job::One(file) => self.download_file(download, &file, None).await,
                }
            })
            .buffer_unordered(PARALLEL_JOBS)
            .try_collect::<Vec<()>>()
            .await?;
        // One after the other: each is moved in several ranges at a time.
        for file in large {
            let signed = self.signed(download, &file).await?;
            self.download_file(download, &file, signed).await?;
        }
        Ok(())
    }

    /// The way past the server, where there is one.
    async fn signed(
        &self,
        download: &Download<'_>,
        file: &Artifact,
    ) -> Result<Option<(Direct, SignedUrl, u64)>> {
        let request = pb::SignDownloadRequest {
            project: self.client.project().to_owned(),
            run_id: download.run_id.to_owned(),
            path: file.path.clone(),
        };
        let answer = match rpc!(self.client, Repeatable, artifacts.sign_download, request) {
            // An older server.
            Err(Error::Unimplemented(_)) => return Ok(None),
            answer => answer?,
        };
        match answer.url {
            Some(url) => Ok(Some((Direct::new()?, url, answer.start_byte))),
            None => Ok(None),
        }
    }

    async fn download_file(
        &self,
        download: &Download<'_>,
        file: &Artifact,
        signed: Option<(Direct, SignedUrl, u64)>,
    ) -> Result<()> {
        let (chunks, received) = mpsc::channel::<Bytes>(2);
        let (target, record) = (download.target.clone(), file.clone());
        let relative = file.path[download.cut..].to_owned();
        let writing =
            tokio::task::spawn_blocking(move || write(&target, &relative, &record, received));
        let ranges = (0..file.size_bytes).step_by(RANGE as usize).map(|start| {
            let length = RANGE.min(file.size_bytes - start);
            self.fetch(download.run_id, file, &signed, start, length)
        });
        let mut ranges = stream::iter(ranges).buffered(PARALLEL_RANGES);
        let mut failed = None;
        while let Some(range) = ranges.next().await {
            match range {
                Ok(bytes) => {
                    let length = bytes.len() as u64;
                    if chunks.send(bytes).await.is_err() {
                        // The disk said no; what it said comes from there.
                        break;
                    }
                    download.add(length);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(chunks);
        let written = writing.await.map_err(interrupted)?;
        match failed {
            Some(error) => Err(error.context(format_args!("download of {}", file.path))),
            None => written,
        }
    }

    async fn fetch(
        &self,
        run_id: &str,
        file: &Artifact,
        signed: &Option<(Direct, SignedUrl, u64)>,
        start: u64,
        length: u64,
    ) -> Result<Bytes> {
        if let Some((direct, url, at)) = signed {
            match direct.get(url, at + start, length).await {
                Ok(bytes) => return Ok(bytes),
                // The URL has expired, or leads where this machine cannot go; the server is there all the same.
                Err(error) => tracing::debug!(%error, "read through the server"),
            }
        }
        self.range_under_way(run_id, &file.path, &file.sha256, start, length)
            .await
    }
}

/// Writes what comes, and gives it its name when it fits. Blocking.
fn write(
    target: &Target,
    relative: &str,
    record: &Artifact,
    mut received: mpsc::Receiver<Bytes>,
) -> Result<()> {
    let (mut file, unfinished) = target.begin(relative)?;
    let (mut digest, mut size_bytes) = (Sha256::new(), 0_u64);
    while let Some(chunk) = received.blocking_recv() {
        size_bytes += chunk.len() as u64;
        digest.update(&chunk);
        file.write_all(&chunk)
            .map_err(|e| Error::io(unfinished.path(), e))?;
    }
    drop(file);
    let fits = hex::encode(digest.finalize()).eq_ignore_ascii_case(&record.sha256);
    if size_bytes != record.size_bytes || !fits {
        return Err(wrong_digest(&record.path, size_bytes));
    }
    unfinished.finish()
}

pub(super) fn wrong_digest(path: &str, size_bytes: u64) -> Error {
    Error::data_loss(format!(
        "the {size_bytes} bytes of `{path}` that arrived do not fit its digest"
    ))
}

/// The server is asked for files at or below a path, and not trusted to give no others.
fn check_within(asked: &str, given: &str) -> Result<()> {
    let inner = path::checked_local(given)?;
    let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    if inner == given && (asked.is_empty() || given.strip_prefix(asked).is_some_and(below)) {
        return Ok(());
    }
    Err(Error::protocol("artifact at or below the path asked for"))
}

fn nothing_at(run_id: &str, path: &str) -> Error {
    Error::NotFound(Box::new(Detail {
        message: format!("run {run_id} has no artifact `{path}`"),
        reason: "ARTIFACT_NOT_FOUND".into(),
        ..Detail::default()
    }))
}
