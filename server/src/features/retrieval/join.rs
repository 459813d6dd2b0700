//! Runs the joins of a selection, one view after the other.

use std::time::Duration;

use futures::TryStreamExt as _;

use super::{entities::Entities, query::Query};
use crate::{
    error::{Error, Result},
    features::{
        asof::{AsOf, AsOfOptions, EntitySide, Matches},
        scan,
        selection::{Join, Selection},
        sources::{Session, asof_error},
    },
};

/// Joins all views of a selection with the entity rows.
pub(super) async fn join_all(
    session: &mut Session,
    selection: &Selection,
    entities: &Entities,
    query: &Query,
    memory_bytes: usize,
) -> Result<Vec<Matches>> {
    let left = memory_bytes.saturating_sub(entities.bytes);
    let mut matches = Vec::with_capacity(selection.joins.len());
    for join in &selection.joins {
        matches.push(join_view(session, join, entities, query, left).await?);
    }
    Ok(matches)
}

async fn join_view(
    session: &mut Session,
    join: &Join,
    entities: &Entities,
    query: &Query,
    memory_limit: usize,
) -> Result<Matches> {
    let scan = scan::open(session, &join.view, &join.features).await?;
    let side = EntitySide {
        schema: entities.schema.clone(),
        batches: &entities.batches,
        keys: join.keys.clone(),
        timestamp: query.timestamp.clone(),
    };
    let options = AsOfOptions {
        ttl: ttl(join)?,
        known_at_entity: query.known_at_entity,
        memory_limit,
    };
    let mut asof = AsOf::new(&side, &scan.side, &options).map_err(|e| asof_error(&e))?;
    if !asof.pruning().nothing {
        let mut rows = scan.prune(asof.pruning())?.rows().await?;
        while let Some(batch) = rows.try_next().await? {
            asof.push(&batch).map_err(|e| asof_error(&e))?;
        }
    }
    asof.finish().map_err(|e| asof_error(&e))
}

fn ttl(join: &Join) -> Result<Option<Duration>> {
    let ttl = join.view.definition.ttl;
    ttl.map(|ttl| Duration::try_from(ttl).map_err(Error::internal))
        .transpose()
}
