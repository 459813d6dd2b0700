//! SQL of the search.

use sea_orm::{
    ConnectionTrait, EntityTrait as _, FromQueryResult as _, QueryTrait as _,
    sea_query::{Expr, ExprTrait as _, SelectStatement},
};

use super::{
    ast::{Filter, OrderBy},
    order::{self, SortKey, SortValue},
    sql,
};
use crate::{
    auth::Scope,
    error::{Error, Result},
    page::Page,
    tracking::entity::{experiment, run},
};

/// A found run, and the values it was ordered by.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) run: run::Model,
    pub(super) sort_values: Vec<Option<SortValue>>,
}

/// What is searched.
#[derive(Debug)]
pub(super) struct Search {
    /// Names of experiments; none means all.
    pub(super) experiments: Vec<String>,
    pub(super) filter: Filter,
    pub(super) order: Vec<OrderBy>,
}

/// A page of the runs of the project that fit; one more than the page holds, if there are more.
pub(super) async fn search(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    search: &Search,
    page: &Page,
) -> Result<Vec<Found>> {
    let backend = conn.get_database_backend();
    let mut find = run::Entity::find();
    let select: &mut SelectStatement = find.query();
    select.inner_join(
        experiment::Entity,
        Expr::col((experiment::Entity, experiment::Column::Id))
            .equals((run::Entity, run::Column::ExperimentId)),
    );
    select.and_where(Expr::col((run::Entity, run::Column::ProjectId)).eq(scope.project_id()));
    if !search.experiments.is_empty() {
        let name = Expr::col((experiment::Entity, experiment::Column::Name));
        select.and_where(name.is_in(search.experiments.iter().map(String::as_str)));
    }
    if search.filter != Filter::All(Vec::new()) {
        select.cond_where(sql::condition(&search.filter, backend));
    }
    let keys = order::sort_keys(select, &search.order);
    let after = after(&keys, page)?;
    order::apply(select, &keys, after.as_deref());
    select.limit(page.limit() + 1);

    let rows = conn.query_all(find.as_query()).await?;
    rows.iter()
        .map(|row| {
            let run = run::Model::from_query_result(row, "")?;
            Ok(Found {
                run,
                sort_values: order::read(row, &keys)?,
            })
        })
        .collect()
}

/// Tokens are ours, but what comes back need not be.
fn after(keys: &[SortKey], page: &Page) -> Result<Option<Vec<Option<SortValue>>>> {
    let Some(token) = page.after() else {
        return Ok(None);
    };
    match order::decode(keys, token) {
        Some(values) => Ok(Some(values)),
        None => Err(Error::invalid(
            "page_token",
            "is not a token of this request; begin again without one",
        )),
    }
}
