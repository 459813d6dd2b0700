//! SQL of metrics: what is written.

use std::ops::RangeInclusive;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use super::{Locked, VALUES, padded};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::Result,
    tracking::entity::{metric_chunk, metric_series, run},
};

/// Rows a statement.
pub(super) const ROWS: usize = 256;
/// Bytes of chunks that one statement writes.
const CHUNK_BYTES: usize = 4 << 20;

/// Takes rows off in parts whose lengths are powers of two: so there are few different statements, which the database knows.
pub(super) fn next_part<T>(rows: &mut Vec<T>, most: usize) -> Vec<T> {
    let count = rows.len().min(most);
    let count = match count.checked_ilog2() {
        Some(log) => 1 << log,
        None => 0,
    };
    let rest = rows.split_off(count);
    std::mem::replace(rows, rest)
}

/// Stores rows of series of locked runs.
pub(in crate::tracking::metrics) async fn save_series(
    txn: &impl ConnectionTrait,
    _locked: &Locked,
    rows: Vec<metric_series::Model>,
) -> Result<()> {
    upsert_series(txn, rows).await
}

/// Stores what series of a run whose row is locked became by a resumption.
pub(in crate::tracking::metrics) async fn save_rewound(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    rows: Vec<metric_series::Model>,
) -> Result<()> {
    upsert_series(txn, rows).await
}

async fn upsert_series(
    txn: &impl ConnectionTrait,
    mut rows: Vec<metric_series::Model>,
) -> Result<()> {
    use metric_series::Column as C;
    let changed = [
        C::LastBits,
        C::LastValue,
        C::LastStep,
        C::LastTimestampUs,
        C::MinValue,
        C::MaxValue,
        C::Count,
        C::TailNumber,
        C::TailCount,
    ];
    while !rows.is_empty() {
        let part = next_part(&mut rows, ROWS);
        let upsert = OnConflict::column(C::Id).update_columns(changed).to_owned();
        metric_series::Entity::insert_many(part.into_iter().map(|row| row.into_active_model()))
            .on_conflict(upsert)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

/// Stores chunks of series of locked runs.
pub(in crate::tracking::metrics) async fn save_chunks(
    txn: &impl ConnectionTrait,
    _locked: &Locked,
    mut rows: Vec<metric_chunk::Model>,
) -> Result<()> {
    while !rows.is_empty() {
        let mut bytes = 0;
        let fit = rows.iter().take_while(|chunk| {
            bytes += chunk.data.len();
            bytes <= CHUNK_BYTES
        });
        let most = fit.count().clamp(1, ROWS);
        insert_chunks(txn, next_part(&mut rows, most)).await?;
    }
    Ok(())
}

async fn insert_chunks(txn: &impl ConnectionTrait, rows: Vec<metric_chunk::Model>) -> Result<()> {
    use metric_chunk::Column as C;
    let upsert = OnConflict::columns([C::SeriesId, C::Number])
        .update_columns([C::MinStep, C::MaxStep, C::Count, C::Data])
        .to_owned();
    metric_chunk::Entity::insert_many(rows.into_iter().map(|row| row.into_active_model()))
        .on_conflict(upsert)
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// Puts a chunk in the place of those with numbers in the range, of which it has the first. The run is locked.
pub(in crate::tracking::metrics) async fn replace_chunks(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    numbers: &RangeInclusive<i64>,
    merged: metric_chunk::Model,
) -> Result<()> {
    metric_chunk::Entity::delete_many()
        .filter(metric_chunk::Column::SeriesId.eq(merged.series_id))
        .filter(metric_chunk::Column::Number.between(*numbers.start(), *numbers.end()))
        .exec(txn)
        .await?;
    insert_chunks(txn, vec![merged]).await
}

/// Lets the chunk of this number take no more points, if it is the last one of its series. The run is locked.
pub(in crate::tracking::metrics) async fn close_tail(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    series_id: Uuid,
    number: i64,
    closed_count: i64,
) -> Result<()> {
    metric_series::Entity::update_many()
        .col_expr(metric_series::Column::TailCount, closed_count.into())
        .filter(metric_series::Column::Id.eq(series_id))
        .filter(metric_series::Column::TailNumber.eq(number))
        .filter(Expr::col(metric_series::Column::TailCount).lt(closed_count))
        .exec(txn)
        .await?;
    Ok(())
}

/// Notes that something of locked runs has changed.
pub(in crate::tracking::metrics) async fn touch(
    txn: &impl ConnectionTrait,
    _locked: &Locked,
    run_ids: &[Uuid],
    now: Timestamp,
) -> Result<()> {
    for part in run_ids.chunks(VALUES) {
        run::Entity::revise()
            .col_expr(run::Column::UpdatedAt, now.micros().into())
            .filter(run::Column::Id.is_in(padded(part.to_vec())))
            .exec(txn)
            .await?;
    }
    Ok(())
}
