//! SQL of the params and tags of runs.
//!
//! Invariant: they are written together with the row of their run or while it is locked, and never become more than fit into one
//! message with it. What a key or a value may be is settled before; nothing here looks at runs themselves.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait, QueryFilter as _, QuerySelect as _, Select,
    sea_query::{Expr, ExprTrait as _, InsertStatement, OnConflict, Query},
};
use uuid::Uuid;

use super::convert;
use crate::{
    auth::Scope,
    db,
    error::{Error, Result},
    tracking::entity::{run_param, run_tag},
};

/// Rows a statement, so that its parameters stay below what SQLite takes (32,766).
const ROWS: usize = 1000;
/// Most params, and most tags, of one run, and most bytes of them, so that a run always fits into one message.
const MAX_TEXTS: i64 = 10_000;
const MAX_TEXT_BYTES: i64 = 8 << 20;

/// What becomes of a key that the run has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownKeys {
    /// It gets the new value.
    Change,
    /// It stays as it is.
    Stay,
}

/// The params of a run.
pub(crate) async fn load_params(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
) -> Result<BTreeMap<String, String>> {
    let rows = run_param::Entity::find()
        .filter(run_param::Column::RunId.eq(run_id))
        .all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.key, row.value)).collect())
}

/// Sets params of a locked run; others stay.
pub(crate) async fn set_params(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    params: &HashMap<String, String>,
    known: KnownKeys,
) -> Result<()> {
    set(txn, run_param::Entity, run_id, "params", params, known).await
}

/// Sets tags of a locked run; others stay.
pub(crate) async fn set_tags(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    tags: &HashMap<String, String>,
    known: KnownKeys,
) -> Result<()> {
    set(txn, run_tag::Entity, run_id, "tags", tags, known).await
}

async fn set<E: EntityTrait>(
    txn: &impl ConnectionTrait,
    table: E,
    run_id: Uuid,
    what: &'static str,
    texts: &HashMap<String, String>,
    known: KnownKeys,
) -> Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    db::insert_together(txn, inserts(table, run_id, texts, known)).await?;
    let of_run = E::find().filter(Expr::col("run_id").eq(run_id));
    at_most(txn, what, of_run).await
}

/// The inserts that set the tags of a run that has none.
pub(super) fn first_tags(
    run_id: Uuid,
    tags: &HashMap<String, String>,
) -> Result<Vec<InsertStatement>> {
    let bytes = tags.iter().map(|(key, value)| key.len() + value.len());
    let bytes = bytes.sum::<usize>().try_into().unwrap_or(i64::MAX);
    check("tags", tags.len().try_into().unwrap_or(i64::MAX), bytes)?;
    Ok(inserts(run_tag::Entity, run_id, tags, KnownKeys::Change))
}

/// Both tables have these columns.
fn inserts<E: EntityTrait>(
    table: E,
    run_id: Uuid,
    texts: &HashMap<String, String>,
    known: KnownKeys,
) -> Vec<InsertStatement> {
    let texts: Vec<_> = texts.iter().collect();
    let mut on_conflict = OnConflict::columns(["run_id", "key"]);
    match known {
        KnownKeys::Change => on_conflict.update_columns(["value", "number"]),
        KnownKeys::Stay => on_conflict.do_nothing(),
    };
    let insert = |part: &[(&String, &String)]| {
        let mut insert = Query::insert();
        insert
            .into_table(table)
            .columns(["run_id", "key", "value", "number"])
            .on_conflict(on_conflict.clone());
        for (key, value) in part {
            let number = convert::number(value);
            insert.values_panic([
                run_id.into(),
                key.as_str().into(),
                value.as_str().into(),
                number.into(),
            ]);
        }
        insert
    };
    texts.chunks(ROWS).map(insert).collect()
}

/// Refuses what would be too many or too large; the transaction is given up then.
async fn at_most<E: EntityTrait>(
    txn: &impl ConnectionTrait,
    what: &'static str,
    all: Select<E>,
) -> Result<()> {
    let found: Option<(i64, i64)> = all
        .select_only()
        .column_as(Expr::cust("COUNT(*)"), "count")
        .column_as(
            Expr::cust("COALESCE(SUM(OCTET_LENGTH(key) + OCTET_LENGTH(value)), 0)"),
            "bytes",
        )
        .into_tuple()
        .one(txn)
        .await?;
    let (count, bytes) = found.unwrap_or_default();
    check(what, count, bytes)
}

fn check(what: &'static str, count: i64, bytes: i64) -> Result<()> {
    let text = if count > MAX_TEXTS {
        format!("the run would have {count} {what}; at most {MAX_TEXTS} are possible")
    } else if bytes > MAX_TEXT_BYTES {
        format!(
            "the {what} of the run would have {bytes} bytes in all; at most {MAX_TEXT_BYTES} are possible; log large texts as \
             artifacts"
        )
    } else {
        return Ok(());
    };
    Err(Error::invalid(what, text))
}
