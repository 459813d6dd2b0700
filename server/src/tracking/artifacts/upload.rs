//! UploadArtifact: bytes into the object store, then the record.
//!
//! Invariant: memory is bounded by one message; what does not fit its header leaves neither object nor record.

use mlplat_proto::tracking::v1::{self as pb, upload_artifact_request::Part};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Status, Streaming};

use super::{convert::NewArtifact, store};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    objects::Upload,
    request::project_name,
    tracking::{retention, runs},
};

/// Largest chunk; the limit on messages leaves room for more.
const MAX_CHUNK: usize = 4 << 20;

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
    let new = NewArtifact::try_from(&header)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&header.project))
        .await?;
    runs::store::load_run(app.db.read(), &scope, new.run_id).await?;

    retention::claim_bytes(app, &scope, &new.sha256).await?;
    let key = store::object_key(&scope, &new.sha256);
    // What is there already is checked against the digest all the same, and not written again.
    let upload = if app.objects.exists(&key).await? {
        None
    } else {
        Some(app.objects.begin(&key).await?)
    };
    receive(&mut messages, &new, upload).await?;

    let txn = app.db.begin().await?;
    runs::store::lock_run(&txn, &scope, new.run_id).await?;
    let record = store::record_artifact(&txn, &scope, new, app.now()).await?;
    txn.commit().await?;
    Ok(pb::UploadArtifactResponse {
        artifact: Some(record.into()),
    })
}

/// Receives all chunks; what was written becomes an object only when size and digest fit.
async fn receive(
    messages: &mut Streaming<pb::UploadArtifactRequest>,
    new: &NewArtifact,
    mut upload: Option<Upload>,
) -> Result<()> {
    let checked = receive_checked(messages, new, upload.as_mut()).await;
    match (checked, upload) {
        (Ok(()), Some(upload)) => upload.finish().await,
        (Err(error), Some(upload)) => {
            upload.abort().await;
            Err(error)
        }
        (checked, None) => checked,
    }
}

async fn receive_checked(
    messages: &mut Streaming<pb::UploadArtifactRequest>,
    new: &NewArtifact,
    mut upload: Option<&mut Upload>,
) -> Result<()> {
    let expected = u64::try_from(new.size_bytes).unwrap_or_default();
    let (mut received, mut digest) = (0u64, Sha256::new());
    while let Some(part) = next_part(messages).await? {
        let chunk = match part {
            Part::Chunk(chunk) if chunk.len() <= MAX_CHUNK => chunk,
            Part::Chunk(_) => {
                return Err(Error::invalid(
                    "chunk",
                    format!("must have at most {MAX_CHUNK} bytes"),
                ));
            }
            Part::Header(_) => return Err(Error::invalid("header", "must come only once")),
        };
        received += chunk.len() as u64;
        if received > expected {
            return Err(size_mismatch(expected, format!("more than {expected}")));
        }
        digest.update(&chunk);
        if let Some(upload) = upload.as_deref_mut() {
            upload.write(chunk).await?;
        }
    }
    if received < expected {
        return Err(size_mismatch(expected, received.to_string()));
    }
    let digest = hex::encode(digest.finalize());
    if digest != new.sha256 {
        let message = format!(
            "the header says {}, and what arrived has {digest}",
            new.sha256
        );
        return Err(Error::rejected("DIGEST_MISMATCH", "header.sha256", message));
    }
    Ok(())
}

fn size_mismatch(expected: u64, received: String) -> Error {
    let message = format!("the header says {expected} bytes, and {received} arrived");
    Error::rejected("SIZE_MISMATCH", "header.size_bytes", message)
}

/// The next message with content; `None` at the end.
async fn next_part(messages: &mut Streaming<pb::UploadArtifactRequest>) -> Result<Option<Part>> {
    match messages
        .message()
        .await
        .map_err(|status| broken_off(&status))?
    {
        Some(message) => message
            .part
            .map(Some)
            .ok_or_else(|| Error::invalid("part", "must be a header or a chunk")),
        None => Ok(None),
    }
}

/// Why the next message did not come.
fn broken_off(status: &Status) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Error::exhausted(
            "MESSAGE_TOO_LARGE",
            format!("{}; send smaller chunks", status.message()),
        ),
        Code::Internal | Code::InvalidArgument => Error::invalid(
            "part",
            format!("does not fit the contract: {}", status.message()),
        ),
        _ => Error::Aborted {
            reason: "UPLOAD_BROKEN_OFF",
            message: "the upload ended before its end; nothing was stored".to_owned(),
        },
    }
}
