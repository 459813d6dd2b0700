//! Runs as the contract shows them: rows with their experiment, params, tags and metric summaries.

use std::collections::{BTreeMap, HashMap};

use mlplat_proto::tracking::v1 as pb;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    convert::{branch_to_proto, run_to_proto},
    store,
};
use crate::{
    auth::Scope,
    error::Result,
    tracking::{entity::run, experiments, metrics},
};

/// The runs of the project, in the order of the rows, with a fixed number of queries.
pub(super) async fn assemble(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    rows: Vec<run::Model>,
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
    let mut experiment_ids: Vec<Uuid> = rows.iter().map(|run| run.experiment_id).collect();
    experiment_ids.sort_unstable();
    experiment_ids.dedup();
    let experiments: BTreeMap<Uuid, String> =
        experiments::store::experiments_by_id(conn, scope, experiment_ids)
            .await?
            .into_iter()
            .map(|experiment| (experiment.id, experiment.name))
            .collect();

    let mut runs: Vec<pb::Run> = rows
        .into_iter()
        .map(|row| {
            let experiment = experiments
                .get(&row.experiment_id)
                .cloned()
                .unwrap_or_default();
            run_to_proto(row, experiment)
        })
        .collect();
    let place: HashMap<Uuid, usize> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| (*id, index))
        .collect();
    let at = |id: &Uuid| place.get(id).copied().unwrap_or_default();
    for param in store::load_params_of(conn, scope, &ids).await? {
        runs[at(&param.run_id)]
            .params
            .insert(param.key, param.value);
    }
    for tag in store::load_tags_of(conn, scope, &ids).await? {
        runs[at(&tag.run_id)].tags.insert(tag.key, tag.value);
    }
    for series in metrics::store::load_summaries(conn, scope, &ids).await? {
        runs[at(&series.run_id)]
            .metrics
            .push(metrics::summary_to_proto(series));
    }
    for branch in store::load_branches(conn, scope, &branched).await? {
        runs[at(&branch.run_id)]
            .branches
            .push(branch_to_proto(&branch));
    }
    Ok(runs)
}

/// One run.
pub(super) async fn assemble_one(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    row: run::Model,
) -> Result<pb::Run> {
    Ok(assemble(conn, scope, vec![row])
        .await?
        .pop()
        .unwrap_or_default())
}
