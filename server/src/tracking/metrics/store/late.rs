//! SQL of what arrives late, for a branch that another one has followed.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, QueryFilter as _,
    QuerySelect as _,
    sea_query::{Expr, ExprTrait as _},
};
use uuid::Uuid;

use super::{super::branch::first_number, Locked, VALUES, padded};
use crate::{error::Result, tracking::entity::metric_chunk};

/// The last chunk of a series in a branch.
#[derive(Debug, Clone, Copy, FromQueryResult)]
pub(in crate::tracking::metrics) struct LastChunk {
    series_id: Uuid,
    pub(in crate::tracking::metrics) number: i64,
    pub(in crate::tracking::metrics) count: i64,
}

/// The last chunks of some series of a locked run in one branch, by series; those without any are left out.
pub(in crate::tracking::metrics) async fn load_last_chunks(
    txn: &impl ConnectionTrait,
    _locked: &Locked,
    series_ids: &[Uuid],
    branch: i32,
) -> Result<HashMap<Uuid, LastChunk>> {
    use metric_chunk::Column as C;
    let (first, end) = (first_number(branch), first_number(branch + 1) - 1);
    let mut found = HashMap::new();
    for part in series_ids.chunks(VALUES) {
        let last = Expr::cust(format!(
            "(SELECT MAX(c.number) FROM metric_chunks c \
             WHERE c.series_id = metric_chunks.series_id AND c.number BETWEEN {first} AND {end})"
        ));
        let rows = metric_chunk::Entity::find()
            .select_only()
            .columns([C::SeriesId, C::Number, C::Count])
            .filter(C::SeriesId.is_in(padded(part.to_vec())))
            .filter(Expr::col(C::Number).eq(last))
            .into_model::<LastChunk>()
            .all(txn)
            .await?;
        found.extend(rows.into_iter().map(|chunk| (chunk.series_id, chunk)));
    }
    Ok(found)
}
