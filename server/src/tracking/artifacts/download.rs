//! DownloadArtifact: the record, then the bytes.
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

use super::{convert::file_of, store};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    request::project_name,
    tracking::runs,
};

/// Bytes in one message.
const CHUNK: usize = 512 * 1024;

/// The messages of a download.
pub(super) type DownloadStream =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::DownloadArtifactResponse, Status>> + Send>>;

/// Sends one file.
pub(super) async fn download_artifact(
    app: &App,
    request: Request<pb::DownloadArtifactRequest>,
) -> Result<DownloadStream> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let (run_id, path) = file_of(&message.run_id, &message.path)?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;

    let conn = app.db.read();
    runs::store::load_run(conn, &scope, run_id).await?;
    let record = store::get_artifact(conn, &scope, run_id, &path).await?;
    let bytes = app
        .objects
        .get(&store::object_key(&scope, &record.sha256))
        .await?;
    let chunks = Chunks {
        bytes,
        pending: BytesMut::new(),
        missing: record.size_bytes,
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

/// The bytes of an object, in chunks of one size.
struct Chunks {
    bytes: BoxStream<'static, Result<Bytes>>,
    pending: BytesMut,
    missing: i64,
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.pending.len() < CHUNK {
            let Some(bytes) = self.bytes.next().await else {
                break;
            };
            self.pending.extend_from_slice(&bytes?);
        }
        if self.pending.is_empty() {
            return if self.missing == 0 {
                Ok(None)
            } else {
                Err(wrong_size(self.missing))
            };
        }
        let chunk = self
            .pending
            .split_to(self.pending.len().min(CHUNK))
            .freeze();
        self.missing -= i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        if self.missing < 0 {
            Err(wrong_size(self.missing))
        } else {
            Ok(Some(chunk))
        }
    }
}

fn wrong_size(missing: i64) -> Error {
    Error::internal(anyhow::anyhow!(
        "an artifact is not as long as its record says: {missing} bytes are missing"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lengths(parts: &[usize], size: i64) -> Result<Vec<usize>> {
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
    async fn chunks_have_one_size() {
        let parts = [100, CHUNK, CHUNK * 2, 5];
        let size = i64::try_from(parts.iter().sum::<usize>()).expect("small");
        assert_eq!(
            lengths(&parts, size).await.expect("whole"),
            [CHUNK, CHUNK, CHUNK, 105]
        );
        assert_eq!(lengths(&[], 0).await.expect("empty"), [0; 0]);
    }

    #[tokio::test]
    async fn a_wrong_size_is_an_error() {
        assert!(lengths(&[10], 11).await.is_err());
        assert!(lengths(&[10], 9).await.is_err());
    }
}
