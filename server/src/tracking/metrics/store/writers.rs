//! SQL of the writing processes of runs: the last record that each has stored, and the branch that it logs to.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QuerySelect as _,
    QueryTrait as _,
    sea_query::{InsertStatement, OnConflict},
};
use uuid::Uuid;

use super::{
    Locked, VALUES, padded,
    write::{ROWS, next_part},
};
use crate::{auth::Scope, error::Result, tracking::entity::metric_writer};

/// What is known of a writer of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tracking) struct WriterState {
    /// The number of its last record that is stored; -1 where none is.
    pub(in crate::tracking) last: i64,
    /// The branch that it logs to; none: the current one.
    pub(in crate::tracking) branch: Option<i32>,
}

/// What is known of some writers, given as (run, writer).
pub(in crate::tracking::metrics) async fn load_writers(
    txn: &impl ConnectionTrait,
    _locked: &Locked,
    writers: &BTreeSet<(Uuid, Uuid)>,
) -> Result<HashMap<(Uuid, Uuid), WriterState>> {
    let mut found = HashMap::new();
    let writers: Vec<&(Uuid, Uuid)> = writers.iter().collect();
    for part in writers.chunks(VALUES) {
        let runs = part.iter().map(|(run_id, _)| *run_id).collect();
        let ids = part.iter().map(|(_, writer_id)| *writer_id).collect();
        let rows = metric_writer::Entity::find()
            .filter(metric_writer::Column::RunId.is_in(padded(runs)))
            .filter(metric_writer::Column::WriterId.is_in(padded(ids)))
            .all(txn)
            .await?;
        found.extend(rows.into_iter().map(|row| {
            let state = WriterState {
                last: row.last_sequence,
                branch: row.branch,
            };
            ((row.run_id, row.writer_id), state)
        }));
    }
    Ok(found)
}

/// Notes the last record of writers, given as (run, writer), of locked runs. A branch that is noted already stays.
pub(in crate::tracking::metrics) async fn save_writers(
    txn: &impl ConnectionTrait,
    _locked: &Locked,
    writers: Vec<((Uuid, Uuid), WriterState)>,
) -> Result<()> {
    use metric_writer::Column as C;
    let mut rows: Vec<metric_writer::ActiveModel> = writers
        .into_iter()
        .map(|((run_id, writer_id), state)| row(run_id, writer_id, state))
        .collect();
    while !rows.is_empty() {
        let upsert = OnConflict::columns([C::RunId, C::WriterId])
            .update_column(C::LastSequence)
            .to_owned();
        metric_writer::Entity::insert_many(next_part(&mut rows, ROWS))
            .on_conflict(upsert)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

fn row(run_id: Uuid, writer_id: Uuid, state: WriterState) -> metric_writer::ActiveModel {
    metric_writer::ActiveModel {
        run_id: Set(run_id),
        writer_id: Set(writer_id),
        last_sequence: Set(state.last),
        branch: Set(state.branch),
    }
}

/// The insert of a writer that has stored nothing so far. It fails where there is one of this id.
pub(in crate::tracking) fn insert_writer(
    run_id: Uuid,
    writer_id: Uuid,
    branch: i32,
) -> InsertStatement {
    let state = WriterState {
        last: -1,
        branch: Some(branch),
    };
    metric_writer::Entity::insert(row(run_id, writer_id, state)).into_query()
}

/// Lets a writer of a locked run log to this branch from now on.
pub(in crate::tracking) async fn set_writer_branch(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    writer_id: Uuid,
    branch: i32,
) -> Result<()> {
    use metric_writer::Column as C;
    let upsert = OnConflict::columns([C::RunId, C::WriterId])
        .update_column(C::Branch)
        .to_owned();
    let mut insert = insert_writer(run_id, writer_id, branch);
    txn.execute(insert.on_conflict(upsert)).await?;
    Ok(())
}

/// The branch that a writer of a run logs to; `None` where that is the current one.
pub(in crate::tracking) async fn load_writer_branch(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    writer_id: Uuid,
) -> Result<Option<i32>> {
    let found: Option<Option<i32>> = metric_writer::Entity::find_by_id((run_id, writer_id))
        .select_only()
        .column(metric_writer::Column::Branch)
        .into_tuple()
        .one(conn)
        .await?;
    Ok(found.flatten())
}
