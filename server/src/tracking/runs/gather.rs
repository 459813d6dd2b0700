//! SQL that reads whole runs: what each of them has comes as one text, and several of them as one row.
//!
//! A row costs the driver much more than what is in it (SQLite hands each from one thread to another), and a run has dozens of
//! params, tags and metrics. So the database makes JSON of them, and one statement reads any number of runs.
//!
//! Invariant: the text of the statement depends on what is wanted only, never on how many runs there are, so databases need
//! not think about it again. Numbers come back bit for bit.

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    assemble::Selection,
    keys::Keys,
    list::{self, Ids},
};
use crate::{
    auth::Scope,
    error::{Error, Result},
};

/// What parts of a row are parted by: JSON has no such character, but as an escape.
const SEPARATOR: char = '\u{1e}';
/// Parts of a run: its place, its row, its params, tags, metrics, inputs and branches.
const PARTS: usize = 7;

/// One run as the database tells it. What is not wanted is an empty text.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    /// Place of its id among those that were asked for.
    pub(super) place: usize,
    pub(super) run: &'a str,
    pub(super) params: &'a str,
    pub(super) tags: &'a str,
    pub(super) metrics: &'a str,
    pub(super) inputs: &'a str,
    pub(super) branches: &'a str,
}

/// A row of `runs`, with the name of its experiment. Like the others it comes as a list, in this order.
#[derive(Debug, Deserialize)]
pub(super) struct RunRow {
    pub(super) experiment: String,
    pub(super) name: String,
    /// Empty where there is none.
    pub(super) parent: String,
    pub(super) status: String,
    pub(super) status_message: String,
    pub(super) description: String,
    pub(super) started_at: i64,
    pub(super) ended_at: Option<i64>,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
    pub(super) created_by: String,
    pub(super) deleted_at: Option<i64>,
    pub(super) heartbeat_at: Option<i64>,
    pub(super) revision: i64,
}

/// What the summary of a series says.
#[derive(Debug, Deserialize)]
pub(super) struct MetricRow {
    pub(super) key: String,
    pub(super) last_bits: i64,
    pub(super) last_step: i64,
    pub(super) last_timestamp_us: i64,
    pub(super) count: i64,
    /// As a decimal; none where it is the last value.
    pub(super) min: Option<String>,
    pub(super) max: Option<String>,
}

/// A row of `run_inputs`.
#[derive(Debug, Deserialize)]
pub(super) struct InputRow {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) context: String,
    pub(super) source: String,
    pub(super) source_type: String,
    pub(super) fields: String,
    pub(super) row_count: Option<i64>,
    pub(super) created_at: i64,
}

/// A row of `run_branches`.
#[derive(Debug, Deserialize)]
pub(super) struct BranchRow {
    pub(super) number: i32,
    pub(super) parent: i32,
    pub(super) from_step: i64,
    pub(super) created_at: i64,
}

/// The runs of the project among these, as texts for [`split`], in no order; so many of them in a text.
pub(super) async fn gather(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
    selection: &Selection,
    together: i64,
) -> Result<Vec<String>> {
    let sql = Sql::new(conn.get_database_backend());
    let statement = sql.statement(scope, ids, selection, together);
    let rows = conn.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| Ok(row.try_get_by_index(0)?))
        .collect()
}

/// The runs of a text.
pub(super) fn split(text: &str) -> Result<Vec<Gathered<'_>>> {
    let parts: Vec<&str> = text.split(SEPARATOR).collect();
    let bad = || Error::internal(std::io::Error::other("a gathered run is damaged"));
    let runs = parts.chunks(PARTS).map(|parts| match *parts {
        [place, run, params, tags, metrics, inputs, branches] => Ok(Gathered {
            place: place.parse().map_err(Error::internal)?,
            run,
            params,
            tags,
            metrics,
            inputs,
            branches,
        }),
        _ => Err(bad()),
    });
    runs.collect()
}

/// Builds the statement in the words of a database.
struct Sql {
    backend: DbBackend,
    values: Vec<Value>,
}

impl Sql {
    fn new(backend: DbBackend) -> Self {
        Self {
            backend,
            values: Vec::new(),
        }
    }

    fn is_sqlite(&self) -> bool {
        self.backend == DbBackend::Sqlite
    }

    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        let sign = if self.is_sqlite() { '?' } else { '$' };
        format!("{sign}{}", self.values.len())
    }

    fn statement(
        mut self,
        scope: &Scope,
        ids: &[Uuid],
        selection: &Selection,
        together: i64,
    ) -> Statement {
        let ids = Ids::new(self.backend, ids);
        let ids = self.bind(ids.into_value());
        let wanted = if self.is_sqlite() {
            format!("SELECT key, unhex(value) FROM json_each({ids})")
        } else {
            // The list is a query of its own: else PostgreSQL would look at how long it is, and plan anew each time.
            format!(
                "SELECT place - 1, id FROM unnest((SELECT CAST({ids} AS uuid[]))) WITH ORDINALITY AS listed(id, place)"
            )
        };
        let parts = [
            self.text_of("wanted.place"),
            self.run(),
            self.texts("run_params", &selection.params),
            self.texts("run_tags", &selection.tags),
            self.metrics(&selection.metrics),
            self.inputs(selection.inputs),
            self.branches(),
        ];
        let project = self.bind(scope.project_id());
        let together = self.bind(together);
        let separator = format!("{}({})", self.either("char", "chr"), u32::from(SEPARATOR));
        let text = parts.join(&format!(" || {separator} || "));
        let joined = self.either("group_concat", "string_agg");
        // SQLite takes a CROSS JOIN as the order of its loops: first the list, then each run by its id.
        let sql = format!(
            "WITH wanted(place, id) AS ({wanted}) SELECT {joined}({text}, {separator}) \
             FROM wanted CROSS JOIN runs CROSS JOIN experiments \
             WHERE runs.id = wanted.id AND runs.project_id = {project} AND experiments.id = runs.experiment_id \
             GROUP BY wanted.place / {together}"
        );
        Statement::from_sql_and_values(self.backend, sql, self.values)
    }

    /// The same in SQLite and in PostgreSQL.
    fn either(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        if self.is_sqlite() { sqlite } else { postgres }
    }

    fn text_of(&self, value: &str) -> String {
        format!("CAST({value} AS text)")
    }

    fn array(&self, columns: &str) -> String {
        format!(
            "{}({columns})",
            self.either("json_array", "json_build_array")
        )
    }

    fn run(&self) -> String {
        let parent = self.either(
            "hex(parent_run_id)",
            "COALESCE(CAST(parent_run_id AS text), '')",
        );
        let columns = format!(
            "experiments.name, runs.name, {parent}, status, status_message, runs.description, started_at, ended_at, \
             runs.created_at, runs.updated_at, runs.created_by, runs.deleted_at, heartbeat_at, revision"
        );
        self.text_of(&self.array(&columns))
    }

    /// One object of keys and values.
    fn texts(&mut self, table: &str, keys: &Keys) -> String {
        let Some(condition) = self.of_keys(table, keys) else {
            return "''".to_owned();
        };
        let object = self.either(
            "json_group_object(key, value)",
            "COALESCE(CAST(json_object_agg(key, value) AS text), '{}')",
        );
        format!("(SELECT {object} FROM {table} WHERE {table}.run_id = wanted.id{condition})")
    }

    /// A list of [`MetricRow`].
    fn metrics(&mut self, keys: &Keys) -> String {
        let Some(condition) = self.of_keys("metric_series", keys) else {
            return "''".to_owned();
        };
        // So many digits as SQLite knows, more than a double has.
        let digits = |column: &str| match self.backend {
            DbBackend::Sqlite => format!("printf('%!.20g', {column})"),
            _ => self.text_of(column),
        };
        let unless_last = |column: &str| {
            let digits = digits(column);
            format!(
                "CASE WHEN {column} IS NULL OR {column} = last_value THEN NULL ELSE {digits} END"
            )
        };
        let columns = format!(
            "key, last_bits, last_step, last_timestamp_us, count, {}, {}",
            unless_last("min_value"),
            unless_last("max_value")
        );
        // A series that was logged in an older branch only has no points in this one.
        self.list(
            &columns,
            "metric_series",
            &format!(" AND metric_series.count > 0{condition}"),
        )
    }

    /// A list of [`InputRow`].
    fn inputs(&self, wanted: bool) -> String {
        if !wanted {
            return "''".to_owned();
        }
        let columns = "run_inputs.name, digest, context, source, source_type, fields, row_count, run_inputs.created_at";
        self.list(columns, "run_inputs", "")
    }

    /// A list of [`BranchRow`]; most runs have none.
    fn branches(&self) -> String {
        let columns = "number, parent, from_step, run_branches.created_at";
        let list = self.list(columns, "run_branches", "");
        format!("CASE WHEN runs.branch > 0 THEN {list} ELSE '' END")
    }

    /// The rows of a table as a list of lists.
    fn list(&self, columns: &str, table: &str, condition: &str) -> String {
        let array = self.array(columns);
        let list = if self.is_sqlite() {
            format!("json_group_array({array})")
        } else {
            format!("COALESCE(CAST(json_agg({array}) AS text), '[]')")
        };
        format!("(SELECT {list} FROM {table} WHERE {table}.run_id = wanted.id{condition})")
    }

    /// The condition for some keys; none when no key is wanted.
    fn of_keys(&mut self, table: &str, keys: &Keys) -> Option<String> {
        let keys = match keys {
            Keys::All => return Some(String::new()),
            Keys::Some(keys) if keys.is_empty() => return None,
            Keys::Some(keys) => self.bind(list::texts(keys)),
        };
        let list = if self.is_sqlite() {
            format!("IN (SELECT value FROM json_each({keys}))")
        } else {
            format!("= ANY(ARRAY(SELECT json_array_elements_text(CAST({keys} AS json))))")
        };
        Some(format!(" AND {table}.key {list}"))
    }
}
