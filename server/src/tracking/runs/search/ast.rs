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
    /// It does not fit.
    Not(Box<Filter>),
    /// One comparison.
    Compare(Field, Test),
}

impl Filter {
    /// What must fit so that the whole does, at least.
    pub(super) fn conjuncts(&self) -> Vec<&Filter> {
        match self {
            Self::All(parts) => parts.iter().flat_map(Self::conjuncts).collect(),
            other => vec![other],
        }
    }

    /// Whether any comparison looks at this attribute.
    pub(super) fn mentions(&self, wanted: Attribute) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.mentions(wanted)),
            Self::Not(part) => part.mentions(wanted),
            Self::Compare(field, _) => *field == Field::Attribute(wanted),
        }
    }
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Metric(Stat, String),
    Param(String),
    Tag(String),
    Dataset(DatasetPart),
    Attribute(Attribute),
}

/// Which number of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stat {
    Last,
    Min,
    Max,
    Count,
}

impl Stat {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "last" | "latest" => Some(Self::Last),
            "min" => Some(Self::Min),
            "max" => Some(Self::Max),
            "count" => Some(Self::Count),
            _ => None,
        }
    }
}

/// What is asked of the data sets that a run read; it fits where one of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatasetPart {
    Name,
    Digest,
    Context,
    Source,
}

impl DatasetPart {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "name" => Some(Self::Name),
            "digest" => Some(Self::Digest),
            "context" => Some(Self::Context),
            "source" => Some(Self::Source),
            _ => None,
        }
    }
}

/// A column of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    RunId,
    Name,
    Status,
    StatusMessage,
    Description,
    Experiment,
    ExperimentId,
    ParentRunId,
    StartedAt,
    EndedAt,
    CreatedAt,
    UpdatedAt,
    CreatedBy,
}

impl Attribute {
    pub(super) const ALL: [(Self, &'static str); 13] = [
        (Self::RunId, "run_id"),
        (Self::Name, "name"),
        (Self::Status, "status"),
        (Self::StatusMessage, "status_message"),
        (Self::Description, "description"),
        (Self::Experiment, "experiment"),
        (Self::ExperimentId, "experiment_id"),
        (Self::ParentRunId, "parent_run_id"),
        (Self::StartedAt, "started_at"),
        (Self::EndedAt, "ended_at"),
        (Self::CreatedAt, "created_at"),
        (Self::UpdatedAt, "updated_at"),
        (Self::CreatedBy, "created_by"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(attribute, _)| *attribute == self)
            .map_or("", |(_, name)| name)
    }

    /// Whether it is a UUID.
    pub(super) fn is_id(self) -> bool {
        matches!(self, Self::RunId | Self::ExperimentId | Self::ParentRunId)
    }

    /// Whether a run may be without it.
    pub(super) fn is_nullable(self) -> bool {
        matches!(self, Self::ParentRunId | Self::EndedAt)
    }

    /// By our name, or by one of those that MLflow has for it.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let name = match name {
            "run_name" | "run name" | "Run name" | "Run Name" => "name",
            "start_time" | "created" | "Created" => "started_at",
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

    /// What MLflow keeps in a tag, and an import makes an attribute of, so that runs are found alike wherever they were logged.
    /// (Notes are not among them: a run without any has empty ones, which is not the same as no tag.)
    pub(super) fn by_tag(key: &str) -> Option<Self> {
        match key {
            "mlflow.runName" => Some(Self::Name),
            "mlflow.parentRunId" => Some(Self::ParentRunId),
            _ => None,
        }
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
    /// As an id, which has no order.
    Id(Op, Uuid),
    /// [NOT] LIKE, or [NOT] ILIKE which ignores case.
    Like {
        pattern: Pattern,
        ignore_case: bool,
        negated: bool,
    },
    /// IN or NOT IN.
    In { values: Values, negated: bool },
    /// IS NULL or IS NOT NULL.
    Null { negated: bool },
}

impl Test {
    /// Whether it looks at a param or a tag as a number.
    pub(super) fn is_numeric(&self) -> bool {
        matches!(
            self,
            Self::Number(..)
                | Self::In {
                    values: Values::Numbers(_),
                    ..
                }
        )
    }
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

/// One of the things that a search returns of a run; without a key all of the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selected {
    Metrics(Option<String>),
    Params(Option<String>),
    Tags(Option<String>),
    Inputs,
    Nothing,
}
