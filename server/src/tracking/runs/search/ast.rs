//! A filter as it is meant: what compares with what is settled here. Pure.

use uuid::Uuid;

use super::pattern::Pattern;

/// A filter or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    /// All of them fit; none: fits.
    All(Vec<Filter>),
    /// One of them fits.
    Any(Vec<Filter>),
    /// One comparison.
    Compare(Field, Test),
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Metric(String),
    Param(String),
    Tag(String),
    Attribute(Attribute),
}

/// A column of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    RunId,
    Name,
    Status,
    Experiment,
    ParentRunId,
    StartedAt,
    EndedAt,
    CreatedBy,
}

impl Attribute {
    pub(super) const ALL: [(Self, &'static str); 8] = [
        (Self::RunId, "run_id"),
        (Self::Name, "name"),
        (Self::Status, "status"),
        (Self::Experiment, "experiment"),
        (Self::ParentRunId, "parent_run_id"),
        (Self::StartedAt, "started_at"),
        (Self::EndedAt, "ended_at"),
        (Self::CreatedBy, "created_by"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(attribute, _)| *attribute == self)
            .map_or("", |(_, name)| name)
    }

    /// By our name, or by that of MLflow.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let name = match name {
            "run_name" => "name",
            "start_time" => "started_at",
            "end_time" => "ended_at",
            "user_id" => "created_by",
            "experiment_name" => "experiment",
            other => other,
        };
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(attribute, _)| *attribute)
    }
}

/// What is asked of the field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// As a number.
    Number(Op, f64),
    /// As text.
    Text(Op, String),
    /// As a time, in microseconds.
    Time(Op, i64),
    /// As an id; only `=` and `!=`.
    Id(Op, Uuid),
    /// LIKE, or ILIKE which ignores case.
    Like { pattern: Pattern, ignore_case: bool },
    /// IN or NOT IN.
    In { values: Values, negated: bool },
    /// IS NULL or IS NOT NULL.
    Null { negated: bool },
}

/// A list of values of one type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
    Times(Vec<i64>),
    Ids(Vec<Uuid>),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One of the orders of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderBy {
    pub(super) field: Field,
    pub(super) descending: bool,
}
