//! What goes wrong while planning and reading, as errors that say whose fault it is.

use datafusion::error::DataFusionError;

use crate::{
    error::Error,
    features::asof::{AsOfError, ErrorKind},
    objects::sources::store_error,
};

/// Why a query could not be planned.
#[derive(Debug)]
pub(in crate::features) enum PlanError {
    /// A definition or a query is wrong; the text says what.
    Definition(String),
    /// Data cannot be read.
    Data(Error),
}

impl From<Error> for PlanError {
    fn from(error: Error) -> Self {
        Self::Data(error)
    }
}

impl PlanError {
    /// The error of a request that uses a definition which was right when it was applied.
    pub(in crate::features) fn into_error(self) -> Error {
        match self {
            Self::Definition(text) => Error::precondition("DEFINITION_BROKEN", text),
            Self::Data(error) => error,
        }
    }

    /// The error of a request whose field holds the definition.
    pub(in crate::features) fn in_field(self, field: &str) -> Error {
        match self {
            Self::Definition(text) => Error::invalid(field, text),
            Self::Data(error) => error,
        }
    }

    /// An error of planning `what`, e.g. "source `x`".
    pub(super) fn planning(what: &str, error: &DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::Internal(_) | DataFusionError::ObjectStore(_) => {
                Self::Data(run_error(what, error))
            }
            DataFusionError::ResourcesExhausted(_) => Self::Data(run_error(what, error)),
            root => Self::Definition(format!("{what}: {}", first_line(&root.strip_backtrace()))),
        }
    }
}

/// An error of reading `what`, e.g. "feature view `x`".
pub(in crate::features) fn run_error(what: &str, error: &DataFusionError) -> Error {
    let root = error.find_root();
    let text = first_line(&root.strip_backtrace());
    match root {
        DataFusionError::ResourcesExhausted(_) => Error::exhausted(
            "QUERY_MEMORY",
            format!(
                "{what} needs more memory than a query may have; ask for fewer rows or columns"
            ),
        ),
        DataFusionError::ObjectStore(error) => store_error(what, error),
        DataFusionError::ParquetError(_) => Error::precondition(
            "SOURCE_UNREADABLE",
            format!("{what} cannot be read: {text}"),
        ),
        // An operator that reads on a task of its own met a file that its decoder panics at.
        DataFusionError::ExecutionJoin(join) if join.is_panic() => {
            tracing::warn!(what, error = %join, "a file could not be decoded");
            Error::precondition(
                "SOURCE_UNREADABLE",
                format!("{what} cannot be read: its data is damaged"),
            )
        }
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) => {
            Error::internal(anyhow::anyhow!("{what}: {error}"))
        }
        DataFusionError::IoError(io) if io.kind() == std::io::ErrorKind::StorageFull => {
            Error::exhausted("STORAGE_FULL", format!("{what}: no space left to spill to"))
        }
        DataFusionError::IoError(_) => Error::precondition(
            "SOURCE_UNREADABLE",
            format!("{what} cannot be read: {text}"),
        ),
        _ => Error::precondition("QUERY_FAILED", format!("{what}: {text}")),
    }
}

/// An error of the join, for the field of the request that names the entity rows.
pub(in crate::features) fn asof_error(error: &AsOfError) -> Error {
    match error.kind() {
        ErrorKind::Invalid => {
            let field = match error {
                AsOfError::KnownAtWithoutCreated { .. } => "known_at",
                AsOfError::TimestampType { .. } => "timestamp_column",
                _ => "entities",
            };
            Error::invalid(field, error.to_string())
        }
        ErrorKind::ResourceExhausted => Error::exhausted("QUERY_MEMORY", error.to_string()),
        ErrorKind::Internal => Error::internal(anyhow::anyhow!("{error}")),
    }
}

fn first_line(text: &str) -> String {
    let text = text.trim();
    text.lines().take(3).collect::<Vec<_>>().join(" ")
}
