//! SearchRuns: a small filter language over runs, and its SQL.
//!
//! The language: comparisons joined by `AND`, `OR`, `NOT` and parentheses.
//! - Fields: `metrics.<key>` (the last value), `min(metrics.<key>)`, `max(…)`, `last(…)` and `count(…)`, `params.<key>`,
//!   `tags.<key>`, `datasets.<name, digest, context or source>`, `attributes.<name>` (or just `<name>`). A key with other
//!   characters than letters, digits and `_-./:` stands in double quotes or backquotes.
//! - The tags `mlflow.runName` and `mlflow.parentRunId` mean the attributes that they are here.
//! - A comparison of data sets fits where one of those that the run read does.
//! - Metrics compare with numbers. Params and tags compare with texts byte by byte; with a number they compare as numbers,
//!   and those that do not read as one (a finite decimal) do not fit.
//! - Times compare with integers (milliseconds since 1970) or RFC 3339 texts; ids, the status and notes have no order.
//! - `LIKE` and `ILIKE` (which ignores the case of ASCII letters): `%` is any text, `_` one character, `\` takes away
//!   their meaning. `[NOT] IN (…)`, `IS [NOT] NULL`.
//! - What a run does not have fits no comparison, `!=` and `NOT IN` included, but `IS NULL`. A metric whose last value is
//!   NaN counts as not there. `NOT` before a comparison (or a parenthesis) is its contrary: it fits whatever the rest does
//!   not fit, runs without the field included.
//!
//! Invariant: text of a filter reaches the database as bound values only. Lexer, parser and patterns are pure.

mod ast;
mod fields;
mod lexer;
mod literal;
mod narrow;
mod order;
mod parser;
mod pattern;
mod query;
mod service;
mod sql;
mod words;

pub(crate) use narrow::RecentSurveys;
pub(crate) use service::search_runs;
