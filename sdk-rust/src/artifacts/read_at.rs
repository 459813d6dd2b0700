//! Reading a file at a place, from several threads at a time.

use std::{fs::File, io};

use bytes::Bytes;

/// Exactly `length` bytes from `start` on; a file that has become shorter is an error.
#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, start: u64, length: usize) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, start)?;
    Ok(buffer.into())
}

/// Exactly `length` bytes from `start` on; a file that has become shorter is an error.
#[cfg(windows)]
pub(super) fn read_exact_at(file: &File, mut start: u64, length: usize) -> io::Result<Bytes> {
    use std::os::windows::fs::FileExt as _;
    let mut buffer = vec![0; length];
    let mut rest = buffer.as_mut_slice();
    while !rest.is_empty() {
        match file.seek_read(rest, start)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                start += read as u64;
                rest = &mut rest[read..];
            }
        }
    }
    Ok(buffer.into())
}
