//! FinishUpload: the object of its parts, its digest, and then the record.
//!
//! Invariant: no content gets a record before this server has read all of it and found its digest to be the one that was
//! said. That holds for parts that clients sent past it as well.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use mlplat_proto::tracking::v1::{self as pb, finish_upload_response::Progress};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::{
    blobs::Stored,
    convert::{self, NewArtifact},
    digests::Digests,
    incoming, store, uploads,
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    objects::stage::Stage,
    request::project_name,
    tracking::entity::{artifact, artifact_upload as upload},
};

/// Bytes after which the client is told how far it is.
const TELL: u64 = 256 << 20;

/// The messages of the answer.
pub(super) type FinishStream =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::FinishUploadResponse, Status>> + Send>>;

type Sender = mpsc::Sender<std::result::Result<pb::FinishUploadResponse, Status>>;

/// Ends an upload.
pub(super) async fn finish_upload(
    app: &Arc<App>,
    digests: &Digests,
    request: Request<pb::FinishUploadRequest>,
) -> Result<FinishStream> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let (id, sha256) = convert::finish(&message)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;
    let row = uploads::load(app.db.read(), &scope, id).await?;
    let stage = uploads::stage_of(&row);
    let missing = missing_parts(&stage, &app.objects.stored_parts(&stage).await?);
    if let Some(first) = missing {
        let message = format!("part {first} of {} is not stored yet", stage.parts());
        return Err(Error::precondition("PARTS_MISSING", message));
    }

    let (sender, receiver) = mpsc::channel(4);
    let finish = Finish {
        app: Arc::clone(app),
        digests: digests.clone(),
        scope,
        row,
        stage,
        sha256,
        sender: sender.clone(),
    };
    // It stops when nobody listens any more: a client that asks again finds most of it done.
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = finish.run() => outcome,
            () = sender.closed() => return,
        };
        let last = outcome
            .map(|record| told(Progress::Artifact(record.into())))
            .map_err(Status::from);
        let _ = sender.send(last).await;
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn told(progress: Progress) -> pb::FinishUploadResponse {
    pb::FinishUploadResponse {
        progress: Some(progress),
    }
}

fn missing_parts(stage: &Stage, stored: &[u32]) -> Option<u32> {
    (1..=stage.parts()).find(|number| stored.binary_search(number).is_err())
}

/// What it takes to end an upload.
struct Finish {
    app: Arc<App>,
    digests: Digests,
    scope: Scope,
    row: upload::Model,
    stage: Stage,
    sha256: String,
    sender: Sender,
}

impl Finish {
    async fn run(&self) -> Result<artifact::Model> {
        let (app, scope) = (&*self.app, &self.scope);
        let prefix = self.digests.take(self.row.id).await;
        app.objects.assemble(&self.stage).await?;
        let digest = self.digest(prefix).await?;
        if digest != self.sha256 {
            uploads::give_up(app, scope, &self.row).await;
            return Err(incoming::digest_mismatch("sha256", &self.sha256, &digest));
        }
        let new = NewArtifact {
            path: self.row.path.clone(),
            size_bytes: self.row.size_bytes,
            sha256: digest,
            media_type: self.row.media_type.clone(),
        };
        let stored = Stored {
            object_id: Some(self.row.id),
            ranges: BTreeMap::from([(new.sha256.clone(), (0, self.stage.size_bytes))]),
        };
        let recorded = store::record(app, scope, self.row.run_id, vec![new], stored).await;
        if let Err(Error::NotFound { .. }) = recorded {
            // Given up meanwhile: what was assembled after that must go too.
            uploads::give_up(app, scope, &self.row).await;
        }
        recorded?
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal(anyhow::anyhow!("nothing was recorded")))
    }

    /// The digest of the object, of which the first parts may be in one already.
    async fn digest(&self, (mut digest, parts): (Sha256, u32)) -> Result<String> {
        let size = self.stage.size_bytes;
        let mut done = (u64::from(parts) * self.stage.part_bytes).min(size);
        let mut row = self.row.clone();
        let mut told_at = done;
        let mut bytes = self.app.objects.get(&self.stage.key, done..size).await?;
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk?;
            digest.update(&chunk);
            done += chunk.len() as u64;
            if done - told_at >= TELL {
                told_at = done;
                // Nobody has to read it.
                let _ = self.sender.try_send(Ok(told(Progress::CheckedBytes(done))));
                uploads::touch(&self.app, &self.scope, &mut row).await?;
            }
            tokio::task::yield_now().await;
        }
        if done != size {
            return Err(Error::unavailable(
                "OBJECTS_UNAVAILABLE",
                "the object store did not give all bytes back; try again",
            ));
        }
        Ok(hex::encode(digest.finalize()))
    }
}
