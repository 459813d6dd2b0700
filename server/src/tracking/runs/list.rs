//! Lists as one value of a statement, whose text is then the same however long they are.

use std::{collections::BTreeSet, fmt::Write as _};

use sea_orm::{DbBackend, sea_query::Expr};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Ids: for SQLite a JSON list of their bytes in hex, for PostgreSQL what casts to `uuid[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids(String);

impl Ids {
    /// Of these ids.
    pub(super) fn new(backend: DbBackend, ids: &[Uuid]) -> Self {
        let (open, quote, close) = match backend {
            DbBackend::Sqlite => ('[', "\"", ']'),
            _ => ('{', "", '}'),
        };
        let mut text = String::with_capacity(ids.len() * 35 + 2);
        text.push(open);
        for (index, id) in ids.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a text never fails.
            let _ = write!(text, "{comma}{quote}{}{quote}", id.simple());
        }
        text.push(close);
        Self(text)
    }

    /// What the database made of many rows by [`Ids::aggregate`].
    pub(super) fn aggregated(text: String) -> Self {
        Self(text)
    }

    /// One by one.
    pub(super) fn parse(&self) -> Result<Vec<Uuid>> {
        let ids = self.0.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
        ids.filter(|id| !id.is_empty())
            .map(|id| Uuid::try_parse(id).map_err(Error::internal))
            .collect()
    }

    /// The expression that makes them of many rows.
    pub(super) fn aggregate(backend: DbBackend, column: &str) -> Expr {
        Expr::cust(match backend {
            DbBackend::Sqlite => {
                format!(r#"'[' || COALESCE(group_concat('"' || hex({column}) || '"'), '') || ']'"#)
            }
            _ => format!("'{{' || COALESCE(string_agg(CAST({column} AS text), ','), '') || '}}'"),
        })
    }

    /// Whether a column is one of them.
    pub(super) fn hold(&self, backend: DbBackend, column: &str) -> Expr {
        let condition = match backend {
            DbBackend::Sqlite => format!("{column} IN (SELECT unhex(value) FROM json_each(?))"),
            _ => format!("{column} = ANY(CAST($1 AS uuid[]))"),
        };
        Expr::cust_with_values(condition, [self.0.as_str()])
    }

    /// The value.
    pub(super) fn into_value(self) -> String {
        self.0
    }
}

/// Texts, as a JSON list.
pub(super) fn texts(texts: &BTreeSet<String>) -> String {
    serde_json::to_string(texts).unwrap_or_default()
}
