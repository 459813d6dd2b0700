//! UploadArtifacts: many small files in one stream; their bytes become one object, their records one transaction.
//!
//! Invariant: all of the files are recorded or none. Memory is bounded by one message and a line per file.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use mlplat_proto::tracking::v1 as pb;
use tonic::{Request, Streaming};
use uuid::Uuid;

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
    request::{self, Violations, project_name},
    tracking::{entity::artifact_upload as upload, runs},
};

/// Largest of the files.
pub(super) const MAX_SMALL: usize = 1 << 20;
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 256 << 20;

/// Takes many files.
pub(super) async fn upload_artifacts(
    app: &App,
    request: Request<Streaming<pb::UploadArtifactsRequest>>,
) -> Result<pb::UploadArtifactsResponse> {
    let caller = Caller::of(&request)?;
    let mut messages = request.into_inner();
    let first = incoming::next(&mut messages)
        .await?
        .ok_or_else(|| Error::invalid("run_id", "must be in the first message"))?;
    let mut violations = Violations::new();
    let run_id = violations.parse("run_id", request::uuid(&first.run_id));
    violations.finish()?;
    let run_id = run_id.unwrap_or_default();
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&first.project))
        .await?;
    runs::store::load_run(app.db.read(), &scope, run_id).await?;

    let mut pack = Pack::new(app, &scope, run_id);
    let recorded = async {
        pack.add(first.files).await?;
        while let Some(message) = incoming::next(&mut messages).await? {
            pack.add(message.files).await?;
        }
        pack.record().await
    };
    let artifacts = match recorded.await {
        Ok(recorded) => recorded.into_iter().map(Into::into).collect(),
        Err(error) => {
            if let Some(row) = &pack.row {
                uploads::give_up(app, &scope, row).await;
            }
            return Err(error);
        }
    };
    Ok(pb::UploadArtifactsResponse { artifacts })
}

/// The files that came so far.
struct Pack<'a> {
    app: &'a App,
    scope: &'a Scope,
    run_id: Uuid,
    files: BTreeMap<String, NewArtifact>,
    received: u64,
    /// Of the object; none before there is new content.
    row: Option<upload::Model>,
    upload: Option<Upload>,
    stored: Stored,
    written: u64,
}

impl<'a> Pack<'a> {
    fn new(app: &'a App, scope: &'a Scope, run_id: Uuid) -> Self {
        Self {
            app,
            scope,
            run_id,
            files: BTreeMap::new(),
            received: 0,
            row: None,
            upload: None,
            stored: Stored::default(),
            written: 0,
        }
    }

    /// Takes the files of one message.
    async fn add(&mut self, files: Vec<pb::SmallArtifact>) -> Result<()> {
        let count = self.files.len() + files.len();
        if count > MAX_FILES {
            return Err(Error::invalid(
                "files",
                format!("must be at most {MAX_FILES} in one call"),
            ));
        }
        self.received += files
            .iter()
            .map(|file| file.content.len() as u64)
            .sum::<u64>();
        if self.received > MAX_BYTES {
            return Err(Error::invalid(
                "files",
                format!("must have at most {MAX_BYTES} bytes in one call"),
            ));
        }
        // Hashing is a computation: other requests must not wait for it.
        let checked = tokio::task::spawn_blocking(move || checked(files));
        let checked = checked.await.map_err(Error::internal)??;
        let digests = checked.iter().map(|(new, _)| new.sha256.clone()).collect();
        let known = blobs::keep(self.app, self.scope, digests).await?;
        let mut bytes = BytesMut::new();
        for (new, content) in checked {
            let size = content.len() as u64;
            if !known.contains_key(&new.sha256) && !self.stored.ranges.contains_key(&new.sha256) {
                let start = self.written + bytes.len() as u64;
                bytes.extend_from_slice(&content);
                self.stored.ranges.insert(new.sha256.clone(), (start, size));
            }
            if let Some(twice) = self.files.insert(new.path.clone(), new) {
                let text = format!("the path {} comes twice", request::quoted(&twice.path));
                return Err(Error::invalid("files", text));
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.write(bytes.freeze()).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.upload.is_none() {
            let row = uploads::begin_stream(self.app, self.scope, self.run_id, "").await?;
            let key = blobs::object_key(self.scope.project_id(), row.id);
            self.stored.object_id = Some(row.id);
            self.row = Some(row);
            self.upload = Some(self.app.objects.begin(&key).await?);
        }
        self.written += bytes.len() as u64;
        if let Some(upload) = &mut self.upload {
            upload.write(bytes).await?;
        }
        if let Some(row) = &mut self.row {
            uploads::touch(self.app, self.scope, row).await?;
        }
        Ok(())
    }

    /// Makes bytes and records durable.
    async fn record(&mut self) -> Result<Vec<crate::tracking::entity::artifact::Model>> {
        // Nothing but empty files needs no bytes, yet a place.
        if self.upload.is_none() && !self.stored.ranges.is_empty() {
            self.write(Bytes::new()).await?;
        }
        if let Some(upload) = self.upload.take() {
            upload.finish().await?;
        }
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let files = std::mem::take(&mut self.files).into_values().collect();
        let stored = std::mem::take(&mut self.stored);
        store::record(self.app, self.scope, self.run_id, files, stored).await
    }
}

/// The files of one message, whose contents fit their digests.
fn checked(files: Vec<pb::SmallArtifact>) -> Result<Vec<(NewArtifact, Bytes)>> {
    let mut violations = Violations::new();
    let mut checked = Vec::with_capacity(files.len());
    for (number, file) in files.into_iter().enumerate() {
        if file.content.len() > MAX_SMALL {
            violations.add(
                format!("files[{number}].content"),
                format!("must have at most {MAX_SMALL} bytes; use UploadArtifact"),
            );
        }
        let new = convert::small(&file, number, &mut violations);
        checked.push((new, file.content));
    }
    violations.finish()?;
    for (number, (new, content)) in checked.iter().enumerate() {
        let digest = incoming::digest_of(content);
        if digest != new.sha256 {
            let field = format!("files[{number}].sha256");
            return Err(incoming::digest_mismatch(field, &new.sha256, &digest));
        }
    }
    Ok(checked)
}
