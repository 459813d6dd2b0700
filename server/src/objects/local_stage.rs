//! Objects in parts, in a folder: one file that is filled in any order, and beside it the list of the parts that are stored.
//!
//! Invariant: a part is in the list only after its bytes are written. What is written survives the end of the server, but
//! not of the machine: an entry holds for as long as the machine is not started anew, or is made after a sync and holds for
//! good. An object is assembled only when all of it is on the disk. The list only grows (or goes, when a sync fails), so that
//! its torn end is recognized and ignored. Who writes a part holds a shared lock on the file, who assembles it an exclusive one: what was assembled
//! does not change any more.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::{
    durable::{self, blocking},
    local::{LocalObjects, read_range},
    stage::{Stage, wrong_size},
};
use crate::error::{Error, Result};

/// Bytes of an entry of the list: the number, and the same under a seal, which also tells how long the entry holds.
const ENTRY: usize = 8;
/// Seal of a part that is on the disk.
const SYNCED: u32 = u32::MAX;
/// To wait for the disk with each part costs more time than all the rest; so many parts are what a crash of the machine may
/// cost an upload.
const SYNC_EVERY: u32 = 64;

impl LocalObjects {
    fn data_file(&self, id: Uuid) -> PathBuf {
        self.staged.join(id.simple().to_string())
    }

    fn list_file(&self, id: Uuid) -> PathBuf {
        self.staged.join(format!("{}.parts", id.simple()))
    }

    pub(super) async fn stage(&self, stage: &Stage) -> Result<String> {
        let (data, list, size) = (
            self.data_file(stage.id),
            self.list_file(stage.id),
            stage.size_bytes,
        );
        blocking(move || {
            File::create_new(data)?.set_len(size)?;
            File::create_new(list)?;
            Ok(())
        })
        .await?;
        durable::sync_dir(&self.staged).await?;
        Ok(String::new())
    }

    pub(super) async fn begin_part(
        &self,
        stage: &Stage,
        number: u32,
        (start, length): (u64, u64),
    ) -> Result<LocalPart> {
        let (data, list) = (self.data_file(stage.id), self.list_file(stage.id));
        let opened = blocking(move || {
            let file = File::options().write(true).open(&data)?;
            // Held until the part is done: nobody assembles a file that is still written to.
            match file.try_lock_shared() {
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::NotFound.into()),
                Ok(()) => {}
            }
            // Assembled between the opening and the lock?
            std::fs::metadata(&data)?;
            Ok((file, File::options().read(true).append(true).open(list)?))
        });
        let (data, list) = opened.await.map_err(|error| gone(error, stage))?;
        Ok(LocalPart {
            data: Arc::new(data),
            list,
            list_path: self.list_file(stage.id),
            number,
            start,
            length,
            written: 0,
        })
    }

    pub(super) async fn stored_parts(&self, stage: &Stage) -> Result<Vec<u32>> {
        let list = self.list_file(stage.id);
        let list = blocking(move || std::fs::read(list))
            .await
            .map_err(|error| gone(error, stage))?;
        Ok(listed(&list, &[Some(SYNCED), durable::this_boot()]))
    }

    pub(super) async fn read_part(
        &self,
        stage: &Stage,
        number: u32,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (start, length) = stage
            .part(number)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("there is no part {number}")))?;
        let data = self.data_file(stage.id);
        let file = blocking(move || File::open(data))
            .await
            .map_err(|error| gone(error, stage))?;
        Ok(read_range(Arc::new(file), start..start + length))
    }

    pub(super) async fn assemble(&self, stage: &Stage) -> Result<()> {
        let target = self.path(&stage.key)?;
        let folder = target.parent().map(PathBuf::from).unwrap_or_default();
        durable::create_dir_all(&folder).await?;
        let (data, list) = (self.data_file(stage.id), self.list_file(stage.id));
        let moved = blocking(move || {
            let file = match File::open(&data) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && target.exists() => {
                    return Ok(true);
                }
                file => file?,
            };
            match file.try_lock() {
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Ok(()) => {}
            }
            synced(&file, &list)?;
            std::fs::rename(data, &target)?;
            // Left behind by a crash it is removed with the upload.
            let _ = std::fs::remove_file(list);
            Ok(true)
        });
        if !moved.await.map_err(|error| gone(error, stage))? {
            return Err(Error::unavailable(
                "UPLOAD_BUSY",
                "a part of the upload is still on its way; try again when it is stored",
            ));
        }
        durable::sync_dir(&folder).await
    }

    pub(super) async fn discard(&self, id: Uuid, key: &str) -> Result<()> {
        let files = [self.data_file(id), self.list_file(id), self.path(key)?];
        blocking(move || {
            for file in files {
                match std::fs::remove_file(file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

/// A file that is not there was removed together with its upload.
fn gone(error: Error, stage: &Stage) -> Error {
    match &error {
        Error::Internal(cause) => match cause.downcast_ref::<io::Error>() {
            Some(io) if io.kind() == io::ErrorKind::NotFound => {
                Error::not_found("upload", stage.id)
            }
            _ => error,
        },
        _ => error,
    }
}

/// Brings the bytes to the disk. Where that fails, the list goes, and with it the upload, which is begun anew: the kernel tells
/// of what it could not write once, and holds it for written from then on.
fn synced(data: &File, list: &Path) -> io::Result<()> {
    data.sync_data().inspect_err(|_| {
        let _ = std::fs::remove_file(list);
    })
}

fn entry(number: u32, seal: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..4].copy_from_slice(&number.to_le_bytes());
    entry[4..].copy_from_slice(&(number ^ seal).to_le_bytes());
    entry
}

/// The parts in a list under one of these seals; what is torn or no entry is passed over.
fn listed(list: &[u8], seals: &[Option<u32>]) -> Vec<u32> {
    let number = |bytes: &[u8]| {
        let number = u32::from_le_bytes(bytes[..4].try_into().ok()?);
        let holds = |seal: u32| entry(number, seal) == *bytes;
        seals
            .iter()
            .flatten()
            .any(|seal| holds(*seal))
            .then_some(number)
    };
    let parts: BTreeSet<u32> = list.chunks_exact(ENTRY).filter_map(number).collect();
    parts.into_iter().collect()
}

/// A part on its way into the file.
#[derive(Debug)]
pub struct LocalPart {
    data: Arc<File>,
    list: File,
    list_path: PathBuf,
    number: u32,
    start: u64,
    length: u64,
    written: u64,
}

impl LocalPart {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let written = self.written + bytes.len() as u64;
        if written > self.length {
            return Err(wrong_size(self.number, self.length, written));
        }
        let (data, at) = (Arc::clone(&self.data), self.start + self.written);
        blocking(move || data.write_all_at(&bytes, at)).await?;
        self.written = written;
        Ok(())
    }

    pub(super) async fn finish(self) -> Result<()> {
        if self.written != self.length {
            return Err(wrong_size(self.number, self.length, self.written));
        }
        blocking(move || self.note()).await
    }

    /// Puts the part into the list. (An entry that a crash of the machine takes along costs its part, which is sent again.)
    fn note(mut self) -> io::Result<()> {
        match durable::this_boot() {
            Some(boot) if !self.number.is_multiple_of(SYNC_EVERY) => {
                durable::begin_write_back(&self.data, self.start, self.length);
                self.list.write_all(&entry(self.number, boot))
            }
            boot => {
                let mut written = Vec::new();
                self.list.read_to_end(&mut written)?;
                synced(&self.data, &self.list_path)?;
                let synced = listed(&written, &[Some(SYNCED)]);
                let mut parts = listed(&written, &[boot]);
                parts.retain(|number| synced.binary_search(number).is_err());
                parts.push(self.number);
                let entries: Vec<u8> = parts
                    .into_iter()
                    .flat_map(|number| entry(number, SYNCED))
                    .collect();
                self.list.write_all(&entries)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: u32 = 0x1234_5678;

    #[test]
    fn a_torn_list_is_read_up_to_its_tear() {
        let entry = |number| entry(number, SYNCED);
        let mut list = [entry(3), entry(1), entry(3)].concat();
        list.extend_from_slice(&entry(2)[..5]);
        let seals = [Some(SYNCED), Some(BOOT)];
        assert_eq!(listed(&list, &seals), [1, 3]);
        assert_eq!(listed(&[0; 16], &seals), Vec::<u32>::new());
    }

    #[test]
    fn after_a_start_of_the_machine_only_what_was_synced_is_there() {
        let list = [
            entry(1, SYNCED),
            entry(2, BOOT),
            entry(3, BOOT),
            entry(2, SYNCED),
        ]
        .concat();
        assert_eq!(listed(&list, &[Some(SYNCED), Some(BOOT)]), [1, 2, 3]);
        assert_eq!(listed(&list, &[Some(SYNCED), Some(BOOT + 1)]), [1, 2]);
        assert_eq!(listed(&list, &[Some(SYNCED), None]), [1, 2]);
    }
}
