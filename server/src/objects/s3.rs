//! Objects in S3 or anything that speaks its protocol.
//!
//! Small objects go up in one request, larger ones in parts; both appear whole or not at all.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use aws_config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_sdk_s3::{
    Client,
    config::{Credentials, RequestChecksumCalculation},
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;

use crate::{
    config::S3Config,
    error::{Error, Result},
};

/// Size of a part, and of the largest object that goes up in one request. 10,000 parts of it make 156 GiB.
const PART: usize = 16 << 20;
const READ_CHUNK: usize = 256 * 1024;
/// Parts that are in memory at a time, over all uploads in parts.
const SLOTS: usize = 16;

/// A bucket with a prefix.
#[derive(Debug, Clone)]
pub struct S3Objects {
    pub(super) client: Client,
    /// For parts that also come from elsewhere: no checksums that all parts of an object would have to have.
    pub(super) staging: Client,
    pub(super) bucket: String,
    prefix: String,
    /// Set when the bucket was found to be there.
    found: Arc<AtomicBool>,
    /// Parts that are in memory at a time.
    pub(super) slots: Arc<Semaphore>,
    /// Whether clients may be given URLs.
    pub(super) direct: bool,
}

impl S3Objects {
    pub(super) async fn open(root: &str, config: &S3Config, direct: bool) -> anyhow::Result<Self> {
        let rest = root
            .strip_prefix("s3://")
            .context("artifact_root must begin with s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        anyhow::ensure!(!bucket.is_empty(), "artifact_root {root} names no bucket");
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let client = client(config).await;
        let staging = client
            .config()
            .to_builder()
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        Ok(Self {
            client,
            staging: Client::from_conf(staging),
            bucket: bucket.to_owned(),
            prefix,
            found: Arc::default(),
            slots: Arc::new(Semaphore::new(SLOTS)),
            direct,
        })
    }

    pub(super) async fn begin(&self, key: &str) -> Result<S3Upload> {
        self.find_bucket().await?;
        Ok(S3Upload {
            client: self.client.clone(),
            bucket: self.bucket.clone(),
            key: self.key(key),
            pending: BytesMut::new(),
            parts: Vec::new(),
            upload_id: None,
        })
    }

    pub(super) async fn get(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let object = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(key))
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .send()
            .await
            .map_err(|e| self.failure(e))?;
        Ok(
            ReaderStream::with_capacity(object.body.into_async_read(), READ_CHUNK)
                .map_err(|error| {
                    tracing::warn!(%error, "an object could not be read to its end");
                    Error::unavailable(
                        "OBJECTS_UNAVAILABLE",
                        "the object store broke off; try again",
                    )
                })
                .boxed(),
        )
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool> {
        match self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.key(key))
            .send()
            .await
        {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(error)) if error.err().is_not_found() => Ok(false),
            Err(error) => Err(self.failure(error)),
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<()> {
        self.client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.key(key))
            .send()
            .await
            .map_err(|e| self.failure(e))?;
        Ok(())
    }

    pub(super) async fn check(&self) -> Result<()> {
        self.client
            .head_bucket()
            .bucket(&self.bucket)
            .send()
            .await
            .map_err(|error| match &error {
                SdkError::ServiceError(service) if service.err().is_not_found() => {
                    bucket_not_found(&self.bucket)
                }
                _ => self.failure(error),
            })?;
        self.found.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Asked once: some S3 servers take objects for a bucket that nobody has made, and they would be lost there. Who may write
    /// without seeing the bucket goes on.
    pub(super) async fn find_bucket(&self) -> Result<()> {
        if !self.found.load(Ordering::Relaxed)
            && let Err(missing @ Error::FailedPrecondition { .. }) = self.check().await
        {
            return Err(missing);
        }
        Ok(())
    }

    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn failure<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(
        &self,
        error: SdkError<E>,
    ) -> Error {
        failure(&self.bucket, error)
    }
}

async fn client(config: &S3Config) -> Client {
    let http = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(4));
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    } else if config.endpoint.is_some() {
        loader = loader.region(Region::new("us-east-1"));
    }
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        loader = loader.credentials_provider(Credentials::new(
            id,
            secret,
            None,
            None,
            "mlplat configuration",
        ));
    }
    let shared = loader.load().await;
    Client::from_conf(
        aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(config.path_style)
            .build(),
    )
}

fn bucket_not_found(bucket: &str) -> Error {
    Error::precondition(
        "BUCKET_NOT_FOUND",
        format!("the bucket {bucket:?} does not exist or cannot be seen; check artifact_root"),
    )
}

fn failure<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(
    bucket: &str,
    error: SdkError<E>,
) -> Error {
    match error.code() {
        Some("NoSuchBucket") => return bucket_not_found(bucket),
        Some("AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
            return Error::precondition(
                "BUCKET_ACCESS_DENIED",
                format!("the bucket {bucket:?} refuses the credentials of the server"),
            );
        }
        _ => {}
    }
    match &error {
        SdkError::ServiceError(_) => Error::internal(anyhow::Error::new(error).context("S3")),
        _ => {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "S3 cannot be reached"
            );
            Error::unavailable(
                "OBJECTS_UNAVAILABLE",
                "the object store cannot be reached; try again",
            )
        }
    }
}

/// An upload into the bucket.
#[derive(Debug)]
pub struct S3Upload {
    client: Client,
    bucket: String,
    key: String,
    pending: BytesMut,
    parts: Vec<CompletedPart>,
    /// Set from the first part to the end of the upload.
    upload_id: Option<String>,
}

impl S3Upload {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.pending.extend_from_slice(&bytes);
        while self.pending.len() >= PART {
            let part = self.pending.split_to(PART).freeze();
            self.send_part(part).await?;
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.pending).freeze();
        if self.upload_id.is_none() {
            let put = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(&self.key)
                .body(ByteStream::from(rest));
            put.send().await.map_err(|e| failure(&self.bucket, e))?;
            return Ok(());
        }
        if !rest.is_empty() {
            self.send_part(rest).await?;
        }
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(std::mem::take(&mut self.parts)))
            .build();
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .set_upload_id(self.upload_id.clone())
            .multipart_upload(parts)
            .send()
            .await
            .map_err(|e| failure(&self.bucket, e))?;
        self.upload_id = None;
        Ok(())
    }

    pub(super) async fn abort(self) {
        drop(self);
    }

    async fn send_part(&mut self, bytes: Bytes) -> Result<()> {
        if self.upload_id.is_none() {
            let begun = self
                .client
                .create_multipart_upload()
                .bucket(&self.bucket)
                .key(&self.key)
                .send()
                .await;
            self.upload_id = begun.map_err(|e| failure(&self.bucket, e))?.upload_id;
        }
        let number = i32::try_from(self.parts.len() + 1).map_err(Error::internal)?;
        let sent = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .set_upload_id(self.upload_id.clone())
            .part_number(number)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(|e| failure(&self.bucket, e))?;
        self.parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag)
                .build(),
        );
        Ok(())
    }
}

impl Drop for S3Upload {
    /// Parts that never become an object cost money until they are aborted.
    fn drop(&mut self) {
        let Some(upload_id) = self.upload_id.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let abort = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(upload_id);
        runtime.spawn(async move {
            if let Err(error) = abort.send().await {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "an unfinished upload could not be aborted"
                );
            }
        });
    }
}
