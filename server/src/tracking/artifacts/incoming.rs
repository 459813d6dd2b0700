//! Messages that stream in, and what is said when they break off. Knows nothing of what they carry.

use sha2::{Digest as _, Sha256};
use tonic::{Code, Status, Streaming};

use crate::error::{Error, Result};

/// Largest chunk; the limit on messages leaves room for more.
pub(super) const MAX_CHUNK: usize = 4 << 20;

/// The next message; `None` at the end.
pub(super) async fn next<M>(messages: &mut Streaming<M>) -> Result<Option<M>> {
    messages
        .message()
        .await
        .map_err(|status| broken_off(&status))
}

/// Why the next message did not come.
fn broken_off(status: &Status) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Error::exhausted(
            "MESSAGE_TOO_LARGE",
            format!("{}; send smaller chunks", status.message()),
        ),
        Code::Internal | Code::InvalidArgument => Error::invalid(
            "part",
            format!("does not fit the contract: {}", status.message()),
        ),
        _ => Error::Aborted {
            reason: "UPLOAD_BROKEN_OFF",
            message: "the upload ended before its end; nothing was stored".to_owned(),
        },
    }
}

/// A chunk that is not too large.
pub(super) fn checked_chunk(length: usize) -> Result<()> {
    if length <= MAX_CHUNK {
        return Ok(());
    }
    Err(Error::invalid(
        "chunk",
        format!("must have at most {MAX_CHUNK} bytes"),
    ))
}

/// The digest of some bytes in hexadecimal digits.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What is said of content that does not fit its digest.
pub(super) fn digest_mismatch(field: impl Into<String>, said: &str, is: &str) -> Error {
    let message = format!("the client says {said}, and what arrived has {is}");
    Error::rejected("DIGEST_MISMATCH", field, message)
}
