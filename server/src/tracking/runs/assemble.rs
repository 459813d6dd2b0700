//! Runs as the contract shows them: rows with their experiment, params, tags, metric summaries and inputs.

use mlplat_proto::tracking::v1 as pb;
use sea_orm::{ActiveEnum as _, ConnectionTrait};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    gather::{self, BranchRow, Gathered, InputRow, MetricRow, RunRow},
    keys::Keys,
};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    tracking::entity::{run::Status, run_input},
};

/// Runs that the database puts into one row: few enough that the next ones are made while these are read.
const TOGETHER: i64 = 64;

/// So many runs are asked for in two halves at once.
const SPLIT: usize = 40;

/// What of each run is wanted besides its row.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) metrics: Keys,
    pub(super) params: Keys,
    pub(super) tags: Keys,
    pub(super) inputs: bool,
}

impl Selection {
    pub(super) fn everything() -> Self {
        Self {
            metrics: Keys::All,
            params: Keys::All,
            tags: Keys::All,
            inputs: true,
        }
    }

    /// Whether whole runs are wanted, with or without their inputs.
    pub(super) fn is_whole(&self) -> bool {
        let keys = [&self.metrics, &self.params, &self.tags];
        keys.iter().all(|keys| matches!(keys, Keys::All))
    }

    /// Leaves of a whole run what is wanted.
    pub(super) fn narrow(&self, run: &mut pb::Run) {
        run.metrics.retain(|metric| self.metrics.hold(&metric.key));
        run.params.retain(|key, _| self.params.hold(key));
        run.tags.retain(|key, _| self.tags.hold(key));
        if !self.inputs {
            run.inputs.clear();
        }
    }
}

/// A run as it was in one revision.
#[derive(Debug, Clone)]
pub(super) struct Assembled {
    pub(super) revision: i64,
    pub(super) run: pb::Run,
}

/// The runs of the project, in the order of their ids, by one query; nothing in the place of one that is not there.
pub(super) async fn assemble(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
    selection: &Selection,
) -> Result<Vec<Option<Assembled>>> {
    let mut runs = vec![None; ids.len()];
    if ids.is_empty() {
        return Ok(runs);
    }
    // Two connections, as what takes long is done by the database, on one core per statement.
    let (first, second) = ids.split_at(if ids.len() < SPLIT { 0 } else { ids.len() / 2 });
    let (first_runs, second_runs) = runs.split_at_mut(first.len());
    futures::try_join!(
        fill(conn, scope, first, selection, first_runs),
        fill(conn, scope, second, selection, second_runs),
    )?;
    Ok(runs)
}

/// Reads runs into the places of their ids.
async fn fill(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    ids: &[Uuid],
    selection: &Selection,
    runs: &mut [Option<Assembled>],
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut gathered = gather::gather(conn, scope, ids, selection, TOGETHER).await;
    if gathered.is_err() && ids.len() > 1 {
        // Huge runs do not fit into one value together.
        gathered = gather::gather(conn, scope, ids, selection, 1).await;
    }
    for text in gathered? {
        for gathered in gather::split(&text)? {
            if let (Some(id), Some(run)) = (ids.get(gathered.place), runs.get_mut(gathered.place)) {
                *run = Some(read(*id, &gathered)?);
            }
        }
    }
    Ok(())
}

/// One run, which is there.
pub(super) async fn assemble_one(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    run_id: Uuid,
) -> Result<pb::Run> {
    assemble(conn, scope, &[run_id], &Selection::everything())
        .await?
        .pop()
        .flatten()
        .map(|assembled| assembled.run)
        .ok_or_else(|| Error::not_found("run", run_id))
}

fn read(id: Uuid, gathered: &Gathered<'_>) -> Result<Assembled> {
    let row: RunRow = serde_json::from_str(gathered.run).map_err(Error::internal)?;
    let mut metrics: Vec<MetricRow> = json(gathered.metrics)?;
    metrics.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let mut inputs: Vec<InputRow> = json(gathered.inputs)?;
    inputs.sort_by(|one, other| logged(one).cmp(&logged(other)));
    let mut branches: Vec<BranchRow> = json(gathered.branches)?;
    branches.sort_unstable_by_key(|branch| branch.number);
    let revision = row.revision;
    let run = pb::Run {
        params: json(gathered.params)?,
        tags: json(gathered.tags)?,
        metrics: metrics
            .into_iter()
            .map(metric_to_proto)
            .collect::<Result<_>>()?,
        inputs: inputs
            .into_iter()
            .map(|input| input_to_proto(id, input))
            .collect(),
        branches: branches.iter().map(branch_to_proto).collect(),
        ..row_to_proto(id, row)?
    };
    Ok(Assembled { revision, run })
}

/// What a text holds; an empty one holds nothing.
fn json<T: DeserializeOwned + Default>(text: &str) -> Result<T> {
    if text.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(text).map_err(Error::internal)
}

/// The order of inputs: as logged.
fn logged(input: &InputRow) -> (i64, &str, &str, &str) {
    (input.created_at, &input.name, &input.digest, &input.context)
}

fn row_to_proto(id: Uuid, row: RunRow) -> Result<pb::Run> {
    let status = Status::try_from_value(&row.status)?;
    let parent = match row.parent.as_str() {
        "" => String::new(),
        text => Uuid::try_parse(text).map_err(Error::internal)?.to_string(),
    };
    let time = |micros| Timestamp(micros).to_proto();
    Ok(pb::Run {
        id: id.to_string(),
        experiment: row.experiment,
        name: row.name,
        parent_run_id: parent,
        status: pb::RunStatus::from(status).into(),
        status_message: row.status_message,
        description: row.description,
        started_at: Some(time(row.started_at)),
        ended_at: row.ended_at.map(time),
        created_at: Some(time(row.created_at)),
        updated_at: Some(time(row.updated_at)),
        created_by: row.created_by,
        deleted_at: row.deleted_at.map(time),
        heartbeat_at: row.heartbeat_at.map(time),
        ..Default::default()
    })
}

fn metric_to_proto(row: MetricRow) -> Result<pb::MetricSummary> {
    let last_value = f64::from_bits(row.last_bits.cast_unsigned());
    let bound = |text: Option<String>| match text {
        Some(text) => text.parse().map(Some).map_err(Error::internal),
        None => Ok(Some(last_value).filter(|value| !value.is_nan())),
    };
    Ok(pb::MetricSummary {
        key: row.key,
        last_value,
        last_step: row.last_step,
        last_timestamp_us: row.last_timestamp_us,
        min: bound(row.min)?,
        max: bound(row.max)?,
        count: row.count.try_into().unwrap_or_default(),
    })
}

fn input_to_proto(run_id: Uuid, row: InputRow) -> pb::DatasetInput {
    run_input::Model {
        run_id,
        name: row.name,
        digest: row.digest,
        context: row.context,
        source: row.source,
        source_type: row.source_type,
        fields: row.fields,
        row_count: row.row_count,
        created_at: row.created_at,
    }
    .into()
}

fn branch_to_proto(row: &BranchRow) -> pb::RunBranch {
    pb::RunBranch {
        number: row.number.try_into().unwrap_or_default(),
        parent: row.parent.try_into().unwrap_or_default(),
        from_step: row.from_step,
        created_at: Some(Timestamp(row.created_at).to_proto()),
    }
}
