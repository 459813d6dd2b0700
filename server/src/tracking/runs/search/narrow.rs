//! Where a search begins: with the rows of one comparison, if they are few.
//!
//! Invariant: what it gives are all runs of the project that fit that comparison, which must fit, so nothing is lost by
//! looking at no others. Some may be of other projects; the search itself leaves them out.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QuerySelect as _,
    QueryTrait as _,
    sea_query::{Alias, Expr, ExprTrait as _, Func, Query, SelectStatement},
};
use uuid::Uuid;

use super::{
    ast::{Attribute, DatasetPart, Field, Filter, Op, Stat, Test},
    sql::{Terms, rows_of},
};
use crate::{
    auth::Scope,
    error::Result,
    tracking::{
        entity::{metric_series, run},
        runs::list::Ids,
    },
};

/// So many runs are looked up one by one sooner than found by walking along an order.
pub(super) const FEW: u64 = 1000;
/// So many runs are looked through sooner than found along an order that all others are in as well.
const SMALL: u64 = 5000;
/// Comparisons that are tried.
const TRIED: usize = 4;
/// Characters of a value that are in the index.
const INDEXED: usize = 100;

/// The only runs that can fit, at most so many; none where no comparison says so. The metric along whose index the search goes
/// is not tried.
pub(super) async fn narrow(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    filter: &Filter,
    ranked: Option<&str>,
    most: u64,
) -> Result<Option<Ids>> {
    let tried = filter
        .conjuncts()
        .into_iter()
        .filter_map(|part| match part {
            Filter::Compare(field, test) if is_indexed(field, test, ranked) => Some((field, test)),
            _ => None,
        });
    for (field, test) in tried.take(TRIED) {
        if let Some(ids) = few(conn, scope, field, test, most).await? {
            return Ok(Some(ids));
        }
    }
    Ok(None)
}

/// How many runs the project, or these experiments of it, hold; none where they are not few.
pub(super) async fn count_if_small(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    experiment_ids: &[Uuid],
) -> Result<Option<u64>> {
    let mut runs = run::Entity::find()
        .select_only()
        .column(run::Column::StartedAt)
        .limit(SMALL + 1);
    runs = if experiment_ids.is_empty() {
        runs.filter(run::Column::ProjectId.eq(scope.project_id()))
    } else {
        runs.filter(run::Column::ExperimentId.is_in(experiment_ids.iter().copied()))
    };
    let found = count(conn, runs.into_query()).await?;
    Ok(Some(found).filter(|found| *found <= SMALL))
}

/// Whether this metric is mostly one of so many runs that are searched: then the way along its index is short, though it is
/// that of all projects.
pub(super) async fn is_mostly_of(
    conn: &impl ConnectionTrait,
    _scope: &Scope,
    metric: &str,
    runs: u64,
) -> Result<bool> {
    let most = runs * 2;
    let series = metric_series::Entity::find()
        .select_only()
        .column(metric_series::Column::LastValue)
        .filter(metric_series::Column::Key.eq(metric))
        .limit(most + 1);
    Ok(count(conn, series.into_query()).await? <= most)
}

async fn count(conn: &impl ConnectionTrait, rows: SelectStatement) -> Result<u64> {
    let mut count = Query::select();
    count
        .expr(Expr::cust("COUNT(*)"))
        .from_subquery(rows, Alias::new("some"));
    let row = conn.query_one(&count).await?;
    let found: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(u64::try_from(found).unwrap_or_default())
}

fn is_indexed(field: &Field, test: &Test, ranked: Option<&str>) -> bool {
    use Attribute::{Name, ParentRunId, RunId};
    match (field, test) {
        (Field::Attribute(Name | ParentRunId | RunId), test) => matches!(
            test,
            Test::Text(Op::Eq, _) | Test::Id(Op::Eq, _) | Test::In { negated: false, .. }
        ),
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
async fn few(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    field: &Field,
    test: &Test,
    most: u64,
) -> Result<Option<Ids>> {
    let backend = conn.get_database_backend();
    let terms = Terms {
        backend,
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
    if matches!(field, Field::Attribute(_)) {
        rows.and_where(run::Column::ProjectId.eq(scope.project_id()));
    }
    rows.limit(most + 1);
    let mut found = Query::select();
    found
        .expr(Expr::cust("COUNT(*)"))
        .expr(Ids::aggregate(backend, "found.id"))
        .from_subquery(rows, Alias::new("found"));
    let Some(row) = conn.query_one(&found).await? else {
        return Ok(None);
    };
    let count: i64 = row.try_get_by_index(0)?;
    if u64::try_from(count).unwrap_or_default() > most {
        return Ok(None);
    }
    Ok(Some(Ids::aggregated(row.try_get_by_index(1)?)))
}
