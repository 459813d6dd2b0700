//! The one error type of this crate: a variant per class that a caller may want to treat differently, decoded from the
//! gRPC status and its `google.rpc` details.
//!
//! Invariant: a `tonic::Status` never leaves this crate, and every message says what happened to what. This module does
//! not know which call failed; callers add that with [`Error::context`] where the status alone would not tell.

use std::{collections::BTreeMap, error::Error as StdError, fmt, io, path::Path};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// Path of the field, e.g. `metrics[0].key`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// What the server (or the transport) said about a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detail {
    /// What happened, for people.
    pub message: String,
    /// Stable identifier in SCREAMING_SNAKE_CASE, e.g. `RUN_NOT_FOUND`; empty where the server gave none.
    pub reason: String,
    /// Further facts, e.g. the name of the resource.
    pub metadata: BTreeMap<String, String>,
    /// All bad fields at once, for invalid arguments.
    pub violations: Vec<FieldViolation>,
    /// Id of the request, as in the server's log; empty for failures that never reached a server.
    pub request_id: String,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for violation in &self.violations {
            // Servers often repeat the first violation as the message.
            if !self.message.contains(&violation.description) {
                write!(f, "\n  - {}: {}", violation.field, violation.description)?;
            }
        }
        Ok(())
    }
}

/// Why a call failed. Clone-free, small (one pointer and a tag), and `Send + Sync`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The thing does not exist, or the caller may not see it.
    #[error("{0}")]
    NotFound(Box<Detail>),
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(Box<Detail>),
    /// The request is wrong; [`Error::violations`] names the fields.
    #[error("{0}")]
    InvalidArgument(Box<Detail>),
    /// The request is right, but the state of things does not allow it, e.g. a run that has ended.
    #[error("{0}")]
    FailedPrecondition(Box<Detail>),
    /// The change lost against a concurrent one; it can be tried again from the start.
    #[error("{0}")]
    Aborted(Box<Detail>),
    /// The caller is known but may not do this.
    #[error("{0}")]
    PermissionDenied(Box<Detail>),
    /// The server does not know who calls.
    #[error("{0}")]
    Unauthenticated(Box<Detail>),
    /// A limit was hit: message size, rate, quota or disk space.
    #[error("{0}")]
    ResourceExhausted(Box<Detail>),
    /// The server cannot be reached, or is not ready; all retries are used up.
    #[error("{0}")]
    Unavailable(Box<Detail>),
    /// The call took longer than its deadline.
    #[error("{0}")]
    DeadlineExceeded(Box<Detail>),
    /// The call was cancelled.
    #[error("{0}")]
    Cancelled(Box<Detail>),
    /// The server is older than this client and does not have the call.
    #[error("{0}")]
    Unimplemented(Box<Detail>),
    /// What arrived does not fit its digest, or breaks the protocol.
    #[error("{0}")]
    DataLoss(Box<Detail>),
    /// The server failed; its log has the cause under [`Error::request_id`].
    #[error("{0}")]
    Internal(Box<Detail>),
    /// This crate was used wrongly; nothing was sent.
    #[error("{0}")]
    Misuse(Box<str>),
    /// A local file could not be read or written.
    #[error("{0}: {1}")]
    Io(Box<str>, #[source] io::Error),
    /// An Arrow table could not be read, converted or encoded.
    #[error("arrow: {0}")]
    Arrow(#[source] Box<arrow::error::ArrowError>),
}

impl Error {
    /// A failure of the caller, found before anything was sent.
    pub fn misuse(message: impl Into<String>) -> Self {
        Self::Misuse(message.into().into_boxed_str())
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io(path.display().to_string().into_boxed_str(), source)
    }

    pub(crate) fn data_loss(message: impl Into<String>) -> Self {
        Self::DataLoss(Box::new(Detail {
            message: message.into(),
            reason: "DATA_LOSS".into(),
            ..Detail::default()
        }))
    }

    /// A request that the server would refuse, found before anything was sent: one bad field.
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::all_invalid(vec![FieldViolation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// As [`Error::invalid`], with all bad fields.
    pub(crate) fn all_invalid(violations: Vec<FieldViolation>) -> Self {
        const SHOWN: usize = 5;
        let mut parts: Vec<String> = violations
            .iter()
            .take(SHOWN)
            .map(|v| format!("{}: {}", v.field, v.description))
            .collect();
        if violations.len() > SHOWN {
            parts.push(format!("and {} more", violations.len() - SHOWN));
        }
        Self::InvalidArgument(Box::new(Detail {
            message: parts.join("; "),
            reason: "INVALID_ARGUMENT".into(),
            violations,
            ..Detail::default()
        }))
    }

    pub(crate) fn protocol(missing: &str) -> Self {
        Self::data_loss(format!(
            "the server's answer has no {missing}; client and server versions may not fit together"
        ))
    }

    /// A message that no server would take.
    pub(crate) fn too_large(what: impl fmt::Display, bytes: usize, most: usize) -> Self {
        let detail = Detail {
            message: format!(
                "{what} has {bytes} bytes; at most {most} fit into one message; send it in several"
            ),
            reason: "MESSAGE_TOO_LARGE".into(),
            ..Detail::default()
        };
        Self::ResourceExhausted(Box::new(detail))
    }

    pub(crate) fn deadline(message: impl Into<String>) -> Self {
        let detail = Detail {
            message: message.into(),
            reason: "DEADLINE_EXCEEDED".into(),
            ..Detail::default()
        };
        Self::DeadlineExceeded(Box::new(detail))
    }

    /// What the server said; none for [`Error::Misuse`], [`Error::Io`] and [`Error::Arrow`].
    pub fn detail(&self) -> Option<&Detail> {
        match self {
            Self::NotFound(d)
            | Self::AlreadyExists(d)
            | Self::InvalidArgument(d)
            | Self::FailedPrecondition(d)
            | Self::Aborted(d)
            | Self::PermissionDenied(d)
            | Self::Unauthenticated(d)
            | Self::ResourceExhausted(d)
            | Self::Unavailable(d)
            | Self::DeadlineExceeded(d)
            | Self::Cancelled(d)
            | Self::Unimplemented(d)
            | Self::DataLoss(d)
            | Self::Internal(d) => Some(d),
            Self::Misuse(_) | Self::Io(..) | Self::Arrow(_) => None,
        }
    }

    /// Stable identifier of the cause, e.g. `RUN_NOT_FOUND`; where the server gave none, the name of the class.
    pub fn reason(&self) -> &str {
        match self.detail() {
            Some(detail) if !detail.reason.is_empty() => &detail.reason,
            _ => self.class(),
        }
    }

    /// Name of the class, as in gRPC: `NOT_FOUND`, `INVALID_ARGUMENT`, …; `MISUSE`, `IO`, `ARROW` for local failures.
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "NOT_FOUND",
            Self::AlreadyExists(_) => "ALREADY_EXISTS",
            Self::InvalidArgument(_) => "INVALID_ARGUMENT",
            Self::FailedPrecondition(_) => "FAILED_PRECONDITION",
            Self::Aborted(_) => "ABORTED",
            Self::PermissionDenied(_) => "PERMISSION_DENIED",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::ResourceExhausted(_) => "RESOURCE_EXHAUSTED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::DeadlineExceeded(_) => "DEADLINE_EXCEEDED",
            Self::Cancelled(_) => "CANCELLED",
            Self::Unimplemented(_) => "UNIMPLEMENTED",
            Self::DataLoss(_) => "DATA_LOSS",
            Self::Internal(_) => "INTERNAL",
            Self::Misuse(_) => "MISUSE",
            Self::Io(..) => "IO",
            Self::Arrow(_) => "ARROW",
        }
    }

    /// The bad fields of an invalid request; empty for other errors.
    pub fn violations(&self) -> &[FieldViolation] {
        self.detail().map_or(&[], |detail| &detail.violations)
    }

    /// Id of the request as in the server's log; empty where nothing reached a server.
    pub fn request_id(&self) -> &str {
        self.detail().map_or("", |detail| &detail.request_id)
    }

    /// Puts `what` before the message, where the status alone does not say which thing failed.
    #[must_use]
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        match &mut self {
            Self::Misuse(message) => *message = format!("{what}: {message}").into_boxed_str(),
            Self::Io(path, _) => *path = format!("{what}: {path}").into_boxed_str(),
            Self::Arrow(_) => {}
            other => {
                if let Some(detail) = other.detail_mut() {
                    detail.message = format!("{what}: {}", detail.message);
                }
            }
        }
        self
    }

    fn detail_mut(&mut self) -> Option<&mut Detail> {
        match self {
            Self::NotFound(d)
            | Self::AlreadyExists(d)
            | Self::InvalidArgument(d)
            | Self::FailedPrecondition(d)
            | Self::Aborted(d)
            | Self::PermissionDenied(d)
            | Self::Unauthenticated(d)
            | Self::ResourceExhausted(d)
            | Self::Unavailable(d)
            | Self::DeadlineExceeded(d)
            | Self::Cancelled(d)
            | Self::Unimplemented(d)
            | Self::DataLoss(d)
            | Self::Internal(d) => Some(d),
            Self::Misuse(_) | Self::Io(..) | Self::Arrow(_) => None,
        }
    }

    /// Decodes a status; `url` is the server that was called and `request_id` the id this client sent.
    pub(crate) fn from_status(status: &Status, url: &str, request_id: &str) -> Self {
        let details = status.get_error_details();
        let mut detail = Detail {
            message: status.message().to_owned(),
            ..Detail::default()
        };
        if let Some(info) = details.error_info() {
            detail.reason = info.reason.clone();
            detail.metadata = info.metadata.clone().into_iter().collect();
        }
        if let Some(bad) = details.bad_request() {
            let violations = bad.field_violations.iter();
            detail.violations = violations
                .map(|v| FieldViolation {
                    field: v.field.clone(),
                    description: v.description.clone(),
                })
                .collect();
        }
        if let Some(cause) = transport_cause(status) {
            detail.message = unreachable_message(url, &cause);
            if detail.reason.is_empty() {
                detail.reason = "SERVER_UNREACHABLE".into();
            }
            return Self::Unavailable(Box::new(detail));
        }
        detail.request_id = request_id.to_owned();
        Self::from_code(status.code(), detail, url)
    }

    fn from_code(code: Code, mut detail: Detail, url: &str) -> Self {
        if detail.message.is_empty() {
            detail.message =
                format!("the mlplat server at {url} answered {code:?} without a message");
        }
        let detail = Box::new(detail);
        match code {
            Code::NotFound => Self::NotFound(detail),
            Code::AlreadyExists => Self::AlreadyExists(detail),
            Code::InvalidArgument | Code::OutOfRange => Self::InvalidArgument(detail),
            Code::FailedPrecondition => Self::FailedPrecondition(detail),
            Code::Aborted => Self::Aborted(detail),
            Code::PermissionDenied => Self::PermissionDenied(detail),
            Code::Unauthenticated => Self::Unauthenticated(detail),
            Code::ResourceExhausted => Self::ResourceExhausted(detail),
            Code::Unavailable => Self::Unavailable(detail),
            Code::DeadlineExceeded => Self::DeadlineExceeded(detail),
            Code::Cancelled => Self::Cancelled(detail),
            Code::Unimplemented => Self::Unimplemented(detail),
            Code::DataLoss => Self::DataLoss(detail),
            Code::Ok | Code::Unknown | Code::Internal => Self::Internal(detail),
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Arrow(Box::new(error))
    }
}

/// True when no connection could be made, so that the server cannot have seen the call.
pub(crate) fn never_sent(status: &Status) -> bool {
    transport_chain(status).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|e| {
            use io::ErrorKind as K;
            matches!(
                e.kind(),
                K::ConnectionRefused | K::NotFound | K::HostUnreachable | K::NetworkUnreachable
            )
        }) || {
            let text = error.to_string();
            text.contains("tcp connect error")
                || text.contains("dns error")
                || text.contains("tcp open error")
        }
    })
}

/// The innermost cause of a failure to connect or of a lost connection, in plain words.
fn transport_cause(status: &Status) -> Option<String> {
    if transport_chain(status).any(|e| e.is::<tonic::TimeoutExpired>()) {
        return None;
    }
    let transport =
        transport_chain(status).any(|e| e.is::<tonic::transport::Error>() || e.is::<io::Error>());
    if !transport {
        return None;
    }
    let innermost = transport_chain(status).last()?;
    let text = match innermost.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "the connection was reset".to_owned(),
        Some(io::ErrorKind::BrokenPipe) => "the connection was closed".to_owned(),
        Some(io::ErrorKind::TimedOut) => "the connection timed out".to_owned(),
        _ => innermost.to_string(),
    };
    Some(text)
}

fn transport_chain(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(status.source(), |&error| error.source())
}

fn unreachable_message(url: &str, cause: &str) -> String {
    format!(
        "cannot reach the mlplat server at {url}: {cause}; is it running? start it with `mlplat server`"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn reason_and_metadata_come_from_error_info() {
        let metadata = HashMap::from([("id".to_owned(), "42".to_owned())]);
        let details = ErrorDetails::with_error_info("RUN_NOT_FOUND", "mlplat", metadata);
        let status = Status::with_error_details(Code::NotFound, "there is no run 42", details);
        let error = Error::from_status(&status, "http://x", "req-1");
        assert!(matches!(error, Error::NotFound(_)));
        assert_eq!(error.reason(), "RUN_NOT_FOUND");
        assert_eq!(error.request_id(), "req-1");
        assert_eq!(error.detail().unwrap().metadata["id"], "42");
        assert_eq!(error.to_string(), "there is no run 42");
    }

    #[test]
    fn violations_are_listed_below_the_message() {
        let mut details = ErrorDetails::new();
        details
            .add_bad_request_violation("name", "must not be empty")
            .add_bad_request_violation("ttl", "is negative");
        let status =
            Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details);
        let error = Error::from_status(&status, "http://x", "");
        assert_eq!(error.violations().len(), 2);
        assert_eq!(
            error.to_string(),
            "2 fields are wrong\n  - name: must not be empty\n  - ttl: is negative"
        );
        assert_eq!(error.reason(), "INVALID_ARGUMENT");
    }

    #[test]
    fn a_refused_connection_says_what_to_do() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(refused));
        let error = Error::from_status(&status, "http://127.0.0.1:1", "r");
        assert!(never_sent(&status));
        assert_eq!(
            error.to_string(),
            "cannot reach the mlplat server at http://127.0.0.1:1: connection refused; is it running? start it with \
             `mlplat server`"
        );
        assert_eq!(error.reason(), "SERVER_UNREACHABLE");
    }

    #[test]
    fn context_goes_before_the_message() {
        let error = Error::from_status(&Status::unavailable("draining"), "http://x", "")
            .context("upload of a.bin");
        assert_eq!(error.to_string(), "upload of a.bin: draining");
        assert!(!never_sent(&Status::unavailable("draining")));
    }
}
