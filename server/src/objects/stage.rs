//! Objects that come in parts: in any order, several at a time, with breaks, on local disk or in S3.
//!
//! Invariant: a part that is said to be stored is on the disk; the object appears under its key when it is assembled,
//! and not before.

use bytes::Bytes;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::{Objects, local_stage::LocalPart, s3_stage::S3Part};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
};

/// Smallest part; small enough to be sent again, large enough for S3 (5 MiB).
const PART: u64 = 16 << 20;
/// Most parts; S3 takes 10,000.
const MAX_PARTS: u64 = 9_000;
const MIB: u64 = 1 << 20;

/// An object in the making.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its id.
    pub id: Uuid,
    /// The key that it will have.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// Size of each part but the last.
    pub part_bytes: u64,
    /// What the object store calls it.
    pub token: String,
}

/// A part on its way. Dropping it stores nothing.
#[derive(Debug)]
pub enum Part {
    /// Into a folder.
    Local(LocalPart),
    /// Into a bucket.
    S3(S3Part),
}

/// Where a client may send or read bytes by itself.
#[derive(Debug)]
pub struct Signed {
    /// The URL.
    pub url: String,
    /// Headers that the request must have.
    pub headers: Vec<(String, String)>,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// Size of the parts of an object of this size.
pub fn part_bytes(size_bytes: u64) -> u64 {
    PART.max(size_bytes.div_ceil(MAX_PARTS).next_multiple_of(MIB))
}

impl Stage {
    /// How many parts there are; an empty object has one, which is empty.
    pub fn parts(&self) -> u32 {
        let parts = self.size_bytes.div_ceil(self.part_bytes.max(1)).max(1);
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    /// First byte and length of a part; none where there is no such part.
    pub fn part(&self, number: u32) -> Option<(u64, u64)> {
        if number == 0 || number > self.parts() {
            return None;
        }
        let start = u64::from(number - 1) * self.part_bytes;
        Some((start, self.part_bytes.min(self.size_bytes - start)))
    }
}

impl Objects {
    /// Makes ready for the parts of an object; the answer is its token.
    pub async fn stage(&self, stage: &Stage) -> Result<String> {
        match self {
            Self::Local(objects) => objects.stage(stage).await,
            Self::S3(objects) => objects.stage(stage).await,
        }
    }

    /// Begins to write a part.
    pub async fn begin_part(&self, stage: &Stage, number: u32) -> Result<Part> {
        let range = stage
            .part(number)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("there is no part {number}")))?;
        match self {
            Self::Local(objects) => objects
                .begin_part(stage, number, range)
                .await
                .map(Part::Local),
            Self::S3(objects) => objects.begin_part(stage, number, range).await.map(Part::S3),
        }
    }

    /// The numbers of the parts that are stored whole, rising.
    pub async fn stored_parts(&self, stage: &Stage) -> Result<Vec<u32>> {
        let stored = match self {
            Self::Local(objects) => objects.stored_parts(stage).await,
            Self::S3(objects) => objects.stored_parts(stage).await,
        };
        match stored {
            // Assembled already, and not recorded: its end was broken off.
            Err(Error::NotFound { .. }) if self.exists(&stage.key).await? => {
                Ok((1..=stage.parts()).collect())
            }
            stored => stored,
        }
    }

    /// Reads a stored part where that is possible before the object is assembled.
    pub async fn read_part(
        &self,
        stage: &Stage,
        number: u32,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        match self {
            Self::Local(objects) => objects.read_part(stage, number).await.map(Some),
            Self::S3(_) => Ok(None),
        }
    }

    /// Makes the object of its parts, which must all be there. Where that was done before it is fine.
    #[tracing::instrument(level = "debug", name = "objects.assemble", skip_all)]
    pub async fn assemble(&self, stage: &Stage) -> Result<()> {
        match self {
            Self::Local(objects) => objects.assemble(stage).await,
            Self::S3(objects) => objects.assemble(stage).await,
        }
    }

    /// Removes all that there is of an object in the making, assembled or not.
    pub async fn discard(&self, id: Uuid, key: &str, token: &str) -> Result<()> {
        match self {
            Self::Local(objects) => objects.discard(id, key).await,
            Self::S3(objects) => objects.discard(key, token).await,
        }
    }

    /// Whether clients may be given URLs to send and read bytes by themselves.
    pub fn offers_direct(&self) -> bool {
        matches!(self, Self::S3(objects) if objects.direct)
    }

    /// A URL to send a part to; none where that is not offered.
    pub async fn sign_part(
        &self,
        stage: &Stage,
        number: u32,
        now: Timestamp,
    ) -> Result<Option<Signed>> {
        match self {
            Self::S3(objects) if objects.direct => {
                objects.sign_part(stage, number, now).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A URL to read an object from; none where that is not offered.
    pub async fn sign_get(&self, key: &str, now: Timestamp) -> Result<Option<Signed>> {
        match self {
            Self::S3(objects) if objects.direct => objects.sign_get(key, now).await.map(Some),
            _ => Ok(None),
        }
    }
}

impl Part {
    /// Appends bytes; more than the part has are an error.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self {
            Self::Local(part) => part.write(bytes).await,
            Self::S3(part) => part.write(bytes),
        }
    }

    /// Stores the part; fewer bytes than it has are an error.
    pub async fn finish(self) -> Result<()> {
        match self {
            Self::Local(part) => part.finish().await,
            Self::S3(part) => part.finish().await,
        }
    }
}

/// What is said of a part that has too few or too many bytes.
pub(super) fn wrong_size(number: u32, expected: u64, received: u64) -> Error {
    Error::rejected(
        "SIZE_MISMATCH",
        "chunk",
        format!("part {number} has {expected} bytes, and {received} arrived"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(size_bytes: u64) -> Stage {
        Stage {
            id: Uuid::nil(),
            key: String::new(),
            size_bytes,
            part_bytes: part_bytes(size_bytes),
            token: String::new(),
        }
    }

    #[test]
    fn parts_cover_the_object_once() {
        for size in [0, 1, PART - 1, PART, PART + 1, 50_000_000_000, 5 << 40] {
            let stage = stage(size);
            assert!(u64::from(stage.parts()) <= MAX_PARTS, "{size}");
            assert_eq!(stage.part(0), None);
            assert_eq!(stage.part(stage.parts() + 1), None);
            let mut end = 0;
            for number in 1..=stage.parts() {
                let (start, length) = stage.part(number).expect("a part");
                assert_eq!(start, end);
                end += length;
            }
            assert_eq!(end, size);
        }
    }
}
