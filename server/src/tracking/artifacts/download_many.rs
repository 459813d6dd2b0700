//! DownloadArtifacts: many small files in one stream.
//!
//! Invariant: files that lie beside each other are read at once; memory is bounded by a few messages.

use std::{ops::Range, pin::Pin, sync::Arc};

use bytes::BytesMut;
use futures::{Stream, StreamExt as _, stream};
use mlplat_proto::tracking::v1 as pb;
use tonic::{Request, Status};

use super::{
    blobs::{self, Location},
    convert::files_of,
    store,
    upload_many::MAX_SMALL,
};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    request::project_name,
    tracking::{entity::artifact, runs},
};

/// Reads at a time.
const PARALLEL: usize = 8;

/// The messages of the answer.
pub(super) type ManyStream =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::DownloadArtifactsResponse, Status>> + Send>>;

/// Sends many files.
pub(super) async fn download_artifacts(
    app: &Arc<App>,
    request: Request<pb::DownloadArtifactsRequest>,
) -> Result<ManyStream> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let (run_id, paths) = files_of(&message)?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(&message.project))
        .await?;

    let conn = app.db.read();
    runs::store::load_run(conn, &scope, run_id).await?;
    let records = store::get_artifacts(conn, &scope, run_id, &paths).await?;
    let large = |record: &&artifact::Model| record.size_bytes > MAX_SMALL as i64;
    if let Some(large) = records.iter().find(large) {
        return Err(Error::precondition(
            "ARTIFACT_TOO_LARGE",
            format!(
                "{:?} has more than {MAX_SMALL} bytes; use DownloadArtifact",
                large.path
            ),
        ));
    }
    let locations = blobs::locate(conn, &scope, &records).await?;
    let pieces = pieces(records.into_iter().zip(locations));
    let app = Arc::clone(app);
    let answers = stream::iter(pieces)
        .map(move |piece| read(Arc::clone(&app), piece))
        .buffered(PARALLEL)
        .map(|answer| answer.map_err(Status::from));
    Ok(Box::pin(answers))
}

/// Files that lie one after the other in one object.
struct Piece {
    location: Location,
    files: Vec<(artifact::Model, Range<usize>)>,
}

fn pieces(files: impl Iterator<Item = (artifact::Model, Location)>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (record, location) in files {
        let size = location.range.end - location.range.start;
        let next = pieces.last_mut().filter(|piece| {
            let read = piece.location.range.end - piece.location.range.start;
            piece.location.key == location.key
                && piece.location.range.end == location.range.start
                && read + size <= MAX_SMALL as u64
        });
        match next {
            Some(piece) => {
                let at = (piece.location.range.end - piece.location.range.start) as usize;
                piece.files.push((record, at..at + size as usize));
                piece.location.range.end = location.range.end;
            }
            None => pieces.push(Piece {
                location,
                files: vec![(record, 0..size as usize)],
            }),
        }
    }
    pieces
}

async fn read(app: Arc<App>, piece: Piece) -> Result<pb::DownloadArtifactsResponse> {
    let expected = piece.location.range.end - piece.location.range.start;
    let mut bytes = BytesMut::new();
    let mut chunks = app
        .objects
        .get(&piece.location.key, piece.location.range)
        .await?;
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    if bytes.len() as u64 != expected {
        return Err(Error::internal(anyhow::anyhow!(
            "an object is not as long as the records of its files say"
        )));
    }
    let bytes = bytes.freeze();
    let files = piece.files.into_iter().map(|(record, range)| {
        let (artifact, content) = (Some(record.into()), bytes.slice(range));
        pb::DownloadedArtifact { artifact, content }
    });
    Ok(pb::DownloadArtifactsResponse {
        files: files.collect(),
    })
}
