//! SQL of the search.
//!
//! A search is one statement where it can be: ordered by a metric, it goes along the index of that metric first (runs that
//! have a value of it), then over the rest, which has none and comes last. Where something in the filter fits few rows only,
//! it begins with those.

use sea_orm::{
    ConnectionTrait, DbBackend,
    sea_query::{Alias, Expr, ExprTrait as _, Query, QueryStatementBuilder as _, SelectStatement},
};
use uuid::Uuid;

use super::{
    ast::{Attribute, Field, Filter, OrderBy, Stat, Test},
    narrow::{Question, Survey},
    order::{self, SortKey, SortValue},
    sql::Terms,
};
use crate::{
    app::App,
    auth::Scope,
    error::{Error, Result},
    page::Page,
    tracking::{
        View,
        entity::{experiment, metric_series, run},
        runs::list::Ids,
    },
};

/// A found run, and the values it was ordered by.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) revision: i64,
    /// Name of its experiment.
    pub(super) experiment: String,
    pub(super) sort_values: Vec<Option<SortValue>>,
}

/// What is searched.
#[derive(Debug)]
pub(super) struct Search {
    /// Names of experiments; none means all.
    pub(super) experiments: Vec<String>,
    pub(super) filter: Filter,
    pub(super) order: Vec<OrderBy>,
    pub(super) view: View,
}

/// Which of the runs a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All that fit.
    Whole,
    /// Those with a value of the metric that decides first.
    Ranked,
    /// The others.
    Unranked,
}

/// What was found out before the search begins.
struct Known {
    /// Experiments to search; empty means all.
    experiment_ids: Vec<Uuid>,
    /// The only runs that can fit, where they are few.
    candidates: Option<Ids>,
}

/// A page of the runs of the project that fit; one more than the page holds, if there are more.
pub(super) async fn search(
    app: &App,
    scope: &Scope,
    search: &Search,
    page: &Page,
) -> Result<Vec<Found>> {
    // Tokens are checked whatever is found.
    let after = after(&search.order, page)?;
    let after = after.as_deref();
    let question = Question {
        scope,
        experiments: &search.experiments,
        filter: &search.filter,
        ranked: ranked_metric(search),
    };
    if let Some(survey) = Survey::remembered(app, question).await {
        let found = begin(app, scope, search, survey, after, page.limit()).await?;
        let named = |found: &Found| search.experiments.contains(&found.experiment);
        if !found.iter().all(named) {
            Survey::forget(app, question).await;
        } else if !found.is_empty() {
            return Ok(found);
        }
    }
    let survey = Survey::of(app, question).await?;
    if survey.experiment_ids.is_empty() && !search.experiments.is_empty() {
        return Ok(Vec::new());
    }
    begin(app, scope, search, survey, after, page.limit()).await
}

/// Searches where and how the survey tells.
async fn begin(
    app: &App,
    scope: &Scope,
    search: &Search,
    mut survey: Survey,
    after: Option<&[Option<SortValue>]>,
    limit: u64,
) -> Result<Vec<Found>> {
    let ranked = ranked_metric(search);
    let candidates = survey.candidates();
    let at_once = ranked.is_none() || candidates.is_some() || survey.is_small();
    let parts: &[Part] = if at_once {
        &[Part::Whole]
    } else if requires(&search.filter, ranked) {
        &[Part::Ranked]
    } else {
        &[Part::Ranked, Part::Unranked]
    };
    let known = Known {
        experiment_ids: survey.experiment_ids,
        candidates,
    };

    let mut found = Vec::new();
    for part in parts {
        let begun = after.map(|after| after[0].is_some());
        if *part == Part::Ranked && begun == Some(false) {
            continue;
        }
        // Behind a run with a value come all those without.
        let after = after.filter(|_| *part != Part::Unranked || begun == Some(false));
        let missing = limit + 1 - found.len() as u64;
        let conn = app.db.read();
        found.extend(find(conn, scope, search, &known, *part, after, missing).await?);
        if found.len() as u64 > limit {
            break;
        }
    }
    Ok(found)
}

async fn find(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    search: &Search,
    known: &Known,
    part: Part,
    after: Option<&[Option<SortValue>]>,
    limit: u64,
) -> Result<Vec<Found>> {
    let mut select = Query::select();
    select.from(run::Entity);
    let backend = conn.get_database_backend();
    restrict(&mut select, scope, search, known, backend);
    let keys = order::sort_keys(&mut select, &search.order, part == Part::Ranked);
    if part == Part::Unranked {
        let value = Expr::col((order::FIRST, metric_series::Column::LastValue));
        select.and_where(value.is_null());
    }
    if search.filter != Filter::All(Vec::new()) {
        let joined = match part {
            Part::Ranked => ranked_metric(search).map(|key| (key, order::FIRST)),
            Part::Whole | Part::Unranked => None,
        };
        select.cond_where(Terms { backend, joined }.condition(&search.filter));
    }
    order::apply(&mut select, &keys, after);
    select
        .column((run::Entity, run::Column::Revision))
        .expr(experiment_name())
        .limit(limit);

    let rows = conn.query_all(&select).await?;
    let found = rows.iter().map(|row| {
        let sort_values = order::read(row, &keys)?;
        Ok(Found {
            id: order::run_id(&sort_values),
            revision: row.try_get_by_index(keys.len())?,
            experiment: row.try_get_by_index(keys.len() + 1)?,
            sort_values,
        })
    });
    found.collect()
}

fn experiment_name() -> Expr {
    let of_run = Alias::new("of_run");
    let mut name = Query::select();
    name.column((of_run.clone(), experiment::Column::Name))
        .from_as(experiment::Entity, of_run.clone())
        .and_where(
            Expr::col((of_run, experiment::Column::Id))
                .equals((run::Entity, run::Column::ExperimentId)),
        );
    Expr::SubQuery(None, Box::new(name.into_sub_query_statement()))
}

/// To the project, the experiments and the candidates, and to what may be seen.
fn restrict(
    select: &mut SelectStatement,
    scope: &Scope,
    search: &Search,
    known: &Known,
    backend: DbBackend,
) {
    // SQLite, which knows nothing of the sizes, would rather go through the whole experiment than look up candidates, and
    // through the whole project than through the experiment; a `+` hides an index.
    let column = |name: &str, hidden: bool| {
        let hidden = hidden && backend == DbBackend::Sqlite;
        Expr::cust(format!(
            r#"{}"runs"."{name}""#,
            if hidden { "+" } else { "" }
        ))
    };
    let (few, of_some) = (known.candidates.is_some(), !known.experiment_ids.is_empty());
    if let Some(ids) = &known.candidates {
        select.and_where(ids.hold(backend, r#""runs"."id""#));
    }
    select.and_where(column("project_id", few || of_some).eq(scope.project_id()));
    if let Some(seen) = search.view.condition(run::Column::DeletedAt) {
        select.and_where(seen);
    }
    if of_some {
        let of_run = column("experiment_id", few);
        select.and_where(of_run.is_in(known.experiment_ids.iter().copied()));
    }
    let by_name = Field::Attribute(Attribute::Experiment);
    if search.filter.mentions(Attribute::Experiment)
        || search.order.iter().any(|order| order.field == by_name)
    {
        select.inner_join(
            experiment::Entity,
            Expr::col((experiment::Entity, experiment::Column::Id))
                .equals((run::Entity, run::Column::ExperimentId)),
        );
    }
}

/// The metric whose last value decides first.
fn ranked_metric(search: &Search) -> Option<&str> {
    match search.order.first()?.field {
        Field::Metric(Stat::Last, ref key) => Some(key),
        _ => None,
    }
}

/// Whether only runs with a last value of this metric can fit.
fn requires(filter: &Filter, metric: Option<&str>) -> bool {
    filter.conjuncts().iter().any(|part| match part {
        Filter::Compare(Field::Metric(Stat::Last, key), test) => {
            metric == Some(key) && *test != Test::Null { negated: false }
        }
        _ => false,
    })
}

/// Tokens are ours, but what comes back need not be.
fn after(order: &[OrderBy], page: &Page) -> Result<Option<Vec<Option<SortValue>>>> {
    let Some(token) = page.after() else {
        return Ok(None);
    };
    let keys: Vec<SortKey> = order::sort_keys(&mut SelectStatement::new(), order, false);
    match order::decode(&keys, token) {
        Some(values) => Ok(Some(values)),
        None => Err(Error::invalid(
            "page_token",
            "is not a token of this request; begin again without one",
        )),
    }
}
