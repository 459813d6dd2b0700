//! SQL of metrics.
//!
//! Invariant: series and chunks of a run are written only while its row is locked (see `runs::store::lock_run`), so the
//! count of a series tells whether it has changed since it was read.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult,
    IntoActiveModel as _, JoinType, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    RelationDef, sea_query::OnConflict,
};
use uuid::Uuid;

use super::{
    append::{Appended, Base, OPEN_TAIL},
    branch::of_chunk,
    convert::Writer,
};
use crate::{
    auth::Scope,
    error::Result,
    tracking::{
        entity::{metric_chunk, metric_series, metric_writer},
        runs::Keys,
    },
};

/// Rows a statement, so that the parameters of one statement stay below what SQLite takes (32,766).
const ROWS: usize = 1000;
/// Bytes of chunks that one statement writes.
const CHUNK_BYTES: usize = 4 << 20;

/// The series of a run with these keys. The scope has shown that the run may be read.
pub(crate) async fn load_series(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    keys: &[&str],
) -> Result<Vec<metric_series::Model>> {
    let mut found = Vec::new();
    for part in keys.chunks(ROWS) {
        let rows = metric_series::Entity::find()
            .filter(metric_series::Column::RunId.eq(run_id))
            .filter(metric_series::Column::Key.is_in(part.iter().copied()))
            .all(conn)
            .await?;
        found.extend(rows);
    }
    Ok(found)
}

/// The summaries of several runs with these keys, by run and key.
pub(crate) async fn load_summaries(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_ids: &[Uuid],
    keys: &Keys,
) -> Result<Vec<metric_series::Model>> {
    let mut found = Vec::new();
    for part in run_ids.chunks(ROWS) {
        let rows = metric_series::Entity::find()
            .filter(metric_series::Column::RunId.is_in(part.iter().copied()))
            .filter(keys.condition(metric_series::Column::Key))
            // A series that was logged in an older branch only has no points in this one.
            .filter(metric_series::Column::Count.gt(0))
            .order_by_asc(metric_series::Column::RunId)
            .order_by_asc(metric_series::Column::Key)
            .all(conn)
            .await?;
        found.extend(rows);
    }
    Ok(found)
}

/// The series of a run that have points from this step on.
pub(super) async fn load_series_from(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    from_step: i64,
) -> Result<Vec<metric_series::Model>> {
    Ok(metric_series::Entity::find()
        .filter(metric_series::Column::RunId.eq(run_id))
        .filter(metric_series::Column::Count.gt(0))
        .filter(metric_series::Column::LastStep.gte(from_step))
        .all(conn)
        .await?)
}

/// Series as the next batch to a branch finds them, with the chunks that take more points.
pub(super) async fn load_bases(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
    branch: i32,
    keys: &[&str],
) -> Result<HashMap<String, Base>> {
    let series = load_series(conn, scope, run_id, keys).await?;
    let is_open = |series: &metric_series::Model| {
        series.tail_count <= OPEN_TAIL && of_chunk(series.tail_number) == Some(branch)
    };
    let open: Vec<&metric_series::Model> = series.iter().filter(|series| is_open(series)).collect();
    let mut tails: HashMap<Uuid, metric_chunk::Model> = HashMap::new();
    for part in open.chunks(ROWS) {
        // The number is asked by a join, not by one condition a series: SQLite bounds the depth of a condition.
        let rows = metric_chunk::Entity::find()
            .join(JoinType::InnerJoin, tail_of_series())
            .filter(metric_series::Column::Id.is_in(part.iter().map(|series| series.id)))
            .all(conn)
            .await?;
        tails.extend(rows.into_iter().map(|chunk| (chunk.series_id, chunk)));
    }
    let base = |series: metric_series::Model| {
        // Outside of a transaction a batch may come in between the two queries. Then the count does not fit, and whoever
        // holds the lock of the run reads again.
        let tail = tails
            .remove(&series.id)
            .filter(|tail| tail.number == series.tail_number);
        let whole = tail
            .as_ref()
            .is_none_or(|tail| tail.count == series.tail_count);
        (whole && (!is_open(&series) || tail.is_some())).then(|| {
            (
                series.key.clone(),
                Base {
                    series: Some(series),
                    tail: tail.map(|tail| tail.data),
                },
            )
        })
    };
    Ok(series.into_iter().filter_map(base).collect())
}

fn tail_of_series() -> RelationDef {
    metric_chunk::Entity::belongs_to(metric_series::Entity)
        .from((metric_chunk::Column::SeriesId, metric_chunk::Column::Number))
        .to((metric_series::Column::Id, metric_series::Column::TailNumber))
        .into()
}

/// Stores what a batch did to the series of a run whose row is locked.
pub(super) async fn save(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    appended: Vec<Appended>,
) -> Result<()> {
    let mut chunks = Vec::new();
    let mut series = Vec::with_capacity(appended.len());
    for change in appended {
        series.push(change.series);
        chunks.extend(change.chunks);
    }
    save_series(txn, scope, &series).await?;
    let mut rest = chunks.into_iter().peekable();
    while rest.peek().is_some() {
        let mut bytes = 0;
        let mut part = Vec::new();
        while let Some(chunk) = rest.next_if(|chunk| {
            part.len() < ROWS && bytes + chunk.data.len() <= CHUNK_BYTES.max(chunk.data.len())
        }) {
            bytes += chunk.data.len();
            part.push(chunk.into_active_model());
        }
        use metric_chunk::Column as C;
        let upsert = OnConflict::columns([C::SeriesId, C::Number])
            .update_columns([C::MinStep, C::MaxStep, C::Count, C::Data])
            .to_owned();
        metric_chunk::Entity::insert_many(part)
            .on_conflict(upsert)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

/// Stores rows of series of a run that is locked.
pub(super) async fn save_series(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    series: &[metric_series::Model],
) -> Result<()> {
    for part in series.chunks(ROWS) {
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
        let upsert = OnConflict::column(C::Id).update_columns(changed).to_owned();
        let rows = part.iter().cloned().map(|row| row.into_active_model());
        metric_series::Entity::insert_many(rows)
            .on_conflict(upsert)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

/// What is known of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    /// All of it is new.
    New,
    /// Records of it are stored already, up to this one at least; nothing is noted.
    Stored(i64),
}

/// Notes a batch of a writer to a run whose row is locked, unless it was stored before, or its beginning.
pub(super) async fn advance_writer(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    writer: Writer,
) -> Result<Advance> {
    let last = metric_writer::Entity::find_by_id((run_id, writer.id))
        .one(txn)
        .await?;
    if let Some(last) = last.filter(|last| writer.first <= last.last_sequence) {
        return Ok(Advance::Stored(last.last_sequence));
    }
    let row = metric_writer::ActiveModel {
        run_id: Set(run_id),
        writer_id: Set(writer.id),
        last_sequence: Set(writer.sequence),
    };
    let upsert = OnConflict::columns([
        metric_writer::Column::RunId,
        metric_writer::Column::WriterId,
    ])
    .update_column(metric_writer::Column::LastSequence)
    .to_owned();
    metric_writer::Entity::insert(row)
        .on_conflict(upsert)
        .exec_without_returning(txn)
        .await?;
    Ok(Advance::New)
}

/// A chunk without its data.
#[derive(Debug, Clone, FromQueryResult)]
pub(super) struct ChunkInfo {
    pub(super) number: i64,
    pub(super) min_step: i64,
    pub(super) max_step: i64,
    pub(super) count: i64,
}

/// The chunks of a series, as they were logged.
pub(super) async fn list_chunks(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    series_id: Uuid,
) -> Result<Vec<ChunkInfo>> {
    use metric_chunk::Column as C;
    let chunks = metric_chunk::Entity::find()
        .select_only()
        .columns([C::Number, C::MinStep, C::MaxStep, C::Count])
        .filter(C::SeriesId.eq(series_id))
        .order_by_asc(C::Number)
        .into_model::<ChunkInfo>()
        .all(conn)
        .await?;
    Ok(chunks)
}

/// The data of some chunks of a series, by number; those that are not there are left out.
pub(super) async fn load_chunks(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    series_id: Uuid,
    numbers: &[i64],
) -> Result<HashMap<i64, Vec<u8>>> {
    let rows = metric_chunk::Entity::find()
        .filter(metric_chunk::Column::SeriesId.eq(series_id))
        .filter(metric_chunk::Column::Number.is_in(numbers.iter().copied()))
        .all(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(|chunk| (chunk.number, chunk.data))
        .collect())
}
