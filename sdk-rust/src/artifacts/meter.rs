//! How much of an upload is moved.
//!
//! Invariant: what is sent again is not counted twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::UploadOptions;

/// Bytes moved over all files, and who is told; the options of the upload.
pub(super) struct Meter {
    done: AtomicU64,
    total: u64,
    options: UploadOptions,
}

impl Meter {
    pub(super) fn new(total: u64, options: UploadOptions) -> Self {
        Self {
            done: AtomicU64::new(0),
            total,
            options,
        }
    }

    /// So many more bytes are moved.
    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.options
            .progress
            .report(done.min(self.total), self.total);
    }

    pub(super) fn media_type(&self) -> &str {
        &self.options.media_type
    }

    /// Whether parts may be sent past the server.
    pub(super) fn direct(&self) -> bool {
        !self.options.through_server
    }
}

/// What one call has moved of it.
pub(super) struct CallMeter {
    meter: Arc<Meter>,
    done: AtomicU64,
    ever: AtomicBool,
}

impl CallMeter {
    pub(super) fn of(meter: &Arc<Meter>) -> Arc<Self> {
        Arc::new(Self {
            meter: Arc::clone(meter),
            done: AtomicU64::new(0),
            ever: AtomicBool::new(false),
        })
    }

    /// So many more bytes are moved.
    pub(super) fn add(&self, bytes: u64) {
        self.ever.store(true, Ordering::Relaxed);
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.meter.add(bytes);
    }

    /// The call begins, perhaps again.
    pub(super) fn begin(&self) {
        let done = self.done.swap(0, Ordering::Relaxed);
        self.meter.done.fetch_sub(done, Ordering::Relaxed);
    }

    /// Whether something was ever moved.
    pub(super) fn has_moved(&self) -> bool {
        self.ever.load(Ordering::Relaxed)
    }

    pub(super) fn media_type(&self) -> &str {
        self.meter.media_type()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_counts_once() {
        let meter = Arc::new(Meter::new(10, UploadOptions::default()));
        let (first, second) = (CallMeter::of(&meter), CallMeter::of(&meter));
        assert!(!first.has_moved());
        first.add(4);
        second.add(2);
        first.begin();
        first.add(3);
        assert_eq!(meter.done.load(Ordering::Relaxed), 5);
        assert!(first.has_moved());
    }
}
