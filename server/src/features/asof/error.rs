//! What can go wrong in a point-in-time join, told so that the caller can act on it.
//!
//! Every variant but [`AsOfError::Arrow`] and [`AsOfError::Failed`] is the caller's to mend. This file must not know
//! how errors travel; [`AsOfError::kind`] is all that a service needs to choose a status code.

use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

/// An error of [`AsOf`](super::AsOf) or [`Latest`](super::Latest).
#[derive(Debug, thiserror::Error)]
pub enum AsOfError {
    /// A named column is not in the table.
    #[error("{table} has no column `{column}`; its columns are {available}")]
    MissingColumn {
        /// The table, for people: "the entity table" or "feature view `x`".
        table: String,
        /// The column that was asked for.
        column: String,
        /// The columns that are there.
        available: String,
    },
    /// A named column is in the table more than once.
    #[error("{table} has more than one column `{column}`; rename all but one")]
    AmbiguousColumn {
        /// The table, for people.
        table: String,
        /// The column that was asked for.
        column: String,
    },
    /// The two sides name different numbers of join keys.
    #[error(
        "feature view `{view}` has {expected} join keys, but {given} entity columns are given for them"
    )]
    KeyCount {
        /// The feature view.
        view: String,
        /// Join keys of the view.
        expected: usize,
        /// Entity columns given.
        given: usize,
    },
    /// The types of a join key do not compare without loss.
    #[error(
        "join key `{feature_column}` of feature view `{view}` is {feature_type}, but entity column `{entity_column}` \
         is {entity_type}; they do not compare without loss, so cast one of them"
    )]
    KeyTypes {
        /// The feature view.
        view: String,
        /// The entity column.
        entity_column: String,
        /// Its type.
        entity_type: DataType,
        /// The join key of the view.
        feature_column: String,
        /// Its type.
        feature_type: DataType,
    },
    /// The type of a join key is not one that can be compared for equality.
    #[error(
        "join key `{column}` of feature view `{view}` is {data_type}; a join key must be a boolean, number, string, \
         binary, date, time or timestamp"
    )]
    KeyUnsupported {
        /// The feature view.
        view: String,
        /// The join key.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// A floating-point key is compared with integers, and one of its values is not one.
    #[error(
        "column `{column}` of {table} is {data_type} and holds {value}, which is not exactly an integer, but it is \
         joined with an integer key"
    )]
    KeyValue {
        /// The table, for people.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
        /// The value.
        value: f64,
    },
    /// A timestamp column is not of a type that denotes an instant.
    #[error(
        "column `{column}` of {table} is {data_type}, which is no timestamp; accepted are Timestamp in s, ms, us or ns \
         (with or without a time zone; without one it is UTC), Date32 and Date64"
    )]
    TimestampType {
        /// The table, for people.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// `known_at = "entity"` was asked of a view that does not record when its rows were created.
    #[error(
        "known_at=\"entity\" needs to know when each row was written, but feature view `{view}` has no created-timestamp \
         column"
    )]
    KnownAtWithoutCreated {
        /// The feature view.
        view: String,
    },
    /// A batch does not have the columns that its side was declared with.
    #[error("a batch of {table} has {actual} where its schema says {expected}")]
    BatchSchema {
        /// The table, for people.
        table: String,
        /// The declared column.
        expected: String,
        /// The column of the batch.
        actual: String,
    },
    /// The join would need more memory than it may have.
    #[error(
        "joining feature view `{view}` needs more than its memory limit of {limit} bytes ({needed} so far); ask for fewer \
         rows or features at a time"
    )]
    MemoryLimit {
        /// The feature view.
        view: String,
        /// Bytes needed when the limit was met.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More rows than the join can count.
    #[error("{table} has more than {limit} rows; send them in parts")]
    TooManyRows {
        /// The table, for people.
        table: String,
        /// The greatest number of rows.
        limit: usize,
    },
    /// The values of a dictionary-encoded feature do not fit its index type.
    #[error(
        "feature `{feature}` of view `{view}` is {data_type}, and its result has more distinct values than that index \
         type can number; declare it with its plain value type"
    )]
    DictionaryOverflow {
        /// The feature view.
        view: String,
        /// The feature.
        feature: String,
        /// Its type.
        data_type: DataType,
    },
    /// An earlier call failed, so that what was pushed is not known to be complete.
    #[error("the join of feature view `{view}` failed before and cannot be continued")]
    Failed {
        /// The feature view.
        view: String,
    },
    /// A kernel failed.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Who can do something about an [`AsOfError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request or the data has to change (gRPC INVALID_ARGUMENT).
    Invalid,
    /// The request is too large as a whole (gRPC RESOURCE_EXHAUSTED).
    ResourceExhausted,
    /// A fault of this program (gRPC INTERNAL).
    Internal,
}

impl AsOfError {
    /// Why values of `field` could not be delivered.
    pub(super) fn of_delivery(view: &str, field: &Field, error: ArrowError) -> Self {
        match error {
            ArrowError::DictionaryKeyOverflowError => Self::DictionaryOverflow {
                view: view.to_owned(),
                feature: field.name().clone(),
                data_type: field.data_type().clone(),
            },
            error => Self::Arrow(error),
        }
    }

    /// Who can do something about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::MemoryLimit { .. } | Self::TooManyRows { .. } => ErrorKind::ResourceExhausted,
            Self::Arrow(ArrowError::OffsetOverflowError(_) | ArrowError::MemoryError(_)) => {
                ErrorKind::ResourceExhausted
            }
            Self::Arrow(_) | Self::Failed { .. } => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        }
    }
}
