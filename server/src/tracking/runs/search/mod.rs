//! SearchRuns: a small filter language over runs, and its SQL.
//!
//! The language: comparisons joined by `AND`, `OR` and parentheses.
//! - Fields: `metrics.<key>` (the last value), `params.<key>`, `tags.<key>`, `attributes.<name>` (or just `<name>`). A key
//!   with other characters than letters, digits and `_-./:` stands in double quotes or backquotes.
//! - Metrics compare with numbers. Params and tags compare with texts byte by byte; with a number they compare as numbers,
//!   and those that do not read as one (a finite decimal) do not fit.
//! - `started_at` and `ended_at` compare with integers (milliseconds since 1970) or RFC 3339 texts; `run_id` and
//!   `parent_run_id` only for equality.
//! - `LIKE` and `ILIKE` (which ignores the case of ASCII letters): `%` is any text, `_` one character, `\` takes away
//!   their meaning. `[NOT] IN (…)`, `IS [NOT] NULL`.
//! - What a run does not have fits no comparison, `!=` and `NOT IN` included, but `IS NULL`. A metric whose last value is
//!   NaN counts as not there.
//!
//! Invariant: text of a filter reaches the database as bound values only. Lexer, parser and patterns are pure.

mod ast;
mod lexer;
mod literal;
mod order;
mod parser;
mod pattern;
mod query;
mod service;
mod sql;

pub(crate) use service::search_runs;
