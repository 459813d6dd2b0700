//! Files that are written through memory, without the danger in it: a disk that fails under a mapping is a signal
//! (SIGBUS), and would end the process.
//!
//! Invariant: where such a signal comes from one of the mappings that are registered here, plain memory takes their place,
//! the mapping is marked as lost, and the process goes on; every other one goes to whoever handled it before. What runs in
//! the handler takes no lock and allocates nothing.
#![expect(
    unsafe_code,
    reason = "mappings and signals are the business of this module, and of no other"
)]

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    ptr::{self, NonNull},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence},
    },
};

use libc::{c_int, c_void};

/// Mappings of a process at once: one per journal.
const MAPPINGS: usize = 64;
/// `Place::start` while a place is being filled.
const TAKEN: usize = 1;

struct Place {
    /// Where the mapping begins; 0 where there is none.
    start: AtomicUsize,
    size: AtomicUsize,
    lost: AtomicBool,
}

static PLACES: [Place; MAPPINGS] = [const {
    Place {
        start: AtomicUsize::new(0),
        size: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; MAPPINGS];

/// A part of a file as memory. Its disk space is there already, so a full disk is no trouble later.
pub(super) struct Mapping {
    start: NonNull<u8>,
    size: usize,
    place: &'static Place,
}

// SAFETY: the memory belongs to the mapping alone, and is written through `&mut` only.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives access to nothing of it.
unsafe impl Sync for Mapping {}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping").field("size", &self.size).finish()
    }
}

impl Mapping {
    /// Maps `size` bytes of a file from `offset` (of whole pages) on; the file grows up to their end, with zeros.
    pub(super) fn new(file: &File, offset: u64, size: usize) -> io::Result<Self> {
        if !is_local(file)? || !is_watched() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let place = PLACES
            .iter()
            .find(|place| {
                let taken =
                    place
                        .start
                        .compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed);
                taken.is_ok()
            })
            .ok_or(io::ErrorKind::Unsupported)?;
        match map(file, offset, size) {
            Ok(start) => {
                place.lost.store(false, Ordering::Relaxed);
                place.size.store(size, Ordering::Relaxed);
                place
                    .start
                    .store(start.as_ptr() as usize, Ordering::Release);
                Ok(Self { start, size, place })
            }
            Err(error) => {
                place.start.store(0, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Whether a failing disk is still seen to: somebody may have replaced the handler.
    pub(super) fn is_guarded() -> bool {
        is_watched()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Writes bytes at a place within the mapping; false when the disk has failed, and nothing of the mapping is to be
    /// relied on any more.
    #[inline]
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) -> bool {
        assert!(at <= self.size && bytes.len() <= self.size - at);
        // SAFETY: source and target are valid for so many bytes, as asserted, and apart from each other. That the disk may
        // fail is seen to by the handler.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len());
        }
        compiler_fence(Ordering::SeqCst);
        !self.place.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.place.start.store(TAKEN, Ordering::Relaxed);
        // SAFETY: the range was mapped by `map`, and nothing refers to it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
        self.place.start.store(0, Ordering::Release);
    }
}

fn map(file: &File, offset: u64, size: usize) -> io::Result<NonNull<u8>> {
    let from = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let length = libc::off_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `file` is.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, from, length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new mapping, at a place that the system chooses.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            from,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Whether the file is on a disk of this machine, with a file system whose mappings and reads see the same bytes.
fn is_local(file: &File) -> io::Result<bool> {
    const F2FS: u32 = 0xF2F5_2010;
    const LOCAL: [u32; 6] = [
        libc::EXT4_SUPER_MAGIC as u32,
        libc::XFS_SUPER_MAGIC as u32,
        libc::BTRFS_SUPER_MAGIC as u32,
        libc::TMPFS_MAGIC as u32,
        libc::OVERLAYFS_SUPER_MAGIC as u32,
        F2FS,
    ];
    // SAFETY: zeros are a valid `statfs`, which is written by the call.
    let found = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(file.as_raw_fd(), &raw mut found) != 0 {
            return Err(io::Error::last_os_error());
        }
        found
    };
    Ok(LOCAL.contains(&(found.f_type as u32)))
}

/// Who handled the signal before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Whether the handler is there: it is installed at the first question, and may have been replaced since.
fn is_watched() -> bool {
    // SAFETY: zeros are a valid `sigaction`; the handler is one of three arguments, as SA_SIGINFO says.
    unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = on_bus_error as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut now: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut now) != 0 {
            return false;
        }
        if now.sa_sigaction == ours.sa_sigaction {
            return true;
        }
        // Installed once: two handlers that call each other would never end.
        PREVIOUS.set(now).is_ok()
            && libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) == 0
    }
}

extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives a valid `info`, in which a fault (a positive code) has an address.
    let fault = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if fault.is_some_and(|address| PLACES.iter().any(|place| place.take_over(address))) {
        return;
    }
    // SAFETY: the function is what was installed before, called as it was declared. Where there was none, the signal comes
    // again when this returns, and does what it does by default.
    unsafe {
        match PREVIOUS.get() {
            Some(previous)
                if previous.sa_sigaction != libc::SIG_DFL
                    && previous.sa_sigaction != libc::SIG_IGN =>
            {
                if previous.sa_flags & libc::SA_SIGINFO == 0 {
                    let handler: extern "C" fn(c_int) = std::mem::transmute(previous.sa_sigaction);
                    handler(signal);
                } else {
                    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                        std::mem::transmute(previous.sa_sigaction);
                    handler(signal, info, context);
                }
            }
            _ => {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
            }
        }
    }
}

impl Place {
    /// Puts plain memory where the mapping was, if the address is within it.
    fn take_over(&self, address: usize) -> bool {
        let (start, size) = (
            self.start.load(Ordering::Relaxed),
            self.size.load(Ordering::Relaxed),
        );
        if start <= TAKEN || address < start || address - start >= size {
            return false;
        }
        // SAFETY: the range is a mapping that is registered, so it is replaced as a whole. `mmap` is a plain system call.
        let (memory, errno) = unsafe {
            let errno = *libc::__errno_location();
            let memory = libc::mmap(
                start as *mut c_void,
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            );
            (memory, errno)
        };
        // SAFETY: the place of this thread's error number.
        unsafe { *libc::__errno_location() = errno };
        self.lost.store(true, Ordering::Relaxed);
        memory != libc::MAP_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_vanishes_under_its_mapping_does_not_end_the_process() {
        let file = tempfile::tempfile().expect("a file");
        let Ok(mut mapping) = Mapping::new(&file, 0, 1 << 16) else {
            return; // No such file system here.
        };
        assert!(mapping.put(0, b"first"));
        assert_eq!(file.metadata().expect("there").len(), 1 << 16);
        file.set_len(0).expect("cut");
        assert!(!mapping.put(4090, &[7; 100]), "the disk has failed");
        assert!(!mapping.put(0, b"x"), "and is not trusted again");
        let mut other = Mapping::new(&file, 0, 4096).expect("a new one");
        assert!(other.put(0, b"x"));
    }
}
