//! The bytes of artifacts, on local disk or in S3.
//!
//! Invariant: an object is there whole or not at all, and once [`Upload::finish`] returned it survives a crash of the machine.
//! Keys are made by us, never by users. It must not know what the bytes mean.

mod durable;
mod local;
mod local_stage;
pub mod location;
mod s3;
mod s3_stage;
pub mod sources;
pub mod stage;

use std::ops::Range;

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};

use crate::{config::Config, error::Result};

/// Where objects are.
#[derive(Debug, Clone)]
pub enum Objects {
    /// A folder of this machine.
    Local(local::LocalObjects),
    /// A bucket, with a prefix.
    S3(s3::S3Objects),
}

/// An upload under way. Dropping it leaves no object.
#[derive(Debug)]
pub enum Upload {
    /// Into a folder.
    Local(local::LocalUpload),
    /// Into a bucket.
    S3(s3::S3Upload),
}

impl Objects {
    /// Opens what `artifact_root` names; unset is a folder in the data folder.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        match config.artifact_root.as_deref() {
            Some(root) if root.starts_with("s3://") => {
                let direct = config.artifacts.direct_transfers;
                Ok(Self::S3(
                    s3::S3Objects::open(root, &config.s3, direct).await?,
                ))
            }
            Some(root) if root.contains("://") => {
                anyhow::bail!("artifact_root must be a path or s3://bucket/prefix, not {root}")
            }
            Some(root) => Ok(Self::Local(local::LocalObjects::open(root.into())?)),
            None => Ok(Self::Local(local::LocalObjects::open(
                config.data_dir.join("artifacts"),
            )?)),
        }
    }

    /// Begins to write an object.
    pub async fn begin(&self, key: &str) -> Result<Upload> {
        match self {
            Self::Local(objects) => objects.begin(key).await.map(Upload::Local),
            Self::S3(objects) => objects.begin(key).await.map(Upload::S3),
        }
    }

    /// Reads a range of an object as a stream of chunks; the range must lie within the object.
    #[tracing::instrument(level = "debug", name = "objects.get", skip_all)]
    pub async fn get(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        match self {
            Self::Local(objects) => objects.get(key, range).await,
            Self::S3(objects) => objects.get(key, range).await,
        }
    }

    /// Whether there is such an object.
    #[tracing::instrument(level = "debug", name = "objects.exists", skip_all)]
    pub async fn exists(&self, key: &str) -> Result<bool> {
        match self {
            Self::Local(objects) => objects.exists(key).await,
            Self::S3(objects) => objects.exists(key).await,
        }
    }

    /// Removes an object; one that is not there is fine.
    #[tracing::instrument(level = "debug", name = "objects.delete", skip_all)]
    pub async fn delete(&self, key: &str) -> Result<()> {
        match self {
            Self::Local(objects) => objects.delete(key).await,
            Self::S3(objects) => objects.delete(key).await,
        }
    }

    /// Asks whether objects can be stored at all.
    pub async fn check(&self) -> Result<()> {
        match self {
            Self::Local(objects) => objects.check().await,
            Self::S3(objects) => objects.check().await,
        }
    }
}

impl Upload {
    /// Appends bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self {
            Self::Local(upload) => upload.write(bytes).await,
            Self::S3(upload) => upload.write(bytes).await,
        }
    }

    /// Makes the object appear.
    #[tracing::instrument(level = "debug", name = "objects.put", skip_all)]
    pub async fn finish(self) -> Result<()> {
        match self {
            Self::Local(upload) => upload.finish().await,
            Self::S3(upload) => upload.finish().await,
        }
    }

    /// Gives up, and removes what was written.
    pub async fn abort(self) {
        match self {
            Self::Local(upload) => upload.abort().await,
            Self::S3(upload) => upload.abort().await,
        }
    }
}
