//! UploadArtifact: one file in one stream; bytes into the object store, then the record.
//!
//! Invariant: memory is bounded by one message; what does not fit its header leaves neither object nor record.

use std::collections::BTreeMap;

use bytes::Bytes;
use mlplat_proto::tracking::v1::{self as pb, upload_artifact_request::Part};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Streaming};

use super::{
    blobs::{self, Stored},
    convert::{self, NewArtifact},
    incoming, store, uploads,
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    objects::Upload,
    request::project_name,
    tracking::{entity::artifact_upload as upload, runs},
};

/// Takes one file.
pub(super) async fn upload_artifact(
    app: &App,
    request: Request<Streaming<pb::UploadArtifactRequest>>,
) -> Result<pb::UploadArtifactResponse> {
    let caller = Caller::of(&request)?;
    let mut messages = request.into_inner();
    let header = match next_part(&mut messages).await? {
        Some(Part::Header(header)) => header,
        _ => {
            return Err(Error::invalid(
                "header",
                "must come first, before any chunk",
            ));
        }
    };
    let (run_id, new) = convert::header(&header)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&header.project))
        .await?;
    runs::store::load_run(app.db.read(), &scope, run_id).await?;
    convert::check_size(app, header.size_bytes)?;

    // What is there already is checked against the digest all the same, and not written again.
    let known = blobs::keep(app, &scope, vec![new.sha256.clone()]).await?;
    let recorded = if known.is_empty() {
        let row = uploads::begin_stream(app, &scope, run_id, &new.path).await?;
        match store_bytes(app, &scope, &mut messages, &new, row.clone()).await {
            Ok(stored) => match store::record(app, &scope, run_id, vec![new], stored).await {
                Ok(recorded) => recorded,
                Err(error) => {
                    uploads::give_up(app, &scope, &row).await;
                    return Err(error);
                }
            },
            Err(error) => {
                uploads::give_up(app, &scope, &row).await;
                return Err(error);
            }
        }
    } else {
        receive(&mut messages, &new, None).await?;
        store::record(app, &scope, run_id, vec![new], Stored::default()).await?
    };
    Ok(pb::UploadArtifactResponse {
        artifact: recorded.into_iter().next().map(Into::into),
    })
}

/// The object that takes what comes.
struct Target<'a> {
    app: &'a App,
    scope: &'a Scope,
    upload: Upload,
    row: upload::Model,
}

impl Target<'_> {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.upload.write(chunk).await?;
        uploads::touch(self.app, self.scope, &mut self.row).await
    }
}

/// Writes what comes into an object, which is there only when size and digest fit.
async fn store_bytes(
    app: &App,
    scope: &Scope,
    messages: &mut Streaming<pb::UploadArtifactRequest>,
    new: &NewArtifact,
    row: upload::Model,
) -> Result<Stored> {
    let object_id = row.id;
    let key = blobs::object_key(scope.project_id(), object_id);
    let upload = app.objects.begin(&key).await?;
    let mut target = Target {
        app,
        scope,
        upload,
        row,
    };
    match receive(messages, new, Some(&mut target)).await {
        Ok(size) => {
            target.upload.finish().await?;
            Ok(Stored {
                object_id: Some(object_id),
                ranges: BTreeMap::from([(new.sha256.clone(), (0, size))]),
            })
        }
        Err(error) => {
            target.upload.abort().await;
            Err(error)
        }
    }
}

/// Receives all chunks, and compares size and digest at the end.
async fn receive(
    messages: &mut Streaming<pb::UploadArtifactRequest>,
    new: &NewArtifact,
    mut target: Option<&mut Target<'_>>,
) -> Result<u64> {
    let expected = u64::try_from(new.size_bytes).unwrap_or_default();
    let (mut received, mut digest) = (0u64, Sha256::new());
    while let Some(part) = next_part(messages).await? {
        let Part::Chunk(chunk) = part else {
            return Err(Error::invalid("header", "must come only once"));
        };
        incoming::checked_chunk(chunk.len())?;
        received += chunk.len() as u64;
        if received > expected {
            return Err(size_mismatch(expected, format!("more than {expected}")));
        }
        digest.update(&chunk);
        if let Some(target) = target.as_deref_mut() {
            target.write(chunk).await?;
        }
    }
    if received < expected {
        return Err(size_mismatch(expected, received.to_string()));
    }
    let digest = hex::encode(digest.finalize());
    if digest == new.sha256 {
        Ok(received)
    } else {
        Err(incoming::digest_mismatch(
            "header.sha256",
            &new.sha256,
            &digest,
        ))
    }
}

fn size_mismatch(expected: u64, received: String) -> Error {
    let message = format!("the header says {expected} bytes, and {received} arrived");
    Error::rejected("SIZE_MISMATCH", "header.size_bytes", message)
}

/// The next message with content; `None` at the end.
async fn next_part(messages: &mut Streaming<pb::UploadArtifactRequest>) -> Result<Option<Part>> {
    match incoming::next(messages).await? {
        Some(message) => message
            .part
            .map(Some)
            .ok_or_else(|| Error::invalid("part", "must be a header or a chunk")),
        None => Ok(None),
    }
}
