//! SQL of the params and tags of runs.
//!
//! Invariant: they are written only while the row of their run is locked, and never become more than fit into one message with
//! it. What a key or a value may be is settled before; nothing here looks at runs themselves.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, EntityTrait, QueryFilter as _, QuerySelect as _, Select,
    sea_query::{Expr, OnConflict},
};
use uuid::Uuid;

use super::convert;
use crate::{
    auth::Scope,
    error::{Error, Result},
    tracking::entity::{run_param, run_tag},
};

/// Rows a statement, so that its parameters stay below what SQLite takes (32,766).
const ROWS: usize = 1000;
/// Most params, and most tags, of one run, and most bytes of them, so that a run always fits into one message.
const MAX_TEXTS: i64 = 10_000;
const MAX_TEXT_BYTES: i64 = 8 << 20;

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
) -> Result<()> {
    use run_param::Column as C;
    if params.is_empty() {
        return Ok(());
    }
    let rows: Vec<run_param::ActiveModel> = params
        .iter()
        .map(|(key, value)| run_param::ActiveModel {
            run_id: Set(run_id),
            key: Set(key.clone()),
            value: Set(value.clone()),
            number: Set(convert::number(value)),
        })
        .collect();
    for part in rows.chunks(ROWS) {
        let upsert = OnConflict::columns([C::RunId, C::Key])
            .update_columns([C::Value, C::Number])
            .to_owned();
        run_param::Entity::insert_many(part.to_vec())
            .on_conflict(upsert)
            .exec_without_returning(txn)
            .await?;
    }
    let all = run_param::Entity::find().filter(C::RunId.eq(run_id));
    at_most(txn, "params", all).await
}

/// Sets tags of a locked run; others stay.
pub(crate) async fn set_tags(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    tags: &HashMap<String, String>,
) -> Result<()> {
    if tags.is_empty() {
        return Ok(());
    }
    upsert_tags(txn, run_id, tags).await?;
    let all = run_tag::Entity::find().filter(run_tag::Column::RunId.eq(run_id));
    at_most(txn, "tags", all).await
}

/// Sets the tags of a locked run that has none.
pub(super) async fn set_first_tags(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    tags: &HashMap<String, String>,
) -> Result<()> {
    let bytes = tags.iter().map(|(key, value)| key.len() + value.len());
    let bytes = bytes.sum::<usize>().try_into().unwrap_or(i64::MAX);
    check("tags", tags.len().try_into().unwrap_or(i64::MAX), bytes)?;
    upsert_tags(txn, run_id, tags).await
}

async fn upsert_tags(
    txn: &impl ConnectionTrait,
    run_id: Uuid,
    tags: &HashMap<String, String>,
) -> Result<()> {
    use run_tag::Column as C;
    let rows: Vec<run_tag::ActiveModel> = tags
        .iter()
        .map(|(key, value)| run_tag::ActiveModel {
            run_id: Set(run_id),
            key: Set(key.clone()),
            value: Set(value.clone()),
            number: Set(convert::number(value)),
        })
        .collect();
    for part in rows.chunks(ROWS) {
        let upsert = OnConflict::columns([C::RunId, C::Key])
            .update_columns([C::Value, C::Number])
            .to_owned();
        run_tag::Entity::insert_many(part.to_vec())
            .on_conflict(upsert)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
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
