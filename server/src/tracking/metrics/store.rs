//! SQL of metrics: what is read of series and chunks.
//!
//! Invariant: series and chunks of a run are written only while its row is locked (see [`Locked`] and `runs::store::lock_run`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, JoinType,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationDef, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    append::{Base, OPEN_TAIL},
    branch::of_chunk,
    group::Keys,
};
use crate::{
    auth::Scope,
    error::Result,
    tracking::entity::{metric_chunk, metric_series, run},
};

mod late;
mod write;
mod writers;

pub(super) use late::load_last_chunks;
pub(super) use write::{close_tail, replace_chunks, save_chunks, save_rewound, save_series, touch};
pub(in crate::tracking) use writers::{
    WriterState, insert_writer, load_writer_branch, set_writer_branch,
};
pub(super) use writers::{load_writers, save_writers};

/// Values a statement, so that its parameters stay below what SQLite takes (32,766).
const VALUES: usize = 1024;
/// Up to this many pairs of run and key are asked for by one statement.
const PAIRS: usize = 16_384;

/// Runs that are locked until the transaction ends, each of a project that somebody may write to. What a group stores takes it
/// in place of a scope.
#[derive(Debug)]
pub(super) struct Locked(HashMap<Uuid, run::Model>);

impl Locked {
    /// A locked run.
    pub(super) fn run(&self, run_id: Uuid) -> Option<&run::Model> {
        self.0.get(&run_id)
    }
}

/// Locks runs, in the order of their ids. Those that are not in the project of their scope are left out.
pub(super) async fn lock_runs(
    txn: &impl ConnectionTrait,
    wanted: &[(&Scope, Uuid)],
) -> Result<Locked> {
    let ids: BTreeSet<Uuid> = wanted.iter().map(|(_, run_id)| *run_id).collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let mut locked = HashMap::with_capacity(ids.len());
    for part in ids.chunks(VALUES) {
        let rows = run::Entity::find()
            .filter(run::Column::Id.is_in(padded(part.to_vec())))
            .order_by_asc(run::Column::Id)
            .lock_exclusive()
            .all(txn)
            .await?;
        let visible = rows.into_iter().filter(|run| {
            wanted
                .iter()
                .any(|(scope, id)| *id == run.id && scope.project_id() == run.project_id)
        });
        locked.extend(visible.map(|run| (run.id, run)));
    }
    Ok(Locked(locked))
}

/// The values, the last one repeated so that there are few different lengths: a database that has seen a statement before
/// need not think about it again.
fn padded<T: Clone>(mut values: Vec<T>) -> Vec<T> {
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// The series of a run with these keys. The scope has shown that the run may be read.
pub(crate) async fn load_series(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    keys: &[&str],
) -> Result<Vec<metric_series::Model>> {
    let mut found = Vec::new();
    for part in keys.chunks(VALUES) {
        found.extend(series_of(conn, &[run_id], part).await?);
    }
    Ok(found)
}

async fn series_of(
    conn: &impl ConnectionTrait,
    run_ids: &[Uuid],
    keys: &[&str],
) -> Result<Vec<metric_series::Model>> {
    Ok(metric_series::Entity::find()
        .filter(metric_series::Column::RunId.is_in(padded(run_ids.to_vec())))
        .filter(metric_series::Column::Key.is_in(padded(keys.to_vec())))
        .all(conn)
        .await?)
}

/// The summaries of all metrics of a run, by key.
pub(crate) async fn load_summaries(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
) -> Result<Vec<metric_series::Model>> {
    Ok(metric_series::Entity::find()
        .filter(metric_series::Column::RunId.eq(run_id))
        // A series that was logged in an older branch only has no points in this one.
        .filter(metric_series::Column::Count.gt(0))
        .order_by_asc(metric_series::Column::Key)
        .all(conn)
        .await?)
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

/// The series of a run that have several chunks.
pub(super) async fn scattered_series(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
) -> Result<Vec<Uuid>> {
    Ok(metric_chunk::Entity::find()
        .select_only()
        .column(metric_chunk::Column::SeriesId)
        .join(JoinType::InnerJoin, chunk_of_series())
        .filter(metric_series::Column::RunId.eq(run_id))
        .group_by(metric_chunk::Column::SeriesId)
        .having(Expr::cust("COUNT(*) > 1"))
        .into_tuple()
        .all(conn)
        .await?)
}

fn chunk_of_series() -> RelationDef {
    metric_chunk::Entity::belongs_to(metric_series::Entity)
        .from(metric_chunk::Column::SeriesId)
        .to(metric_series::Column::Id)
        .into()
}

/// Series as the next batches find them, by run and key, with the chunks that take more points.
pub(super) async fn load_bases(
    txn: &impl ConnectionTrait,
    locked: &Locked,
    keys: &BTreeMap<Uuid, BTreeSet<&str>>,
) -> Result<HashMap<(Uuid, String), Base>> {
    let series = series_of_runs(txn, keys).await?;
    let is_open = |series: &metric_series::Model| {
        let branch = locked.run(series.run_id).map(|run| run.branch);
        series.tail_count <= OPEN_TAIL && of_chunk(series.tail_number) == branch
    };
    let open: Vec<Uuid> = series
        .iter()
        .filter(|series| is_open(series))
        .map(|series| series.id)
        .collect();
    let mut tails: HashMap<Uuid, Vec<u8>> = HashMap::new();
    for part in open.chunks(VALUES) {
        // The number is asked by a join, not by one condition a series: SQLite bounds the depth of a condition.
        let rows = metric_chunk::Entity::find()
            .join(JoinType::InnerJoin, tail_of_series())
            .filter(metric_series::Column::Id.is_in(padded(part.to_vec())))
            .all(txn)
            .await?;
        tails.extend(rows.into_iter().map(|chunk| (chunk.series_id, chunk.data)));
    }
    let bases = series.into_iter().map(|series| {
        let key = (series.run_id, series.key.clone());
        let base = Base {
            tail: tails.remove(&series.id),
            series: Some(series),
        };
        (key, base)
    });
    Ok(bases.collect())
}

/// How many metric keys these runs have; those without any are left out.
pub(super) async fn count_keys(
    txn: &impl ConnectionTrait,
    _locked: &Locked,
    run_ids: BTreeSet<Uuid>,
) -> Result<HashMap<Uuid, Keys>> {
    let run_ids: Vec<Uuid> = run_ids.into_iter().collect();
    let mut keys = HashMap::new();
    for part in run_ids.chunks(VALUES) {
        let rows: Vec<(Uuid, i64, i64)> = metric_series::Entity::find()
            .select_only()
            .column(metric_series::Column::RunId)
            .column_as(Expr::cust("COUNT(*)"), "count")
            .column_as(Expr::cust("SUM(OCTET_LENGTH(key))"), "bytes")
            .filter(metric_series::Column::RunId.is_in(padded(part.to_vec())))
            .group_by(metric_series::Column::RunId)
            .into_tuple()
            .all(txn)
            .await?;
        let number = |number: i64| number.try_into().unwrap_or(usize::MAX);
        keys.extend(rows.into_iter().map(|(run_id, count, bytes)| {
            let (count, bytes) = (number(count), number(bytes));
            (run_id, Keys { count, bytes })
        }));
    }
    Ok(keys)
}

fn tail_of_series() -> RelationDef {
    metric_chunk::Entity::belongs_to(metric_series::Entity)
        .from((metric_chunk::Column::SeriesId, metric_chunk::Column::Number))
        .to((metric_series::Column::Id, metric_series::Column::TailNumber))
        .into()
}

/// The series of several runs with these keys.
async fn series_of_runs(
    txn: &impl ConnectionTrait,
    keys: &BTreeMap<Uuid, BTreeSet<&str>>,
) -> Result<Vec<metric_series::Model>> {
    let wanted: Vec<(&Uuid, &BTreeSet<&str>)> =
        keys.iter().filter(|(_, keys)| !keys.is_empty()).collect();
    let all: BTreeSet<&str> = wanted.iter().flat_map(|(_, keys)| *keys).copied().collect();
    // Runs that log at the same time mostly log the same metrics; then one statement finds those of all.
    if wanted.len() > 1 && wanted.len() * all.len() <= PAIRS && all.len() <= VALUES {
        let runs: Vec<Uuid> = wanted.iter().map(|(run_id, _)| **run_id).collect();
        let all: Vec<&str> = all.into_iter().collect();
        let mut found = series_of(txn, &runs, &all).await?;
        found.retain(|series| {
            keys.get(&series.run_id)
                .is_some_and(|keys| keys.contains(series.key.as_str()))
        });
        return Ok(found);
    }
    let mut found = Vec::new();
    for (run_id, keys) in wanted {
        let keys: Vec<&str> = keys.iter().copied().collect();
        for part in keys.chunks(VALUES) {
            found.extend(series_of(txn, &[*run_id], part).await?);
        }
    }
    Ok(found)
}

/// A chunk without its data.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub(super) struct ChunkInfo {
    pub(super) number: i64,
    pub(super) min_step: i64,
    pub(super) max_step: i64,
    pub(super) count: i64,
}

impl ChunkInfo {
    /// Of this chunk.
    pub(super) fn of(chunk: &metric_chunk::Model) -> Self {
        Self {
            number: chunk.number,
            min_step: chunk.min_step,
            max_step: chunk.max_step,
            count: chunk.count,
        }
    }
}

/// The chunks of a series, as they were logged.
pub(super) async fn list_chunks(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    series_id: Uuid,
) -> Result<Vec<ChunkInfo>> {
    list_chunks_between(conn, scope, series_id, &(0..=i64::MAX)).await
}

/// The chunks of a series whose numbers are in the range.
pub(super) async fn list_chunks_between(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    series_id: Uuid,
    numbers: &RangeInclusive<i64>,
) -> Result<Vec<ChunkInfo>> {
    use metric_chunk::Column as C;
    Ok(metric_chunk::Entity::find()
        .select_only()
        .columns([C::Number, C::MinStep, C::MaxStep, C::Count])
        .filter(C::SeriesId.eq(series_id))
        .filter(C::Number.between(*numbers.start(), *numbers.end()))
        .order_by_asc(C::Number)
        .into_model::<ChunkInfo>()
        .all(conn)
        .await?)
}

/// The data of some chunks of a series, by number; those that are not there are left out.
pub(super) async fn load_chunks(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    series_id: Uuid,
    numbers: &[i64],
) -> Result<HashMap<i64, Arc<Vec<u8>>>> {
    let mut found = HashMap::with_capacity(numbers.len());
    for part in numbers.chunks(VALUES) {
        let rows = metric_chunk::Entity::find()
            .filter(metric_chunk::Column::SeriesId.eq(series_id))
            .filter(metric_chunk::Column::Number.is_in(padded(part.to_vec())))
            .all(conn)
            .await?;
        found.extend(
            rows.into_iter()
                .map(|chunk| (chunk.number, Arc::new(chunk.data))),
        );
    }
    Ok(found)
}
