//! BeginUpload, UploadPart, SignUploadParts: one large file in parts, which survive breaks of the connection and of the server.
//!
//! Invariant: what an upload is stands in its row and its parts in the object store, so that any replica goes on with it.

use std::sync::Arc;

use mlplat_proto::tracking::v1::{
    self as pb, begin_upload_response::Outcome, upload_part_request::Part,
};
use tonic::{Request, Streaming};
use uuid::Uuid;

use super::{
    blobs::{self, Stored},
    convert::{self, NewArtifact},
    digests::Digests,
    incoming, store, uploads,
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    objects::stage,
    request::{self, Violations, project_name},
    tracking::{entity::artifact_upload as upload, runs},
};

/// Begins an upload, or goes on with it.
pub(super) async fn begin_upload(
    app: &App,
    request: Request<pb::BeginUploadRequest>,
) -> Result<pb::BeginUploadResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let (run_id, new) = convert::begin(&message)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;
    runs::store::load_run(app.db.read(), &scope, run_id).await?;
    convert::check_size(app, message.size_bytes)?;

    let found = uploads::find(app.db.read(), &scope, run_id, &new, &message.source).await?;
    let found = match found {
        Some(row) if message.restart => {
            uploads::give_up(app, &scope, &row).await;
            None
        }
        found => found,
    };
    let outcome = match found {
        Some(row) => match go_on(app, &scope, row, &message).await? {
            Some(session) => Outcome::Session(session),
            None => begin_new(app, &scope, run_id, new, &message).await?,
        },
        None => begin_new(app, &scope, run_id, new, &message).await?,
    };
    Ok(pb::BeginUploadResponse {
        outcome: Some(outcome),
    })
}

/// The session of an upload that was begun before; none when its parts are gone.
async fn go_on(
    app: &App,
    scope: &Scope,
    mut row: upload::Model,
    message: &pb::BeginUploadRequest,
) -> Result<Option<pb::UploadSession>> {
    uploads::touch(app, scope, &mut row).await?;
    match app.objects.stored_parts(&uploads::stage_of(&row)).await {
        Ok(parts) => Ok(Some(session(app, &row, parts, message.direct))),
        Err(Error::NotFound { .. }) => {
            uploads::give_up(app, scope, &row).await;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn begin_new(
    app: &App,
    scope: &Scope,
    run_id: Uuid,
    new: NewArtifact,
    message: &pb::BeginUploadRequest,
) -> Result<Outcome> {
    if new.sha256.is_empty() {
        if blobs::any_of_size(app.db.read(), scope, new.size_bytes).await? {
            return Ok(Outcome::DigestNeeded(pb::DigestNeeded {}));
        }
    } else if !blobs::keep(app, scope, vec![new.sha256.clone()])
        .await?
        .is_empty()
    {
        let recorded = store::record(app, scope, run_id, vec![new], Stored::default()).await?;
        return recorded
            .into_iter()
            .next()
            .map(|record| Outcome::Artifact(record.into()))
            .ok_or_else(|| Error::internal(anyhow::anyhow!("nothing was recorded")));
    }
    let now = app.now().micros();
    let part_bytes = stage::part_bytes(message.size_bytes);
    let mut row = upload::Model {
        id: Uuid::now_v7(),
        project_id: scope.project_id(),
        run_id,
        path: new.path,
        size_bytes: new.size_bytes,
        sha256: new.sha256,
        media_type: new.media_type,
        source: message.source.clone(),
        part_bytes: 0,
        stage: String::new(),
        created_at: now,
        used_at: now,
    };
    // Known before there is anything in the object store, and found by others only when that is ready.
    let txn = app.db.begin().await?;
    uploads::begin(&txn, scope, &row).await?;
    txn.commit().await?;
    row.part_bytes = i64::try_from(part_bytes).map_err(Error::internal)?;
    row.stage = app.objects.stage(&uploads::stage_of(&row)).await?;
    uploads::set_stage(app, scope, &row).await?;
    Ok(Outcome::Session(session(
        app,
        &row,
        Vec::new(),
        message.direct,
    )))
}

fn session(
    app: &App,
    row: &upload::Model,
    stored_parts: Vec<u32>,
    direct: bool,
) -> pb::UploadSession {
    pb::UploadSession {
        upload_id: row.id.to_string(),
        part_bytes: uploads::stage_of(row).part_bytes,
        stored_parts,
        direct: direct && app.objects.offers_direct(),
    }
}

/// Stores one part.
pub(super) async fn upload_part(
    app: &Arc<App>,
    digests: &Digests,
    request: Request<Streaming<pb::UploadPartRequest>>,
) -> Result<pb::UploadPartResponse> {
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
    let mut violations = Violations::new();
    let id = violations.parse("header.upload_id", request::uuid(&header.upload_id));
    violations.finish()?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&header.project))
        .await?;
    let mut row = uploads::load(app.db.read(), &scope, id.unwrap_or_default()).await?;
    let stage = uploads::stage_of(&row);
    check_number(&stage, header.number)?;
    uploads::touch(app, &scope, &mut row).await?;

    let mut part = app.objects.begin_part(&stage, header.number).await?;
    while let Some(message) = next_part(&mut messages).await? {
        let Part::Chunk(chunk) = message else {
            return Err(Error::invalid("header", "must come only once"));
        };
        incoming::checked_chunk(chunk.len())?;
        part.write(chunk).await?;
    }
    part.finish().await?;
    digests.part_stored(app, &stage, header.number);
    Ok(pb::UploadPartResponse {})
}

fn check_number(stage: &stage::Stage, number: u32) -> Result<()> {
    if stage.part(number).is_some() {
        return Ok(());
    }
    let parts = stage.parts();
    Err(Error::invalid(
        "number",
        format!("must be 1 to {parts}, is {number}"),
    ))
}

/// URLs for parts.
pub(super) async fn sign_upload_parts(
    app: &App,
    request: Request<pb::SignUploadPartsRequest>,
) -> Result<pb::SignUploadPartsResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let id = convert::parts_to_sign(&message)?;
    let scope = caller
        .authorize(app, Action::WriteRuns, &project_name(&message.project))
        .await?;
    let mut row = uploads::load(app.db.read(), &scope, id).await?;
    uploads::touch(app, &scope, &mut row).await?;
    let stage = uploads::stage_of(&row);
    let mut urls = Vec::with_capacity(message.numbers.len());
    for number in message.numbers {
        check_number(&stage, number)?;
        let signed = app.objects.sign_part(&stage, number, app.now()).await?;
        let signed = signed.ok_or_else(|| {
            Error::precondition(
                "DIRECT_TRANSFERS_OFF",
                "this server does not offer to send parts past it; use UploadPart",
            )
        })?;
        urls.push(signed.into());
    }
    Ok(pb::SignUploadPartsResponse { urls })
}

impl From<stage::Signed> for pb::SignedUrl {
    fn from(signed: stage::Signed) -> Self {
        Self {
            url: signed.url,
            headers: signed.headers.into_iter().collect(),
            expires_at: Some(signed.expires_at.to_proto()),
        }
    }
}

/// The next message with content; `None` at the end.
async fn next_part(messages: &mut Streaming<pb::UploadPartRequest>) -> Result<Option<Part>> {
    match incoming::next(messages).await? {
        Some(message) => message
            .part
            .map(Some)
            .ok_or_else(|| Error::invalid("part", "must be a header or a chunk")),
        None => Ok(None),
    }
}
