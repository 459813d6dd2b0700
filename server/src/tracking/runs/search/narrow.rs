//! Where a search begins: with the rows of one comparison, if they are few.
//!
//! Invariant: what it gives are all runs that fit that comparison, which must fit, so nothing is lost by looking at no
//! others. They may be of any project; the search itself restricts them.

use sea_orm::{
    ConnectionTrait,
    sea_query::{Alias, Expr, ExprTrait as _, Func},
};
use uuid::Uuid;

use super::{
    ast::{DatasetPart, Field, Filter, Op, Stat, Test},
    sql::{Terms, rows_of},
};
use crate::error::Result;

/// So many runs are looked up one by one sooner than found by walking along an order.
const FEW: u64 = 1000;
/// Comparisons that are tried.
const TRIED: usize = 4;
/// Characters of a value that are in the index.
const INDEXED: usize = 100;

/// The only runs that can fit; none where no comparison says so. The metric along whose index the search goes is not tried.
pub(super) async fn narrow(
    conn: &impl ConnectionTrait,
    filter: &Filter,
    ranked: Option<&str>,
) -> Result<Option<Vec<Uuid>>> {
    let tried = filter
        .conjuncts()
        .into_iter()
        .filter_map(|part| match part {
            Filter::Compare(field, test) if is_indexed(field, test, ranked) => Some((field, test)),
            _ => None,
        });
    for (field, test) in tried.take(TRIED) {
        if let Some(ids) = few(conn, field, test).await? {
            return Ok(Some(ids));
        }
    }
    Ok(None)
}

fn is_indexed(field: &Field, test: &Test, ranked: Option<&str>) -> bool {
    match (field, test) {
        (Field::Metric(Stat::Last, key), Test::Number(op, _)) => {
            *op != Op::Ne && ranked != Some(key)
        }
        (Field::Param(_), Test::Number(op, _)) => *op != Op::Ne,
        (Field::Param(_) | Field::Tag(_) | Field::Dataset(DatasetPart::Name), test) => {
            matches!(test, Test::Text(Op::Eq, _))
        }
        _ => false,
    }
}

/// The runs that fit this comparison, if they are few.
async fn few(conn: &impl ConnectionTrait, field: &Field, test: &Test) -> Result<Option<Vec<Uuid>>> {
    let terms = Terms {
        backend: conn.get_database_backend(),
        joined: None,
    };
    let mut rows = rows_of(field, test, |column| terms.fits(column, test));
    if let (Field::Param(_) | Field::Tag(_), Test::Text(_, text)) = (field, test) {
        // Spelt as in the index.
        let value = Expr::col(Alias::new("value"));
        let arguments = [value, Expr::cust("1"), Expr::cust(INDEXED.to_string())];
        let indexed: Expr = Func::cust("substr").args(arguments).into();
        let text: String = text.chars().take(INDEXED).collect();
        rows.and_where(indexed.eq(text));
    }
    rows.limit(FEW + 1);
    let found = conn.query_all(&rows).await?;
    if found.len() as u64 > FEW {
        return Ok(None);
    }
    let mut ids = found
        .iter()
        .map(|row| row.try_get_by_index::<Uuid>(0))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(Some(ids))
}
