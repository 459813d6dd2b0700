//! The file of one segment, at its end: bytes are added, and nothing else.
//!
//! Invariant: what was taken is at the front of the file, `length` bytes of it, and in the page cache of the system, so it
//! survives the death of the process. Behind it may be zeros, as space is reserved ahead on local disks, where the file is
//! written through a mapping (some 40 ns, against 600 ns of a `write(2)`). Elsewhere, and for large records, it is `write(2)`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

#[cfg(target_os = "linux")]
use super::guard::Mapping;
#[cfg(not(target_os = "linux"))]
use none::Mapping;

/// How much is mapped at once: little at first, as most journals are small.
const FIRST_WINDOW: usize = 64 << 10;
const WINDOW: usize = 1 << 20;
/// Larger records are better copied by the system.
const LARGE: usize = 64 << 10;
/// The pages of every system consist of such.
const PAGE: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    length: u64,
    window: Option<Window>,
    /// Space is reserved ahead, as long as that works.
    maps: bool,
    /// The disk has failed under a mapping: nobody knows what of the file is left.
    failed: bool,
}

#[derive(Debug)]
struct Window {
    mapping: Mapping,
    /// Where the next bytes go.
    at: usize,
}

impl Segment {
    /// A new file. With `maps` it is written through memory where that is possible.
    pub(super) fn create(path: &Path, maps: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        Ok(Self {
            file: options.read(true).write(true).create_new(true).open(path)?,
            length: 0,
            window: None,
            maps,
            failed: false,
        })
    }

    /// Bytes that were taken.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Nothing more is to be added, as the disk has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Goes on without a mapping where its guard was taken away.
    pub(super) fn look_at_guard(&mut self) -> io::Result<()> {
        if self.window.is_some() && !Mapping::is_guarded() {
            self.maps = false;
            self.leave_window()?;
        }
        Ok(())
    }

    /// Adds bytes, and says how many of them were taken.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.window {
            Some(window) if bytes.len() <= window.mapping.size() - window.at => {
                if window.mapping.put(window.at, bytes) {
                    window.at += bytes.len();
                    self.length += bytes.len() as u64;
                    return Ok(bytes.len());
                }
                (self.maps, self.failed) = (false, true);
                self.leave_window()?;
                Err(io::Error::other("the disk has failed"))
            }
            _ => self.append_outside(bytes),
        }
    }

    #[cold]
    fn append_outside(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.leave_window()?;
        if self.maps && bytes.len() <= LARGE {
            self.enter_window();
            if self.window.is_some() {
                return self.append(bytes);
            }
        }
        let taken = write(&mut self.file, bytes)?;
        self.length += taken as u64;
        Ok(taken)
    }

    /// Maps what comes next. Where it cannot be done, a full disk included, `write(2)` takes what there is room for.
    fn enter_window(&mut self) {
        let start = self.length / PAGE * PAGE;
        let size = if self.length == 0 {
            FIRST_WINDOW
        } else {
            WINDOW
        };
        match Mapping::new(&self.file, start, size) {
            Ok(mapping) => {
                let at = (self.length - start) as usize;
                self.window = Some(Window { mapping, at });
            }
            Err(_) => {
                self.maps = false;
                // Some of the space may be there already.
                let _ = self.file.set_len(self.length);
            }
        }
    }

    /// The file ends with what was taken, and that is where it is written next.
    fn leave_window(&mut self) -> io::Result<()> {
        if self.window.take().is_some() {
            // Zeros that stay are no harm to readers.
            let _ = self.file.set_len(self.length);
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        Ok(())
    }

    /// Forces to the disk what was taken.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = self.leave_window();
    }
}

/// One `write(2)`; interrupted ones are repeated.
fn write(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Systems on which files are not mapped.
#[cfg(not(target_os = "linux"))]
mod none {
    use std::{fs::File, io};

    #[derive(Debug)]
    pub(super) enum Mapping {}

    impl Mapping {
        pub(super) fn new(_: &File, _: u64, _: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn is_guarded() -> bool {
            false
        }

        pub(super) fn size(&self) -> usize {
            match *self {}
        }

        pub(super) fn put(&mut self, _: usize, _: &[u8]) -> bool {
            match *self {}
        }
    }
}
