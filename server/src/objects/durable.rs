//! Folders whose names survive a power cut.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// Makes the folder and what is missing above it, and syncs every folder that got a new entry.
pub(super) async fn create_dir_all(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let folder = folder.to_owned();
    blocking(move || create(&folder)).await
}

/// Syncs the names in a folder.
pub(super) async fn sync_dir(folder: &Path) -> Result<()> {
    let folder = folder.to_owned();
    blocking(move || File::open(folder)?.sync_all()).await
}

/// Runs what blocks on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)??)
}

fn create(folder: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir())
        .map(Path::to_path_buf)
        .collect();
    for new in missing.iter().rev() {
        match std::fs::create_dir(new) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Somebody else made it just now, and may not have synced it yet.
            _ => {}
        }
        if let Some(parent) = new.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}
