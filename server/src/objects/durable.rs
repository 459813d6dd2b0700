//! What survives a power cut, and what the kernel keeps until then.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use uuid::Uuid;

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

/// A number of this start of the machine: what the kernel has in memory is lost when it changes. None where it is not known.
pub(super) fn this_boot() -> Option<u32> {
    static BOOT: OnceLock<Option<u32>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let (random, ..) = Uuid::try_parse(id.trim()).ok()?.as_fields();
        Some(random)
    })
}

/// Lets the kernel begin to write a range of a file to the disk, so that a sync later has less to wait for. Only a hint.
pub(super) fn begin_write_back(file: &File, start: u64, length: u64) {
    #[cfg(target_os = "linux")]
    if let (Ok(start), Ok(length)) = (start.try_into(), length.try_into()) {
        use std::os::fd::AsRawFd as _;
        // What cannot be written is told by the sync.
        #[allow(unsafe_code, reason = "the standard library has no name for it")]
        // SAFETY: it takes numbers only, and the descriptor is open as long as the file is.
        let _ = unsafe {
            libc::sync_file_range(file.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE)
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, start, length);
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
