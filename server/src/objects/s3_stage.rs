//! Objects in parts, in S3: a multipart upload, whose parts come through this server or straight from clients.
//!
//! Invariant: what parts there are S3 itself knows, so that any replica can go on with an upload.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::{
    error::{ProvideErrorMetadata as _, SdkError},
    presigning::{PresignedRequest, PresigningConfig},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart, Part},
};
use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    s3::S3Objects,
    stage::{Signed, Stage, wrong_size},
};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
};

/// How long a URL is good.
const URL_LIFE: Duration = Duration::from_secs(3600);

impl S3Objects {
    pub(super) async fn stage(&self, stage: &Stage) -> Result<String> {
        self.find_bucket().await?;
        let begun = self
            .staging
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.key(&stage.key))
            .send()
            .await
            .map_err(|e| self.failure(e))?;
        begun
            .upload_id
            .ok_or_else(|| Error::internal(anyhow::anyhow!("S3 gave no upload id")))
    }

    pub(super) async fn begin_part(
        &self,
        stage: &Stage,
        number: u32,
        (_, length): (u64, u64),
    ) -> Result<S3Part> {
        let slot = self.slots.clone().acquire_owned().await;
        Ok(S3Part {
            objects: self.clone(),
            stage: stage.clone(),
            number,
            length,
            pending: BytesMut::new(),
            _slot: slot.map_err(Error::internal)?,
        })
    }

    pub(super) async fn stored_parts(&self, stage: &Stage) -> Result<Vec<u32>> {
        let parts = self.parts(stage).await?;
        Ok(whole(stage, &parts).map(|(number, _)| number).collect())
    }

    /// What S3 has of the upload, by number.
    async fn parts(&self, stage: &Stage) -> Result<Vec<Part>> {
        let mut pages = self
            .staging
            .list_parts()
            .bucket(&self.bucket)
            .key(self.key(&stage.key))
            .upload_id(&stage.token)
            .into_paginator()
            .send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => parts.extend(page.parts.unwrap_or_default()),
                Err(error) if error.code() == Some("NoSuchUpload") => {
                    return Err(Error::not_found("upload", stage.id));
                }
                Err(error) => return Err(self.failure(error)),
            }
        }
        parts.sort_by_key(|part| part.part_number);
        Ok(parts)
    }

    pub(super) async fn assemble(&self, stage: &Stage) -> Result<()> {
        let parts = match self.parts(stage).await {
            // It was assembled before, and the answer was lost.
            Err(missing @ Error::NotFound { .. }) => {
                return if self.exists(&stage.key).await? {
                    Ok(())
                } else {
                    Err(missing)
                };
            }
            parts => parts?,
        };
        let completed = whole(stage, &parts)
            .map(|(number, part)| {
                CompletedPart::builder()
                    .part_number(number.cast_signed())
                    .set_e_tag(part.e_tag.clone())
                    .build()
            })
            .collect();
        self.staging
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.key(&stage.key))
            .upload_id(&stage.token)
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(completed))
                    .build(),
            )
            .send()
            .await
            .map_err(|e| self.failure(e))?;
        Ok(())
    }

    pub(super) async fn discard(&self, key: &str, token: &str) -> Result<()> {
        if !token.is_empty() {
            let aborted = self
                .staging
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(self.key(key))
                .upload_id(token)
                .send()
                .await;
            match aborted {
                // Assembled, or aborted before.
                Err(SdkError::ServiceError(error))
                    if error.err().code() == Some("NoSuchUpload") => {}
                // What some servers say of an upload that is over. If it is a right that is missing, the bucket's own rule for
                // unfinished uploads has to remove it.
                Err(SdkError::ServiceError(error))
                    if error.err().code() == Some("AccessDenied") =>
                {
                    tracing::warn!(key, "S3 does not let the server abort an unfinished upload");
                }
                aborted => {
                    aborted.map_err(|e| self.failure(e))?;
                }
            }
        }
        self.delete(key).await
    }

    pub(super) async fn sign_part(
        &self,
        stage: &Stage,
        number: u32,
        now: Timestamp,
    ) -> Result<Signed> {
        let signed = self
            .staging
            .upload_part()
            .bucket(&self.bucket)
            .key(self.key(&stage.key))
            .upload_id(&stage.token)
            .part_number(number.cast_signed())
            .presigned(life(now)?)
            .await
            .map_err(|e| self.failure(e))?;
        Ok(signed_url(&signed, now))
    }

    pub(super) async fn sign_get(&self, key: &str, now: Timestamp) -> Result<Signed> {
        let signed = self
            .staging
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(key))
            .presigned(life(now)?)
            .await
            .map_err(|e| self.failure(e))?;
        Ok(signed_url(&signed, now))
    }
}

/// The parts that have the size that they should have, with their numbers.
fn whole<'a>(stage: &'a Stage, parts: &'a [Part]) -> impl Iterator<Item = (u32, &'a Part)> {
    parts.iter().filter_map(|part| {
        let number = u32::try_from(part.part_number?).ok()?;
        let (_, length) = stage.part(number)?;
        (u64::try_from(part.size?) == Ok(length)).then_some((number, part))
    })
}

fn life(now: Timestamp) -> Result<PresigningConfig> {
    let start = UNIX_EPOCH + Duration::from_micros(now.micros().unsigned_abs());
    PresigningConfig::builder()
        .start_time(start)
        .expires_in(URL_LIFE)
        .build()
        .map_err(Error::internal)
}

fn signed_url(signed: &PresignedRequest, now: Timestamp) -> Signed {
    Signed {
        url: signed.uri().to_owned(),
        headers: signed
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        expires_at: Timestamp(now.micros() + URL_LIFE.as_micros() as i64),
    }
}

/// A part on its way into the bucket. It is kept in memory, so that it can be sent again; the number of those is limited.
#[derive(Debug)]
pub struct S3Part {
    objects: S3Objects,
    stage: Stage,
    number: u32,
    length: u64,
    pending: BytesMut,
    _slot: OwnedSemaphorePermit,
}

impl S3Part {
    pub(super) fn write(&mut self, bytes: Bytes) -> Result<()> {
        let received = (self.pending.len() + bytes.len()) as u64;
        if received > self.length {
            return Err(wrong_size(self.number, self.length, received));
        }
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }

    pub(super) async fn finish(self) -> Result<()> {
        let received = self.pending.len() as u64;
        if received != self.length {
            return Err(wrong_size(self.number, self.length, received));
        }
        self.objects
            .staging
            .upload_part()
            .bucket(&self.objects.bucket)
            .key(self.objects.key(&self.stage.key))
            .upload_id(&self.stage.token)
            .part_number(self.number.cast_signed())
            .body(ByteStream::from(self.pending.freeze()))
            .send()
            .await
            .map_err(|error| match error.code() {
                Some("NoSuchUpload") => Error::not_found("upload", self.stage.id),
                _ => self.objects.failure(error),
            })?;
        Ok(())
    }
}
