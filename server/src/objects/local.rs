//! Objects in a folder: written beside, synced, renamed into place.

use std::{
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{fs, io::AsyncWriteExt as _};
use uuid::Uuid;

use super::durable;
use crate::error::{Error, Result};

/// Bytes read at once.
const READ_CHUNK: u64 = 1 << 20;
/// Folder of uploads that are under way; emptied at start.
const UNFINISHED: &str = ".unfinished";

/// Folder of uploads that come in parts; they outlive a restart.
const STAGED: &str = ".staged";

/// A folder of objects.
#[derive(Debug, Clone)]
pub struct LocalObjects {
    root: PathBuf,
    pub(super) staged: PathBuf,
}

impl LocalObjects {
    pub(super) fn open(root: PathBuf) -> anyhow::Result<Self> {
        let unfinished = root.join(UNFINISHED);
        if unfinished.is_dir() {
            std::fs::remove_dir_all(&unfinished)
                .with_context(|| format!("{} cannot be emptied", unfinished.display()))?;
        }
        std::fs::create_dir_all(&unfinished)
            .with_context(|| format!("{} cannot be made", unfinished.display()))?;
        let staged = root.join(STAGED);
        std::fs::create_dir_all(&staged)
            .with_context(|| format!("{} cannot be made", staged.display()))?;
        Ok(Self { root, staged })
    }

    pub(super) async fn begin(&self, key: &str) -> Result<LocalUpload> {
        let temporary = self.root.join(UNFINISHED).join(Uuid::now_v7().to_string());
        let file = fs::File::create_new(&temporary).await?;
        Ok(LocalUpload {
            file,
            temporary: Temporary(temporary),
            target: self.path(key)?,
        })
    }

    pub(super) async fn get(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let path = self.path(key)?;
        let file = tokio::task::spawn_blocking(move || std::fs::File::open(path))
            .await
            .map_err(Error::internal)??;
        Ok(read_range(Arc::new(file), range))
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool> {
        Ok(fs::try_exists(self.path(key)?).await?)
    }

    pub(super) async fn delete(&self, key: &str) -> Result<()> {
        match fs::remove_file(self.path(key)?).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) async fn check(&self) -> Result<()> {
        let probe = self
            .root
            .join(UNFINISHED)
            .join(format!("probe-{}", Uuid::now_v7()));
        let written = fs::write(&probe, b"ok").await;
        // What is left of a failed probe must go too.
        let _ = fs::remove_file(&probe).await;
        written.map_err(|error| match Error::from(error) {
            full @ Error::ResourceExhausted { .. } => full,
            _ => Error::unavailable("OBJECTS_UNAVAILABLE", "the artifact root cannot be written"),
        })
    }

    /// Keys are ours; the check is there so that a mistake of ours cannot leave the folder.
    pub(super) fn path(&self, key: &str) -> Result<PathBuf> {
        let plain = key
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
            && !key.contains('\0');
        if plain {
            Ok(self.root.join(key))
        } else {
            Err(Error::internal(anyhow::anyhow!(
                "object key {key:?} is not plain"
            )))
        }
    }
}

/// The bytes of a range of a file; one chunk is read ahead while the last one is used.
pub(super) fn read_range(
    file: Arc<std::fs::File>,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    let end = range.end;
    let starts = stream::iter((range.start..end).step_by(READ_CHUNK as usize));
    starts
        .map(move |start| {
            let (file, length) = (Arc::clone(&file), READ_CHUNK.min(end - start));
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; length as usize];
                file.read_exact_at(&mut chunk, start)?;
                std::io::Result::Ok(Bytes::from(chunk))
            });
            async move { Ok(read.await.map_err(Error::internal)??) }
        })
        .buffered(2)
        .boxed()
}

/// A file that is removed when its upload is dropped.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename it is not there any more, which is fine.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An upload into the folder.
#[derive(Debug)]
pub struct LocalUpload {
    file: fs::File,
    temporary: Temporary,
    target: PathBuf,
}

impl LocalUpload {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        Ok(self.file.write_all(&bytes).await?)
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let folder = self
            .target
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        durable::create_dir_all(&folder).await?;
        fs::rename(&self.temporary.0, &self.target).await?;
        // The new name itself must be on the disk as well.
        durable::sync_dir(&folder).await
    }

    pub(super) async fn abort(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn an_object_is_whole_or_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = LocalObjects::open(folder.path().to_owned()).expect("opened");
        let mut upload = objects.begin("a/b").await.expect("begun");
        upload
            .write(Bytes::from_static(b"hello"))
            .await
            .expect("written");
        assert!(!objects.exists("a/b").await.expect("asked"));
        upload.finish().await.expect("finished");
        for (range, content) in [(0..5, b"hello".as_slice()), (1..4, b"ell")] {
            let read: Vec<Bytes> = objects
                .get("a/b", range)
                .await
                .expect("there")
                .try_collect()
                .await
                .expect("read");
            assert_eq!(read.concat(), content);
        }

        let mut dropped = objects.begin("a/c").await.expect("begun");
        dropped
            .write(Bytes::from_static(b"x"))
            .await
            .expect("written");
        drop(dropped);
        assert_eq!(
            std::fs::read_dir(folder.path().join(UNFINISHED))
                .expect("folder")
                .count(),
            0
        );
    }

    #[tokio::test]
    async fn a_key_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = LocalObjects::open(folder.path().to_owned()).expect("opened");
        for key in ["../x", "a/../../x", "/etc/passwd", "a//b"] {
            assert!(objects.exists(key).await.is_err(), "{key}");
        }
    }
}
