//! Objects in a folder: written beside, synced, renamed into place.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tokio::{fs, io::AsyncWriteExt as _};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::error::{Error, Result};

const READ_CHUNK: usize = 256 * 1024;
/// Folder of uploads that are under way; emptied at start.
const UNFINISHED: &str = ".unfinished";

/// A folder of objects.
#[derive(Debug, Clone)]
pub struct LocalObjects {
    root: PathBuf,
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
        Ok(Self { root })
    }

    pub(super) async fn begin(&self, key: &str) -> Result<LocalUpload> {
        let temporary = self.root.join(UNFINISHED).join(Uuid::now_v7().to_string());
        let file = fs::File::create_new(&temporary).await?;
        Ok(LocalUpload {
            file,
            temporary: Temporary(temporary),
            root: self.root.clone(),
            target: self.path(key)?,
        })
    }

    pub(super) async fn get(&self, key: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let file = fs::File::open(self.path(key)?).await?;
        Ok(ReaderStream::with_capacity(file, READ_CHUNK)
            .map_err(Error::from)
            .boxed())
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
    fn path(&self, key: &str) -> Result<PathBuf> {
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
    root: PathBuf,
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
        let is_new = !fs::try_exists(&folder).await?;
        fs::create_dir_all(&folder).await?;
        fs::rename(&self.temporary.0, &self.target).await?;
        // The new name itself must be on the disk as well, and so must the names of folders that were made for it.
        for folder in folder.ancestors() {
            fs::File::open(folder).await?.sync_all().await?;
            if !is_new || folder == self.root {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn abort(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
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
        let read: Vec<Bytes> = objects
            .get("a/b")
            .await
            .expect("there")
            .try_collect()
            .await
            .expect("read");
        assert_eq!(read.concat(), b"hello");

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
