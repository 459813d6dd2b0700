//! SQL of the inputs of runs.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QuerySelect as _, sea_query::OnConflict,
};
use uuid::Uuid;

use super::convert::key;
use crate::{
    auth::Scope,
    error::{Error, Result},
    tracking::entity::run_input::{ActiveModel, Column, Entity, Model},
};

/// Most inputs of one run.
const MAX_INPUTS: u64 = 1000;

/// Sets inputs of a locked run, and gives those that it did not have before.
pub(super) async fn set_inputs(
    txn: &impl ConnectionTrait,
    _scope: &Scope,
    run_id: Uuid,
    rows: &[Model],
) -> Result<Vec<Model>> {
    let known: Vec<(String, String, String)> = Entity::find()
        .filter(Column::RunId.eq(run_id))
        .filter(Column::Name.is_in(rows.iter().map(|row| row.name.as_str())))
        .select_only()
        .columns([Column::Name, Column::Digest, Column::Context])
        .into_tuple()
        .all(txn)
        .await?;
    let known: BTreeSet<(&str, &str, &str)> = known
        .iter()
        .map(|(name, digest, context)| (name.as_str(), digest.as_str(), context.as_str()))
        .collect();
    let upsert =
        OnConflict::columns([Column::RunId, Column::Name, Column::Digest, Column::Context])
            .update_columns([
                Column::Source,
                Column::SourceType,
                Column::Fields,
                Column::RowCount,
            ])
            .to_owned();
    let active: Vec<ActiveModel> = rows
        .iter()
        .map(|row| row.clone().into_active_model())
        .collect();
    Entity::insert_many(active)
        .on_conflict(upsert)
        .exec_without_returning(txn)
        .await?;
    let count = Entity::find()
        .filter(Column::RunId.eq(run_id))
        .count(txn)
        .await?;
    if count > MAX_INPUTS {
        let message =
            format!("the run would have {count} inputs; at most {MAX_INPUTS} are possible");
        return Err(Error::invalid("inputs", message));
    }
    Ok(rows
        .iter()
        .filter(|row| !known.contains(&key(row)))
        .cloned()
        .collect())
}
