//! DownloadArtifact: the record, then the bytes or a range of them. SignDownload: where to read them past this server.
//!
//! Invariant: memory is bounded by a chunk; bytes that are fewer or more than the record says end in an error, never in a
//! file that looks whole.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use mlplat_proto::tracking::v1::{self as pb, download_artifact_response::Part};
use tonic::{Request, Status};
use uuid::Uuid;

use super::{
    blobs::{self, Location},
    convert::{expected_digest, file_of},
    store,
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    request::project_name,
    tracking::{entity::artifact, runs},
};

/// Bytes in one message: at least this, but for the last one, and at most twice this.
const CHUNK: usize = 512 * 1024;

/// The messages of a download.
pub(super) type DownloadStream =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::DownloadArtifactResponse, Status>> + Send>>;

/// Sends one file, or a range of it.
pub(super) async fn download_artifact(
    app: &App,
    request: Request<pb::DownloadArtifactRequest>,
) -> Result<DownloadStream> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let (run_id, path) = file_of(&message.run_id, &message.path)?;
    let expected = expected_digest(&message.sha256)?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;

    let (record, location) = find(app, &scope, run_id, &path).await?;
    if expected.is_some_and(|digest| digest != record.sha256) {
        return Err(Error::precondition(
            "ARTIFACT_CHANGED",
            format!("{path:?} has other content by now"),
        ));
    }
    let start = location
        .range
        .end
        .min(location.range.start.saturating_add(message.offset));
    let end = match message.length {
        0 => location.range.end,
        length => location.range.end.min(start.saturating_add(length)),
    };
    let chunks = Chunks {
        bytes: app.objects.get(&location.key, start..end).await?,
        pending: BytesMut::new(),
        missing: end - start,
    };
    let first = pb::DownloadArtifactResponse {
        part: Some(Part::Artifact(record.into())),
    };
    let rest = stream::try_unfold(chunks, |mut chunks| async move {
        let chunk = chunks.next().await?;
        Ok(chunk.map(|chunk| {
            (
                pb::DownloadArtifactResponse {
                    part: Some(Part::Chunk(chunk)),
                },
                chunks,
            )
        }))
    });
    Ok(Box::pin(stream::once(async { Ok(first) }).chain(rest)))
}

/// Where to read one file past this server.
pub(super) async fn sign_download(
    app: &App,
    request: Request<pb::SignDownloadRequest>,
) -> Result<pb::SignDownloadResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let (run_id, path) = file_of(&message.run_id, &message.path)?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;

    let (record, location) = find(app, &scope, run_id, &path).await?;
    // A URL leads to a whole object: one that holds other files as well is not for who may read this one.
    let alone = location.range.start == 0 && !blobs::is_shared(app, &scope, &record).await?;
    let signed = if alone {
        app.objects.sign_get(&location.key, app.now()).await?
    } else {
        None
    };
    Ok(pb::SignDownloadResponse {
        artifact: Some(record.into()),
        url: signed.map(Into::into),
        start_byte: location.range.start,
    })
}

async fn find(
    app: &App,
    scope: &Scope,
    run_id: Uuid,
    path: &str,
) -> Result<(artifact::Model, Location)> {
    let conn = app.db.read();
    runs::store::load_run(conn, scope, run_id).await?;
    let record = store::get_artifact(conn, scope, run_id, path).await?;
    let located = blobs::locate(conn, scope, std::slice::from_ref(&record)).await?;
    match located.into_iter().next() {
        Some(location) => Ok((record, location)),
        None => Err(Error::internal(anyhow::anyhow!("an artifact has no place"))),
    }
}

/// The bytes of an object, in chunks of about one size.
struct Chunks {
    bytes: BoxStream<'static, Result<Bytes>>,
    pending: BytesMut,
    missing: u64,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut whole = None;
        while self.pending.len() < CHUNK {
            let Some(bytes) = self.bytes.next().await else {
                break;
            };
            let bytes = bytes?;
            if self.pending.is_empty() && (CHUNK..=2 * CHUNK).contains(&bytes.len()) {
                // Most of what comes from a disk: it need not be copied.
                whole = Some(bytes);
                break;
            }
            self.pending.extend_from_slice(&bytes);
        }
        let chunk = match whole {
            Some(bytes) => bytes,
            None => self
                .pending
                .split_to(self.pending.len().min(CHUNK))
                .freeze(),
        };
        if chunk.is_empty() {
            return if self.missing == 0 {
                Ok(None)
            } else {
                Err(wrong_size(self.missing))
            };
        }
        self.missing = self
            .missing
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| wrong_size(0))?;
        Ok(Some(chunk))
    }
}

fn wrong_size(missing: u64) -> Error {
    Error::internal(anyhow::anyhow!(
        "an artifact is not as long as its record says: {missing} bytes are missing"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lengths(parts: &[usize], size: u64) -> Result<Vec<usize>> {
        let parts: Vec<Result<Bytes>> = parts
            .iter()
            .map(|length| Ok(Bytes::from(vec![7; *length])))
            .collect();
        let mut chunks = Chunks {
            bytes: stream::iter(parts).boxed(),
            pending: BytesMut::new(),
            missing: size,
        };
        let mut lengths = Vec::new();
        while let Some(chunk) = chunks.next().await? {
            lengths.push(chunk.len());
        }
        Ok(lengths)
    }

    #[tokio::test]
    async fn chunks_have_about_one_size() {
        let parts = [100, CHUNK, CHUNK * 2, 5];
        let size = parts.iter().sum::<usize>() as u64;
        assert_eq!(
            lengths(&parts, size).await.expect("whole"),
            [CHUNK, CHUNK, CHUNK, 105]
        );
        assert_eq!(
            lengths(&[CHUNK * 2, CHUNK, 1], CHUNK as u64 * 3 + 1)
                .await
                .expect("whole"),
            [CHUNK * 2, CHUNK, 1]
        );
        assert_eq!(lengths(&[], 0).await.expect("empty"), [0; 0]);
    }

    #[tokio::test]
    async fn a_wrong_size_is_an_error() {
        assert!(lengths(&[10], 11).await.is_err());
        assert!(lengths(&[10], 9).await.is_err());
    }
}
