//! Processes that are forked off: each of them has a journal of its own.
//!
//! Invariant: nothing here takes a lock, and nothing that belongs to the parent is touched in the child: its locks may be
//! held by threads that only the parent has. What belongs to a process is found by how many forks lead to it.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::notice;

/// Forks in a row that are told apart.
const MAX_DEPTH: usize = 16;

static DEPTH: AtomicUsize = AtomicUsize::new(0);

/// How many forks lead to this process, since the first journal was made.
pub(super) fn depth() -> usize {
    DEPTH.load(Ordering::Relaxed)
}

/// Says that this process is behind more forks than are told apart.
pub(super) fn warn_of_depth() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        notice::warn(&format!(
            "this process is forked off {MAX_DEPTH} times in a row: what it logs IS LOST; start it anew instead"
        ));
    }
}

/// Counts forks from now on.
pub(super) fn watch() {
    #[cfg(unix)]
    {
        static WATCHED: OnceLock<()> = OnceLock::new();
        WATCHED.get_or_init(unix::register);
    }
}

#[cfg(unix)]
mod unix {
    use super::{DEPTH, Ordering};

    extern "C" fn in_child() {
        DEPTH.fetch_add(1, Ordering::Relaxed);
    }

    #[expect(
        unsafe_code,
        reason = "the only way to hear of forks without a system call per record"
    )]
    pub(super) fn register() {
        // SAFETY: `in_child` only adds to an atomic, which is allowed in a process with one thread left.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        if failed != 0 {
            tracing::warn!(
                "forks cannot be watched; a forked process must not log to the run of its parent"
            );
        }
    }
}

/// Something that every process makes for itself at the first use.
#[derive(Debug)]
pub(super) struct PerProcess<T>([OnceLock<T>; MAX_DEPTH]);

impl<T> PerProcess<T> {
    pub(super) const fn new() -> Self {
        Self([const { OnceLock::new() }; MAX_DEPTH])
    }

    /// What this process has made already. Processes behind too many forks have nothing.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.get(depth())?.get()
    }

    /// What a process has made that this one is forked off, the nearest one first.
    pub(super) fn of_ancestor(&self) -> Option<&T> {
        let before = self.0.get(..depth())?;
        before.iter().rev().find_map(OnceLock::get)
    }

    pub(super) fn get_or_init(&self, make: impl FnOnce() -> T) -> Option<&T> {
        Some(self.0.get(depth())?.get_or_init(make))
    }
}
