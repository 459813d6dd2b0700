//! Runs as the contract shows them: rows with their experiment, params, tags, metric summaries and inputs.

use std::collections::{BTreeMap, HashMap};

use mlplat_proto::tracking::v1 as pb;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    convert::{branch_to_proto, run_to_proto},
    keys::Keys,
    store,
};
use crate::{
    auth::Scope,
    error::Result,
    tracking::{entity::run, experiments, inputs, metrics},
};

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
}

/// The runs of the project, in the order of the rows, with a fixed number of queries.
pub(super) async fn assemble(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    rows: Vec<run::Model>,
    selection: &Selection,
) -> Result<Vec<pb::Run>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|run| run.id).collect();
    let branched: Vec<Uuid> = rows
        .iter()
        .filter(|run| run.branch > 0)
        .map(|run| run.id)
        .collect();
    let mut runs = with_experiments(conn, scope, rows).await?;
    let place: HashMap<Uuid, usize> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| (*id, index))
        .collect();
    let at = |id: &Uuid| place.get(id).copied().unwrap_or_default();
    if !selection.params.is_empty() {
        for param in store::load_params_of(conn, scope, &ids, &selection.params).await? {
            runs[at(&param.run_id)]
                .params
                .insert(param.key, param.value);
        }
    }
    if !selection.tags.is_empty() {
        for tag in store::load_tags_of(conn, scope, &ids, &selection.tags).await? {
            runs[at(&tag.run_id)].tags.insert(tag.key, tag.value);
        }
    }
    if !selection.metrics.is_empty() {
        for series in metrics::store::load_summaries(conn, scope, &ids, &selection.metrics).await? {
            runs[at(&series.run_id)]
                .metrics
                .push(metrics::summary_to_proto(series));
        }
    }
    if selection.inputs {
        for input in inputs::store::load_inputs(conn, scope, &ids).await? {
            runs[at(&input.run_id)].inputs.push(input.into());
        }
    }
    for branch in store::load_branches(conn, scope, &branched).await? {
        runs[at(&branch.run_id)]
            .branches
            .push(branch_to_proto(&branch));
    }
    Ok(runs)
}

async fn with_experiments(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    rows: Vec<run::Model>,
) -> Result<Vec<pb::Run>> {
    let mut ids: Vec<Uuid> = rows.iter().map(|run| run.experiment_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let names: BTreeMap<Uuid, String> = experiments::store::experiments_by_id(conn, scope, ids)
        .await?
        .into_iter()
        .map(|experiment| (experiment.id, experiment.name))
        .collect();
    let named = |row: run::Model| {
        let name = names.get(&row.experiment_id).cloned().unwrap_or_default();
        run_to_proto(row, name)
    };
    Ok(rows.into_iter().map(named).collect())
}

/// One run.
pub(super) async fn assemble_one(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    row: run::Model,
) -> Result<pb::Run> {
    Ok(assemble(conn, scope, vec![row], &Selection::everything())
        .await?
        .pop()
        .unwrap_or_default())
}
