//! The one error of the server, and the one place where it becomes a gRPC status.
//!
//! Invariant: the text of an internal error is logged here, once, and never sent. It must not know any service.

use std::time::Duration;

use mlplat_proto::ERROR_DOMAIN;
use sea_orm::{DbErr, RuntimeErr, SqlErr};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Result of everything in the server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, e.g. `project.name`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub description: String,
}

/// Why a request failed; one variant per gRPC code that we use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is not there, or the caller may not see it.
    #[error("{resource} {id:?} was not found")]
    NotFound {
        /// Sort of resource, e.g. `run`.
        resource: &'static str,
        /// Its name or id, as the caller gave it.
        id: String,
    },
    /// The name is taken.
    #[error("{resource} {id:?} exists already")]
    AlreadyExists {
        /// Sort of resource.
        resource: &'static str,
        /// Its name or id.
        id: String,
    },
    /// The request itself is wrong: all bad fields at once.
    #[error("{}", summary(.0))]
    Invalid(Vec<FieldViolation>),
    /// The request is wrong in one way that clients tell from the others.
    #[error("{}", summary(std::slice::from_ref(violation)))]
    Rejected {
        /// Machine-readable reason.
        reason: &'static str,
        /// The bad field.
        violation: FieldViolation,
    },
    /// The request is fine, but the state of things does not allow it.
    #[error("{message}")]
    FailedPrecondition {
        /// Machine-readable reason.
        reason: &'static str,
        /// What to do about it.
        message: String,
    },
    /// The caller is known and may not do this.
    #[error("{message}")]
    PermissionDenied {
        /// Which permission is missing.
        message: String,
    },
    /// The caller is not known.
    #[error("{message}")]
    Unauthenticated {
        /// What is missing.
        message: String,
    },
    /// A limit was hit, or a resource is used up.
    #[error("{message}")]
    ResourceExhausted {
        /// Machine-readable reason.
        reason: &'static str,
        /// Which limit.
        message: String,
    },
    /// The change certainly did not happen, and may be tried again.
    #[error("{message}")]
    Aborted {
        /// Machine-readable reason.
        reason: &'static str,
        /// What collided.
        message: String,
    },
    /// Something that we need cannot be reached just now.
    #[error("{message}")]
    Unavailable {
        /// Machine-readable reason.
        reason: &'static str,
        /// What cannot be reached.
        message: String,
    },
    /// It took longer than allowed.
    #[error("{message}")]
    DeadlineExceeded {
        /// Which limit of time.
        message: String,
    },
    /// Our own fault.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

impl Error {
    /// A resource that is not there, or that the caller may not see.
    pub fn not_found(resource: &'static str, id: impl ToString) -> Self {
        Self::NotFound {
            resource,
            id: id.to_string(),
        }
    }

    /// A name that is taken.
    pub fn already_exists(resource: &'static str, id: impl ToString) -> Self {
        Self::AlreadyExists {
            resource,
            id: id.to_string(),
        }
    }

    /// One bad field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// One bad field, with a reason of its own.
    pub fn rejected(
        reason: &'static str,
        field: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let violation = FieldViolation {
            field: field.into(),
            description: description.into(),
        };
        Self::Rejected { reason, violation }
    }

    /// A state that does not allow it.
    pub fn precondition(reason: &'static str, message: impl Into<String>) -> Self {
        Self::FailedPrecondition {
            reason,
            message: message.into(),
        }
    }

    /// A limit that was hit.
    pub fn exhausted(reason: &'static str, message: impl Into<String>) -> Self {
        Self::ResourceExhausted {
            reason,
            message: message.into(),
        }
    }

    /// Something that cannot be reached just now.
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Unavailable {
            reason,
            message: message.into(),
        }
    }

    /// Our own fault.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::Internal(cause.into())
    }

    /// The bad fields of the request.
    pub fn violations(&self) -> &[FieldViolation] {
        match self {
            Self::Invalid(violations) => violations,
            Self::Rejected { violation, .. } => std::slice::from_ref(violation),
            _ => &[],
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::Invalid(_) | Self::Rejected { .. } => Code::InvalidArgument,
            Self::FailedPrecondition { .. } => Code::FailedPrecondition,
            Self::PermissionDenied { .. } => Code::PermissionDenied,
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::ResourceExhausted { .. } => Code::ResourceExhausted,
            Self::Aborted { .. } => Code::Aborted,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// The machine-readable reason, the same over gRPC and HTTP.
    pub fn reason(&self) -> String {
        let upper = |text: &str| text.to_uppercase().replace([' ', '-'], "_");
        match self {
            Self::NotFound { resource, .. } => format!("{}_NOT_FOUND", upper(resource)),
            Self::AlreadyExists { resource, .. } => format!("{}_ALREADY_EXISTS", upper(resource)),
            Self::Invalid(_) => "INVALID_ARGUMENT".to_owned(),
            Self::Rejected { reason, .. }
            | Self::FailedPrecondition { reason, .. }
            | Self::ResourceExhausted { reason, .. }
            | Self::Aborted { reason, .. }
            | Self::Unavailable { reason, .. } => (*reason).to_owned(),
            Self::PermissionDenied { .. } => "PERMISSION_DENIED".to_owned(),
            Self::Unauthenticated { .. } => "UNAUTHENTICATED".to_owned(),
            Self::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED".to_owned(),
            Self::Internal(_) => "INTERNAL".to_owned(),
        }
    }
}

/// All violations in one line, for people who read only the message.
fn summary(violations: &[FieldViolation]) -> String {
    const SHOWN: usize = 5;
    let mut parts: Vec<String> = violations
        .iter()
        .take(SHOWN)
        .map(|v| format!("{}: {}", v.field, v.description))
        .collect();
    if violations.len() > SHOWN {
        parts.push(format!("and {} more", violations.len() - SHOWN));
    }
    parts.join("; ")
}

/// What a status may say, in bytes. It travels in headers, of which clients take 16 KiB, message and details encoded: a longer one
/// would not arrive, and the connection would be given up with all other calls on it.
const MAX_MESSAGE: usize = 1500;
const MAX_VIOLATIONS: usize = 4000;
const MAX_FIELD: usize = 250;

/// The text, cut to so many bytes.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if let Error::Internal(cause) = &error {
            tracing::error!(error = format!("{cause:#}"), "internal error");
        }
        let mut details =
            ErrorDetails::with_error_info(error.reason(), ERROR_DOMAIN, error_metadata(&error));
        add_violations(&mut details, error.violations());
        if matches!(error, Error::Unavailable { .. } | Error::Aborted { .. }) {
            details.set_retry_info(Some(Duration::from_millis(100)));
        }
        Self::with_error_details(error.code(), cut(&error.to_string(), MAX_MESSAGE), details)
    }
}

/// As many of the violations as fit, and how many do not.
fn add_violations(details: &mut ErrorDetails, violations: &[FieldViolation]) {
    let mut room = MAX_VIOLATIONS;
    for (at, violation) in violations.iter().enumerate() {
        let field = cut(&violation.field, MAX_FIELD);
        let description = cut(&violation.description, MAX_MESSAGE);
        let size = field.len() + description.len() + 8;
        if size > room {
            let text = format!("and {} more", violations.len() - at);
            details.add_bad_request_violation("…", text);
            return;
        }
        room -= size;
        details.add_bad_request_violation(field, description);
    }
}

fn error_metadata(error: &Error) -> std::collections::HashMap<String, String> {
    match error {
        Error::NotFound { resource, id } | Error::AlreadyExists { resource, id } => [
            ("resource".to_owned(), (*resource).to_owned()),
            ("id".to_owned(), cut(id, MAX_FIELD)),
        ]
        .into(),
        _ => Default::default(),
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let conflict = |message: &str| Self::Aborted {
            reason: "CONFLICT",
            message: message.to_owned(),
        };
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => {
                return conflict("another request made the same change; try again");
            }
            // What was there a moment ago.
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => {
                return conflict("another request removed what this belongs to; try again");
            }
            _ => {}
        }
        match &error {
            DbErr::ConnectionAcquire(_) => Self::unavailable(
                "DATABASE_BUSY",
                "the database has no free connection; try again",
            ),
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => match cause.as_ref() {
                sqlx::Error::Database(database) => from_database_code(database.code().as_deref())
                    .unwrap_or_else(|| Self::internal(error)),
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Tls(_) => {
                    tracing::warn!(%error, "the database cannot be reached");
                    Self::unavailable(
                        "DATABASE_UNAVAILABLE",
                        "the database cannot be reached; try again",
                    )
                }
                _ => Self::internal(error),
            },
            _ => Self::internal(error),
        }
    }
}

/// What a code of SQLite (decimal) or PostgreSQL (SQLSTATE) means for the caller.
fn from_database_code(code: Option<&str>) -> Option<Error> {
    match code? {
        "5" | "6" | "261" | "517" => Some(Error::unavailable(
            "DATABASE_BUSY",
            "the database is busy; try again",
        )),
        "13" | "53100" => Some(Error::exhausted(
            "STORAGE_FULL",
            "the disk of the database is full; nothing was stored",
        )),
        "40001" | "40P01" => Some(Error::Aborted {
            reason: "CONFLICT",
            message: "another request changed the same thing; try again".to_owned(),
        }),
        "57P01" | "57P02" | "57P03" | "53300" => Some(Error::unavailable(
            "DATABASE_UNAVAILABLE",
            "the database cannot be reached; try again",
        )),
        // PostgreSQL cannot hold NUL in a text. What is stored is checked before; this is for names that are only looked up.
        "22021" => Some(Error::invalid(
            "request",
            "text must not hold NUL characters",
        )),
        // SQLite's I/O errors while writing: on a full disk some file systems say so only here.
        "778" | "1034" | "4874" => Some(Error::exhausted(
            "STORAGE_FULL",
            "the disk of the database cannot be written; nothing was stored",
        )),
        _ => None,
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::exhausted(
                "STORAGE_FULL",
                "the disk of the server is full; nothing was stored",
            ),
            _ => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_reason_and_fields() {
        let status = Status::from(Error::invalid("name", "must not be empty"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(
            details.error_info().map(|info| info.reason.as_str()),
            Some("INVALID_ARGUMENT")
        );
        assert_eq!(
            details
                .bad_request()
                .map(|bad| bad.field_violations[0].field.as_str()),
            Some("name")
        );
    }

    #[test]
    fn a_status_fits_into_headers_whatever_it_says() {
        let violations = (0..5000).map(|at| FieldViolation {
            field: format!("metrics[{at}]"),
            description: "ü".repeat(300),
        });
        let long = "ü".repeat(1 << 20);
        for error in [
            Error::Invalid(violations.collect()),
            Error::invalid(long.clone(), long.clone()),
            Error::not_found("run", &long),
            Error::precondition("X", long.clone()),
        ] {
            let headers = Status::from(error).into_http::<()>().into_parts().0.headers;
            let size: usize = headers
                .iter()
                .map(|(n, v)| n.as_str().len() + v.len())
                .sum();
            assert!((1000..14_000).contains(&size), "{size}");
        }
        let many = (0..100).map(|at| FieldViolation {
            field: format!("f[{at}]"),
            description: "x".repeat(200),
        });
        let status = Status::from(Error::Invalid(many.collect()));
        let details = status.get_error_details();
        let shown = &details.bad_request().expect("told").field_violations;
        let last = shown.last().expect("told");
        assert_eq!(last.description, format!("and {} more", 101 - shown.len()));
    }

    #[test]
    fn internal_text_is_not_sent() {
        let status = Status::from(Error::internal(anyhow::anyhow!("password=secret")));
        assert_eq!(status.message(), "internal error");
    }

    #[test]
    fn reasons_name_the_resource() {
        assert_eq!(
            Error::not_found("feature view", "x").reason(),
            "FEATURE_VIEW_NOT_FOUND"
        );
    }
}
