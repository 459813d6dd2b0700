//! The events and what they say together, in SQL.
//!
//! Invariant: the graph is a join of facts that only grow (least first time, greatest state, set of edges), so events may
//! come late, twice or in any order, and no edge ever goes away.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
    sea_query::{Expr, InsertStatement, OnConflict},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    entity::{dataset, edge, event, run, symlink},
    event::RunEvent,
    naming::Dataset,
};
use crate::{auth::Scope, clock::Timestamp, db, error::Result};

/// Rows of one INSERT: far below the number of parameters that the databases take.
const INSERT_ROWS: usize = 500;

/// An id made from text alone, so that the same thing has the same id wherever and whenever it is met.
fn digest_id(parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Id of a dataset in this version.
pub(super) fn dataset_id(namespace: &str, name: &str, version: &str) -> Uuid {
    digest_id(&["dataset", namespace, name, version])
}

/// Id of a dataset in whichever version.
pub(super) fn name_id(namespace: &str, name: &str) -> Uuid {
    digest_id(&["name", namespace, name])
}

/// Records an event. Call it in the transaction of the change that the event tells of.
///
/// # Errors
/// Those of the database.
pub async fn record(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    event: &RunEvent,
    now: Timestamp,
) -> Result<()> {
    db::insert_together(txn, inserts(scope, event, now)).await
}

/// What [`record`] inserts, for who inserts more with it.
pub(crate) fn inserts(scope: &Scope, event: &RunEvent, now: Timestamp) -> Vec<InsertStatement> {
    let mut inserts = vec![event_insert(scope, event, now), run_upsert(scope, event)];
    inserts.extend(dataset_upserts(scope, event));
    inserts.extend(symlink_inserts(scope, event));
    inserts.extend(edge_upserts(scope, event));
    inserts
}

fn event_insert(scope: &Scope, event: &RunEvent, now: Timestamp) -> InsertStatement {
    let text = event.to_json();
    let row = event::ActiveModel {
        id: Set(Uuid::now_v7()),
        project_id: Set(scope.project_id()),
        content_id: Set(digest_id(&["event", &text])),
        event_time_at: Set(event.at.micros()),
        recorded_at: Set(now.micros()),
        event_type: Set(event.event_type.as_str().to_owned()),
        run_id: Set(event.run_id),
        job_namespace: Set(event.job.namespace.clone()),
        job_name: Set(event.job.name.clone()),
        event: Set(text),
    };
    let known = OnConflict::columns([event::Column::ProjectId, event::Column::ContentId])
        .do_nothing()
        .to_owned();
    event::Entity::insert(row).on_conflict(known).into_query()
}

fn run_upsert(scope: &Scope, event: &RunEvent) -> InsertStatement {
    let row = run::ActiveModel {
        project_id: Set(scope.project_id()),
        id: Set(event.run_id),
        job_namespace: Set(event.job.namespace.clone()),
        job_name: Set(event.job.name.clone()),
        job_type: Set(event.job.job_type.to_owned()),
        state: Set(event.event_type.as_str().to_owned()),
        state_order: Set(event.event_type.state_order(event.at)),
        parent_run_id: Set(event.parent.as_ref().map(|(id, _)| *id)),
        first_seen_at: Set(event.at.micros()),
        last_seen_at: Set(event.at.micros()),
    };
    // The job is that of the first event; all events of a run should agree on it anyway.
    let take = |when: &str, column: &str| {
        Expr::cust(format!(
            "CASE WHEN {when} THEN excluded.{column} ELSE lineage_runs.{column} END"
        ))
    };
    let earlier = "(excluded.first_seen_at, excluded.job_namespace, excluded.job_name, excluded.job_type) \
                   < (lineage_runs.first_seen_at, lineage_runs.job_namespace, lineage_runs.job_name, lineage_runs.job_type)";
    let advances = "excluded.state_order > lineage_runs.state_order";
    let parent = "excluded.parent_run_id IS NOT NULL AND \
                  (lineage_runs.parent_run_id IS NULL OR excluded.parent_run_id < lineage_runs.parent_run_id)";
    let merged = OnConflict::columns([run::Column::ProjectId, run::Column::Id])
        .value(run::Column::JobNamespace, take(earlier, "job_namespace"))
        .value(run::Column::JobName, take(earlier, "job_name"))
        .value(run::Column::JobType, take(earlier, "job_type"))
        .value(run::Column::State, take(advances, "state"))
        .value(run::Column::StateOrder, take(advances, "state_order"))
        .value(run::Column::ParentRunId, take(parent, "parent_run_id"))
        .value(
            run::Column::FirstSeenAt,
            least("lineage_runs", "first_seen_at"),
        )
        .value(
            run::Column::LastSeenAt,
            greatest("lineage_runs", "last_seen_at"),
        )
        .to_owned();
    run::Entity::insert(row).on_conflict(merged).into_query()
}

/// The lesser of what is stored and what comes; the two databases have no common function for it.
fn least(table: &str, column: &str) -> Expr {
    Expr::cust(format!(
        "CASE WHEN excluded.{column} < {table}.{column} THEN excluded.{column} ELSE {table}.{column} END"
    ))
}

fn greatest(table: &str, column: &str) -> Expr {
    Expr::cust(format!(
        "CASE WHEN excluded.{column} > {table}.{column} THEN excluded.{column} ELSE {table}.{column} END"
    ))
}

impl Dataset {
    pub(super) fn id(&self) -> Uuid {
        dataset_id(&self.namespace, &self.name, &self.version)
    }

    pub(super) fn name_id(&self) -> Uuid {
        name_id(&self.namespace, &self.name)
    }
}

fn dataset_upserts(scope: &Scope, event: &RunEvent) -> Vec<InsertStatement> {
    // In the order of their ids, without repetition: two transactions then lock rows in the same order, and PostgreSQL
    // does not take the same row twice in one statement.
    let all: BTreeMap<Uuid, &Dataset> = event
        .inputs
        .iter()
        .chain(&event.outputs)
        .map(|d| (d.id(), d))
        .collect();
    let rows: Vec<dataset::ActiveModel> = all
        .into_iter()
        .map(|(id, dataset)| dataset::ActiveModel {
            project_id: Set(scope.project_id()),
            id: Set(id),
            name_id: Set(dataset.name_id()),
            namespace: Set(dataset.namespace.clone()),
            name: Set(dataset.name.clone()),
            version: Set(dataset.version.clone()),
            dataset_type: Set(dataset.dataset_type.to_owned()),
            first_seen_at: Set(event.at.micros()),
            last_seen_at: Set(event.at.micros()),
        })
        .collect();
    let merged = OnConflict::columns([dataset::Column::ProjectId, dataset::Column::Id])
        .value(
            dataset::Column::DatasetType,
            greatest("lineage_datasets", "dataset_type"),
        )
        .value(
            dataset::Column::FirstSeenAt,
            least("lineage_datasets", "first_seen_at"),
        )
        .value(
            dataset::Column::LastSeenAt,
            greatest("lineage_datasets", "last_seen_at"),
        )
        .to_owned();
    let insert = |rows: &[dataset::ActiveModel]| {
        dataset::Entity::insert_many(rows.to_vec())
            .on_conflict(merged.clone())
            .into_query()
    };
    rows.chunks(INSERT_ROWS).map(insert).collect()
}

fn symlink_inserts(scope: &Scope, event: &RunEvent) -> Vec<InsertStatement> {
    let all: BTreeSet<(Uuid, Uuid)> = event
        .inputs
        .iter()
        .chain(&event.outputs)
        .filter_map(|d| {
            d.symlink
                .as_ref()
                .map(|(namespace, name)| (name_id(namespace, name), d.name_id()))
        })
        .collect();
    let rows: Vec<symlink::ActiveModel> = all
        .into_iter()
        .map(|(symlink_id, name_id)| symlink::ActiveModel {
            project_id: Set(scope.project_id()),
            symlink_id: Set(symlink_id),
            name_id: Set(name_id),
        })
        .collect();
    let key = [
        symlink::Column::ProjectId,
        symlink::Column::SymlinkId,
        symlink::Column::NameId,
    ];
    let known = OnConflict::columns(key).do_nothing().to_owned();
    let insert = |rows: &[symlink::ActiveModel]| {
        symlink::Entity::insert_many(rows.to_vec())
            .on_conflict(known.clone())
            .into_query()
    };
    rows.chunks(INSERT_ROWS).map(insert).collect()
}

fn edge_upserts(scope: &Scope, event: &RunEvent) -> Vec<InsertStatement> {
    let read = event.inputs.iter().map(|d| (0, d.id()));
    let written = event.outputs.iter().map(|d| (1, d.id()));
    let all: BTreeSet<(i16, Uuid)> = read.chain(written).collect();
    let rows: Vec<edge::ActiveModel> = all
        .into_iter()
        .map(|(written, dataset_id)| edge::ActiveModel {
            project_id: Set(scope.project_id()),
            run_id: Set(event.run_id),
            written: Set(written),
            dataset_id: Set(dataset_id),
            first_seen_at: Set(event.at.micros()),
        })
        .collect();
    let key = [
        edge::Column::ProjectId,
        edge::Column::RunId,
        edge::Column::Written,
        edge::Column::DatasetId,
    ];
    let merged = OnConflict::columns(key)
        .value(
            edge::Column::FirstSeenAt,
            least("lineage_edges", "first_seen_at"),
        )
        .to_owned();
    let insert = |rows: &[edge::ActiveModel]| {
        edge::Entity::insert_many(rows.to_vec())
            .on_conflict(merged.clone())
            .into_query()
    };
    rows.chunks(INSERT_ROWS).map(insert).collect()
}

/// The events of these projects as JSON, newest first, and how many there are. The projects are those that the caller may
/// read, as [`Caller::readable_projects`](crate::auth::Caller::readable_projects) gives them; `None` means all.
///
/// # Errors
/// Those of the database.
pub async fn page(
    conn: &impl ConnectionTrait,
    projects: Option<&[Uuid]>,
    limit: u64,
    offset: u64,
) -> Result<(Vec<String>, u64)> {
    let mut of_projects = event::Entity::find();
    if let Some(projects) = projects {
        of_projects = of_projects.filter(event::Column::ProjectId.is_in(projects.iter().copied()));
    }
    let total = of_projects.clone().count(conn).await?;
    let events = of_projects
        .select_only()
        .column(event::Column::Event)
        .order_by_desc(event::Column::EventTimeAt)
        .order_by_desc(event::Column::Id)
        .limit(limit)
        .offset(offset)
        .into_tuple()
        .all(conn)
        .await?;
    Ok((events, total))
}

/// Where a list of events goes on: after the event of this time and id.
#[derive(Debug, Clone, Copy)]
pub(super) struct After {
    pub(super) event_time: i64,
    pub(super) id: Uuid,
}

fn events_of(scope: &Scope, run_id: Option<Uuid>) -> sea_orm::Select<event::Entity> {
    let mut events = event::Entity::find().filter(event::Column::ProjectId.eq(scope.project_id()));
    if let Some(run_id) = run_id {
        events = events.filter(event::Column::RunId.eq(run_id));
    }
    events
}

/// Events of the project (and run), newest first.
pub(super) async fn list(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Option<Uuid>,
    after: Option<After>,
    limit: u64,
) -> Result<Vec<event::Model>> {
    let mut events = events_of(scope, run_id);
    if let Some(after) = after {
        let same_time = Condition::all()
            .add(event::Column::EventTimeAt.eq(after.event_time))
            .add(event::Column::Id.lt(after.id));
        events = events.filter(
            Condition::any()
                .add(event::Column::EventTimeAt.lt(after.event_time))
                .add(same_time),
        );
    }
    Ok(events
        .order_by_desc(event::Column::EventTimeAt)
        .order_by_desc(event::Column::Id)
        .limit(limit)
        .all(conn)
        .await?)
}

/// How many events the project (and run) has.
pub(super) async fn count(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Option<Uuid>,
) -> Result<u64> {
    Ok(events_of(scope, run_id).count(conn).await?)
}
