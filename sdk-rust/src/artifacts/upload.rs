//! From local files to artifacts of a run.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::BytesMut;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mlplat_proto::tracking::v1::{self as pb, upload_artifact_request::Part};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::{
    Artifact, Artifacts, OnProgress, UploadOptions, artifacts,
    breaks::Breaks,
    meter::{CallMeter, Meter},
    tree::{self, BUFFER_BYTES, LocalFile, Skipped},
    upload_many::{self, SMALL, interrupted},
    upload_parts::LARGE,
};
use crate::{
    call::CallError,
    error::{Detail, Error, Result},
    outgoing::outgoing,
    retry::Safety,
    tracking::checked_run_id,
};

/// What an upload brought.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uploaded {
    /// Path inside the run of the file or directory that was uploaded.
    pub path: String,
    /// The files, by path.
    pub artifacts: Vec<Artifact>,
    /// What was left out of a directory, and why.
    pub skipped: Vec<Skipped>,
}

/// Jobs at a time: a file, or a call with many of them.
const PARALLEL_JOBS: usize = 4;

impl Artifacts {
    /// Uploads a file, or a directory with all below it, under its own name. A file that changes meanwhile is refused by
    /// the server, as it does not fit its digest.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Misuse`] for names that artifacts cannot have,
    /// [`Error::NotFound`] when there is no such run.
    pub async fn upload(
        &self,
        run_id: &str,
        local: impl AsRef<Path>,
        options: UploadOptions,
    ) -> Result<Uploaded> {
        let run_id = checked_run_id(run_id)?;
        let (files, skipped) = self.scan(local.as_ref(), &options).await?;
        self.upload_files(&run_id, files, skipped, options).await
    }

    /// The path that a local file or directory has in the run: where the same content is already, else where it is uploaded
    /// to. What is not local is taken as a path of the run.
    pub(crate) async fn path_in_run(
        &self,
        run_id: &str,
        path: &Path,
        progress: OnProgress,
    ) -> Result<String> {
        let options = UploadOptions::default().progress(progress);
        if tokio::fs::try_exists(path)
            .await
            .map_err(|e| Error::io(path, e))?
        {
            let (files, skipped) = self.scan(path, &options).await?;
            let files: Vec<LocalFile> = stream::iter(files)
                .map(tree::hashed)
                .buffered(PARALLEL_JOBS)
                .try_collect()
                .await?;
            let logged = self.list(run_id, "").collect(None).await?;
            return match logged_at(&files, &logged) {
                Some(path) => Ok(path),
                None => Ok(self
                    .upload_files(run_id, files, skipped, options)
                    .await?
                    .path),
            };
        }
        let neither = || {
            Error::NotFound(Box::new(Detail {
                message: format!(
                    "`{}` is neither a local file or directory nor an artifact of run {run_id}",
                    path.display()
                ),
                reason: "ARTIFACT_NOT_FOUND".into(),
                ..Detail::default()
            }))
        };
        let inside = path
            .to_str()
            .and_then(|text| super::path::checked(text).ok())
            .ok_or_else(neither)?;
        match self.list(run_id, &inside).next().await? {
            Some(_) => Ok(inside),
            None => Err(neither()),
        }
    }

    /// Lists local files, off the async threads.
    pub(super) async fn scan(
        &self,
        local: &Path,
        options: &UploadOptions,
    ) -> Result<(Vec<LocalFile>, Vec<Skipped>)> {
        let (local, directory) = (PathBuf::from(local), options.directory.clone());
        let scan = tokio::task::spawn_blocking(move || tree::scan(&local, &directory));
        scan.await.map_err(interrupted)?
    }

    pub(super) async fn upload_files(
        &self,
        run_id: &str,
        files: Vec<LocalFile>,
        skipped: Vec<Skipped>,
        options: UploadOptions,
    ) -> Result<Uploaded> {
        let path = top_of(&files, &options.directory);
        let total = files.iter().map(|f| f.size_bytes).sum();
        let meter = Arc::new(Meter::new(total, options));
        let (small, larger): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.size_bytes <= SMALL);
        let (middling, large): (Vec<_>, Vec<_>) = larger
            .into_iter()
            .partition(|file| file.size_bytes <= LARGE);
        let calls = upload_many::calls(small).into_iter().map(Job::Many);
        let jobs = calls.chain(middling.into_iter().map(Job::One));
        let recorded: Vec<Vec<Artifact>> = stream::iter(jobs)
            .map(|job| self.upload_job(run_id, job, &meter))
            .buffer_unordered(PARALLEL_JOBS)
            .try_collect()
            .await?;
        let mut artifacts: Vec<Artifact> = recorded.into_iter().flatten().collect();
        // One after the other: each is moved in several parts at a time.
        for file in large {
            artifacts.push(self.upload_large(run_id, file, meter.clone()).await?);
        }
        artifacts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Uploaded {
            path,
            artifacts,
            skipped,
        })
    }

    /// Does one job, and again after a server that was away.
    async fn upload_job(
        &self,
        run_id: &str,
        job: Job,
        meter: &Arc<Meter>,
    ) -> Result<Vec<Artifact>> {
        let job = match job {
            Job::One(file) => Job::One(tree::hashed(file).await?),
            many => many,
        };
        let (mut breaks, meter) = (Breaks::default(), CallMeter::of(meter));
        loop {
            let done = match &job {
                Job::Many(files) => self.upload_many(run_id, files, &meter).await,
                Job::One(file) => {
                    let artifact = self.upload_file(run_id, file, &meter).await;
                    artifact.map(|artifact| vec![artifact])
                }
            };
            let error = match done {
                Ok(artifacts) => return Ok(artifacts),
                Err(error) => error,
            };
            // Nothing of it is read before there is a connection.
            let under_way = meter.has_moved();
            if !breaks.outlast_if(under_way, &self.client, &error).await {
                return Err(error);
            }
        }
    }

    async fn upload_file(
        &self,
        run_id: &str,
        file: &LocalFile,
        meter: &Arc<CallMeter>,
    ) -> Result<Artifact> {
        let upload = self.client.streaming(
            Safety::Repeatable,
            "upload_artifact",
            |request_id, remaining| {
                meter.begin();
                let meter = Arc::clone(meter);
                async move {
                    let (messages, mut failure) = outgoing(self.messages(run_id, file, meter));
                    let request = self.client.request(messages, remaining, &request_id);
                    let mut stub = artifacts(self.client.channel());
                    let answer = failure
                        .or(async { Ok(stub.upload_artifact(request).await?) })
                        .await?
                        .into_inner();
                    answer
                        .artifact
                        .map(Artifact::from)
                        .ok_or_else(|| CallError::Final(Error::protocol("artifact")))
                }
            },
        );
        upload
            .await
            .map_err(|e| e.context(format_args!("upload of {}", file.local.display())))
    }

    /// The header, then the content in parts.
    fn messages(
        &self,
        run_id: &str,
        file: &LocalFile,
        meter: Arc<CallMeter>,
    ) -> impl Stream<Item = Result<pb::UploadArtifactRequest>> + Send + 'static {
        let header = pb::ArtifactHeader {
            project: self.client.project().to_owned(),
            run_id: run_id.to_owned(),
            path: file.path.clone(),
            size_bytes: file.size_bytes,
            sha256: file.sha256.clone().unwrap_or_default(),
            media_type: meter.media_type().to_owned(),
        };
        let header = pb::UploadArtifactRequest {
            part: Some(Part::Header(header)),
        };
        let local = file.local.clone();
        let chunks = stream::try_unfold((None, local), move |(file, local)| {
            let meter = meter.clone();
            async move {
                let mut file = match file {
                    Some(file) => file,
                    None => File::open(&local).await.map_err(|e| Error::io(&local, e))?,
                };
                let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
                while buffer.len() < BUFFER_BYTES {
                    let read = file
                        .read_buf(&mut buffer)
                        .await
                        .map_err(|e| Error::io(&local, e))?;
                    if read == 0 {
                        break;
                    }
                }
                if buffer.is_empty() {
                    return Ok(None);
                }
                meter.add(buffer.len() as u64);
                let message = pb::UploadArtifactRequest {
                    part: Some(Part::Chunk(buffer.freeze())),
                };
                Ok(Some((message, (Some(file), local))))
            }
        });
        stream::once(async { Ok(header) }).chain(chunks)
    }
}

/// What is moved at once.
enum Job {
    Many(Vec<LocalFile>),
    One(LocalFile),
}

/// Where the run has exactly these files already: the path of the file or directory that was given, wherever it was put.
fn logged_at(files: &[LocalFile], logged: &[Artifact]) -> Option<String> {
    let top = top_of(files, "");
    let known: HashMap<&str, &str> = logged
        .iter()
        .map(|a| (a.path.as_str(), a.sha256.as_str()))
        .collect();
    let first = files.first()?;
    let same = |path: &str, file: &LocalFile| {
        known
            .get(path)
            .zip(file.sha256.as_deref())
            .is_some_and(|(logged, local)| logged.eq_ignore_ascii_case(local))
    };
    // The shortest path first, so that a file at the top is preferred to its copies.
    let mut prefixes: Vec<&str> = logged
        .iter()
        .filter_map(|a| a.path.strip_suffix(first.path.as_str()))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('/'))
        .collect();
    prefixes.sort_by_key(|prefix| prefix.len());
    prefixes.into_iter().find_map(|prefix| {
        let here = format!("{prefix}{top}");
        let below = format!("{here}/");
        let count = logged
            .iter()
            .filter(|a| a.path == here || a.path.starts_with(&below))
            .count();
        let all = files
            .iter()
            .all(|file| same(&format!("{prefix}{}", file.path), file));
        (all && count == files.len()).then_some(here)
    })
}

/// The path of the file or directory that was given: the first part below the target directory.
fn top_of(files: &[LocalFile], directory: &str) -> String {
    let Some(first) = files.first() else {
        return String::new();
    };
    let directory = directory.trim_end_matches('/');
    let depth = if directory.is_empty() {
        1
    } else {
        directory.split('/').count() + 1
    };
    first
        .path
        .split('/')
        .take(depth)
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn local(path: &str, sha256: &str) -> LocalFile {
        LocalFile {
            local: PathBuf::new(),
            path: path.to_owned(),
            size_bytes: 0,
            sha256: Some(sha256.to_owned()),
        }
    }

    fn logged(path: &str, sha256: &str) -> Artifact {
        let (path, sha256) = (path.to_owned(), sha256.to_owned());
        Artifact {
            path,
            size_bytes: 0,
            sha256,
            media_type: String::new(),
            created_at: UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_logged_is_found_wherever_it_was_put() {
        let model = [local("model.pkl", "aa")];
        assert_eq!(
            logged_at(
                &model,
                &[logged("model.pkl", "bb"), logged("old/model.pkl", "aa")]
            )
            .unwrap(),
            "old/model.pkl"
        );
        assert_eq!(
            logged_at(
                &model,
                &[logged("x/model.pkl", "aa"), logged("model.pkl", "aa")]
            )
            .unwrap(),
            "model.pkl"
        );
        assert_eq!(
            logged_at(
                &model,
                &[logged("my-model.pkl", "aa"), logged("model.pkl", "bb")]
            ),
            None
        );
    }

    #[test]
    fn a_logged_directory_must_hold_the_same_files() {
        let dir = [local("out/a", "aa"), local("out/b", "bb")];
        let same = [
            logged("m/out/a", "aa"),
            logged("m/out/b", "bb"),
            logged("m/output", "cc"),
        ];
        assert_eq!(logged_at(&dir, &same).unwrap(), "m/out");
        let more = [
            logged("out/a", "aa"),
            logged("out/b", "bb"),
            logged("out/c", "cc"),
        ];
        assert_eq!(logged_at(&dir, &more), None);
        assert_eq!(logged_at(&dir, &same[..1]), None);
    }

    #[test]
    fn the_top_is_what_was_given() {
        let file = |path| local(path, "");
        assert_eq!(top_of(&[file("model.pkl")], ""), "model.pkl");
        assert_eq!(top_of(&[file("a/b/out/x/y")], "a/b/"), "a/b/out");
        assert_eq!(top_of(&[file("out/x/y")], ""), "out");
    }
}
