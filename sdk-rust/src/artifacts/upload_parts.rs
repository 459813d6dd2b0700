//! One large file in parts: several at a time, through the server or past it, resumed where it was broken off.
//!
//! Invariant: the digest is of what is read here, the server compares it with what it has stored, and a part is sent again
//! until it is stored; so the content of the record is the content of the file.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mlplat_proto::tracking::v1::{
    self as pb, begin_upload_response::Outcome, finish_upload_response::Progress,
    upload_part_request::Part,
};

use super::{
    Artifact, Artifacts, artifacts,
    breaks::Breaks,
    direct::Direct,
    meter::Meter,
    read_at::read_exact_at,
    tree::{self, BUFFER_BYTES, LocalFile},
    upload_many::interrupted,
};
use crate::{
    call::{CallError, rpc},
    error::{Error, Result},
    outgoing::outgoing,
    retry::Safety,
};

/// Files larger than this go in parts.
pub(super) const LARGE: u64 = 16 << 20;
/// Parts on their way at a time.
const PARALLEL_PARTS: usize = 4;

/// What an upload of parts is about.
struct Upload<'a> {
    artifacts: &'a Artifacts,
    file: &'a LocalFile,
    source: Arc<File>,
    upload_id: String,
    part_bytes: u64,
    direct: Option<Direct>,
    /// Set when the way past the server does not work.
    indirect: AtomicBool,
    meter: Arc<Meter>,
}

impl Artifacts {
    /// Uploads one large file.
    pub(super) async fn upload_large(
        &self,
        run_id: &str,
        mut file: LocalFile,
        meter: Arc<Meter>,
    ) -> Result<Artifact> {
        // A second time, from the start: parts that were stored before may be of what the file was then. And a third one for
        // the case that the first did all but hear the answer.
        let mut restart = false;
        let mut tries = 3;
        let mut breaks = Breaks::default();
        loop {
            let error = match self.try_large(run_id, &mut file, restart, &meter).await {
                Ok(artifact) => return Ok(artifact),
                Err(error) => error,
            };
            // A server that is restarted is soon back, and what it has is not sent again.
            if breaks.outlast(&self.client, &error).await {
                continue;
            }
            tries -= 1;
            let stale = error.reason() == "DIGEST_MISMATCH" || error.reason() == "UPLOAD_NOT_FOUND";
            if !stale || tries == 0 {
                return Err(error.context(format_args!("upload of {}", file.local.display())));
            }
            restart = error.reason() == "DIGEST_MISMATCH";
            if restart {
                file.sha256 = None;
            }
        }
    }

    async fn try_large(
        &self,
        run_id: &str,
        file: &mut LocalFile,
        restart: bool,
        meter: &Arc<Meter>,
    ) -> Result<Artifact> {
        let session = match self.begin(run_id, file, restart, meter).await? {
            Outcome::Artifact(record) => {
                meter.add(file.size_bytes);
                return Ok(record.into());
            }
            Outcome::Session(session) => session,
            Outcome::DigestNeeded(_) => {
                *file = tree::hashed(file.clone()).await?;
                match self.begin(run_id, file, restart, meter).await? {
                    Outcome::Artifact(record) => {
                        meter.add(file.size_bytes);
                        return Ok(record.into());
                    }
                    Outcome::Session(session) => session,
                    Outcome::DigestNeeded(_) => return Err(Error::protocol("upload session")),
                }
            }
        };
        // The digest is computed beside the transfer, of the same bytes, from the cache of the file system.
        let digest = {
            let file = file.clone();
            tokio::task::spawn_blocking(move || match file.sha256 {
                Some(sha256) => Ok((file.size_bytes, sha256)),
                None => tree::hash(&file.local),
            })
        };
        let local = file.local.clone();
        let source = tokio::task::spawn_blocking(move || File::open(&local))
            .await
            .map_err(interrupted)?
            .map_err(|e| Error::io(&file.local, e))?;
        let upload = Upload {
            artifacts: self,
            file,
            source: Arc::new(source),
            upload_id: session.upload_id,
            part_bytes: session.part_bytes.max(1),
            direct: session.direct.then(Direct::new).transpose()?,
            indirect: AtomicBool::new(false),
            meter: meter.clone(),
        };
        upload.send_missing(&session.stored_parts).await?;
        let (size_bytes, sha256) = digest.await.map_err(interrupted)??;
        if size_bytes != file.size_bytes {
            return Err(Error::misuse(format!(
                "`{}` changed while it was uploaded",
                file.local.display()
            )));
        }
        let artifact = upload.finish(&sha256).await;
        file.sha256 = Some(sha256);
        artifact
    }

    async fn begin(
        &self,
        run_id: &str,
        file: &LocalFile,
        restart: bool,
        meter: &Meter,
    ) -> Result<Outcome> {
        let request = pb::BeginUploadRequest {
            project: self.client.project().to_owned(),
            run_id: run_id.to_owned(),
            path: file.path.clone(),
            size_bytes: file.size_bytes,
            sha256: file.sha256.clone().unwrap_or_default(),
            media_type: meter.media_type().to_owned(),
            direct: meter.direct(),
            restart,
            source: file.source(),
        };
        let answer = rpc!(self.client, Repeatable, artifacts.begin_upload, request)?;
        answer
            .outcome
            .ok_or_else(|| Error::protocol("upload session"))
    }
}

impl Upload<'_> {
    async fn send_missing(&self, stored: &[u32]) -> Result<()> {
        let size = self.file.size_bytes;
        let parts = u32::try_from(size.div_ceil(self.part_bytes).max(1))
            .map_err(|_| Error::protocol("sensible size of parts"))?;
        let stored: std::collections::HashSet<u32> = stored.iter().copied().collect();
        self.meter
            .add(stored.iter().map(|number| self.length(*number)).sum());
        let missing = (1..=parts).filter(|number| !stored.contains(number));
        stream::iter(missing.map(Ok))
            .try_for_each_concurrent(PARALLEL_PARTS, |number| self.send_part(number))
            .await
    }

    fn start(&self, number: u32) -> u64 {
        u64::from(number.saturating_sub(1)) * self.part_bytes
    }

    fn length(&self, number: u32) -> u64 {
        let rest = self.file.size_bytes.saturating_sub(self.start(number));
        self.part_bytes.min(rest)
    }

    async fn send_part(&self, number: u32) -> Result<()> {
        if let Some(direct) = &self.direct
            && !self.indirect.load(Ordering::Relaxed)
        {
            match self.send_direct(direct, number).await {
                Ok(()) => {
                    self.meter.add(self.length(number));
                    return Ok(());
                }
                Err(error @ (Error::Io(..) | Error::NotFound(_))) => return Err(error),
                Err(error) => {
                    // The store may be out of this machine's reach; the server is not.
                    tracing::warn!(%error, "sent through the server from now on");
                    self.indirect.store(true, Ordering::Relaxed);
                }
            }
        }
        self.send_through_server(number).await
    }

    async fn send_direct(&self, direct: &Direct, number: u32) -> Result<()> {
        let client = &self.artifacts.client;
        let request = pb::SignUploadPartsRequest {
            project: client.project().to_owned(),
            upload_id: self.upload_id.clone(),
            numbers: vec![number],
        };
        let answer = rpc!(client, Repeatable, artifacts.sign_upload_parts, request)?;
        let url = answer.urls.into_iter().next();
        let url = url.ok_or_else(|| Error::protocol("URL"))?;
        let (source, start, length) = (
            Arc::clone(&self.source),
            self.start(number),
            self.length(number),
        );
        let part = tokio::task::spawn_blocking(move || {
            let length = usize::try_from(length).map_err(std::io::Error::other)?;
            read_exact_at(&source, start, length)
        });
        let part = part
            .await
            .map_err(interrupted)?
            .map_err(|e| Error::io(&self.file.local, e))?;
        direct.put(&url, part).await
    }

    async fn send_through_server(&self, number: u32) -> Result<()> {
        let client = &self.artifacts.client;
        let told = Arc::<AtomicU64>::default();
        let send = client.streaming(
            Safety::Repeatable,
            "upload_part",
            |request_id, remaining| {
                // What was told of a try that failed is not told again.
                let skip = told.load(Ordering::Relaxed);
                let (messages, mut failure) =
                    outgoing(self.messages(number, skip, Arc::clone(&told)));
                let request = client.request(messages, remaining, &request_id);
                let mut stub = artifacts(client.channel());
                async move {
                    failure
                        .or(async { Ok(stub.upload_part(request).await?) })
                        .await?;
                    Ok::<_, CallError>(())
                }
            },
        );
        send.await
    }

    /// The header, then the bytes of the part.
    fn messages(
        &self,
        number: u32,
        skip: u64,
        told: Arc<AtomicU64>,
    ) -> impl Stream<Item = Result<pb::UploadPartRequest>> + Send + 'static {
        let header = pb::UploadPartHeader {
            project: self.artifacts.client.project().to_owned(),
            upload_id: self.upload_id.clone(),
            number,
        };
        let header = stream::once(async {
            Ok(pb::UploadPartRequest {
                part: Some(Part::Header(header)),
            })
        });
        let (start, length) = (self.start(number), self.length(number));
        let (source, local) = (Arc::clone(&self.source), self.file.local.clone());
        let meter = self.meter.clone();
        let chunks = stream::iter((0..length).step_by(BUFFER_BYTES))
            .map(move |at| {
                let (source, local) = (Arc::clone(&source), local.clone());
                let size = (length - at).min(BUFFER_BYTES as u64) as usize;
                let read =
                    tokio::task::spawn_blocking(move || read_exact_at(&source, start + at, size));
                async move {
                    let chunk = read
                        .await
                        .map_err(interrupted)?
                        .map_err(|e| Error::io(&local, e))?;
                    Ok::<_, Error>((at + size as u64, chunk))
                }
            })
            .buffered(2)
            .map(move |chunk| {
                let (end, chunk): (u64, Bytes) = chunk?;
                if end > skip {
                    let new = end - skip.max(end - chunk.len() as u64);
                    told.fetch_add(new, Ordering::Relaxed);
                    meter.add(new);
                }
                Ok(pb::UploadPartRequest {
                    part: Some(Part::Chunk(chunk)),
                })
            });
        header.chain(chunks)
    }

    async fn finish(&self, sha256: &str) -> Result<Artifact> {
        let client = &self.artifacts.client;
        let message = pb::FinishUploadRequest {
            project: client.project().to_owned(),
            upload_id: self.upload_id.clone(),
            sha256: sha256.to_owned(),
        };
        let finish = client.streaming(
            Safety::Repeatable,
            "finish_upload",
            |request_id, remaining| {
                let request = client.request(message.clone(), remaining, &request_id);
                async move {
                    let mut stub = artifacts(client.channel());
                    let mut told = stub.finish_upload(request).await?.into_inner();
                    while let Some(message) = told.message().await? {
                        if let Some(Progress::Artifact(record)) = message.progress {
                            return Ok(Artifact::from(record));
                        }
                    }
                    Err(CallError::Final(Error::protocol("artifact")))
                }
            },
        );
        finish.await
    }
}
