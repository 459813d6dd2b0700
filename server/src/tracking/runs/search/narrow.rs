//! Where a search begins: with the rows of one comparison, if they are few.
//!
//! Invariant: what it gives are all runs of the project that fit that comparison, which must fit, so nothing is lost by
//! looking at no others. Some may be of other projects; the search itself leaves them out. Sizes only choose the way, so they
//! may be of some seconds ago. So may be which experiment has a name, and who searches with that sees to it that it still has:
//! what is found is always of now.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use moka::future::Cache;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbBackend, QueryResult,
    sea_query::{
        Alias, BinOper, Expr, ExprTrait as _, Func, Query, QueryStatementBuilder as _,
        SelectStatement,
    },
};
use uuid::Uuid;

use super::{
    ast::{Attribute, DatasetPart, Field, Filter, Op, Stat, Test},
    sql::{Terms, rows_of},
};
use crate::{
    app::App,
    auth::Scope,
    error::{Error, Result},
    tracking::{
        entity::{experiment, metric_series, run},
        runs::list::Ids,
    },
};

/// So many runs are looked up one by one sooner than found by walking along an order.
const FEW: u64 = 1000;
/// So many runs are looked through sooner than found along an order that all others are in as well.
const SMALL: u64 = 5000;
/// Comparisons that are tried.
const TRIED: usize = 4;
/// Characters of a value that are in the index.
const INDEXED: usize = 100;

/// How long surveys are good for.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// Surveys that are kept.
const KEPT: u64 = 1000;

/// How much there is of what is searched.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    /// How many runs are searched; none where they are not few.
    runs: Option<u64>,
    /// How many series of all projects the metric has that decides first; none where it has many.
    series: Option<u64>,
}

impl Sizes {
    /// Whether the metric is mostly one of the runs that are searched, for its index is that of all projects.
    fn way_is_short(&self) -> bool {
        matches!((self.runs, self.series), (Some(runs), Some(series)) if series <= runs * 2)
    }

    /// So many runs are looked up one by one sooner than the search is done without: the shorter the way along the index, the
    /// fewer.
    fn few(&self) -> u64 {
        match self.runs {
            Some(runs) if self.way_is_short() => runs / 8,
            _ => FEW,
        }
    }
}

/// What is searched, as far as it decides where to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) scope: &'a Scope,
    /// Names of experiments; none means all.
    pub(super) experiments: &'a [String],
    pub(super) filter: &'a Filter,
    /// The metric that decides the order first.
    pub(super) ranked: Option<&'a str>,
}

/// What sizes depend on: project, experiments (a hash of their names), metric that decides first.
type Key = (Uuid, u64, String);

impl Question<'_> {
    fn key(&self) -> Key {
        let mut names = DefaultHasher::new();
        self.experiments.hash(&mut names);
        let metric = self.ranked.unwrap_or_default().to_owned();
        (self.scope.project_id(), names.finish(), metric)
    }

    /// The comparisons that are tried: those with an index, but for the metric along whose index the search goes.
    fn tried(&self) -> impl Iterator<Item = (&Field, &Test)> {
        let compared = self.filter.conjuncts().into_iter();
        let tried = compared.filter_map(|part| match part {
            Filter::Compare(field, test) if is_indexed(field, test, self.ranked) => {
                Some((field, test))
            }
            _ => None,
        });
        tried.take(TRIED)
    }
}

/// Experiments and sizes of searches that were made lately.
#[derive(Debug, Clone)]
pub(crate) struct RecentSurveys(Cache<Key, (Vec<Uuid>, Sizes)>);

impl Default for RecentSurveys {
    fn default() -> Self {
        let cache = Cache::builder().max_capacity(KEPT).time_to_live(GOOD_FOR);
        Self(cache.build())
    }
}

/// What one look at the indexes tells before the search begins.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The experiments of the names that are searched.
    pub(super) experiment_ids: Vec<Uuid>,
    sizes: Sizes,
    /// Of some comparisons that must fit: how many runs do, and which; only where they are few.
    candidates: Vec<(u64, Ids)>,
}

impl Survey {
    /// What is known from lately of the search in one experiment, where that is enough to begin: for a short way along the index
    /// no comparison needs to be tried. Where something is found, the experiment must still have its name; where nothing is,
    /// nothing is known.
    pub(super) async fn remembered(app: &App, question: Question<'_>) -> Option<Self> {
        let [_] = question.experiments else {
            return None;
        };
        let (experiment_ids, sizes) = app.recent_surveys.0.get(&question.key()).await?;
        let begins = || question.tried().next().is_none();
        (!experiment_ids.is_empty() && (sizes.way_is_short() || begins())).then(|| Self {
            experiment_ids,
            sizes,
            candidates: Vec::new(),
        })
    }

    /// What was remembered does not hold any more.
    pub(super) async fn forget(app: &App, question: Question<'_>) {
        app.recent_surveys.0.invalidate(&question.key()).await;
    }

    /// Looks, by one query.
    pub(super) async fn of(app: &App, question: Question<'_>) -> Result<Self> {
        let Question {
            scope,
            experiments,
            ranked,
            ..
        } = question;
        let backend = app.db.backend();
        if experiments.is_empty() && ranked.is_none() && question.tried().next().is_none() {
            return Ok(Self::default());
        }
        let key = question.key();
        let known = match ranked {
            Some(_) => app.recent_surveys.0.get(&key).await,
            None => Some((Vec::new(), Sizes::default())),
        };
        let known = known.map(|(_, sizes)| sizes);
        let named = of_names(scope, experiments);
        let mut query = Query::select();
        let mut ids = named.clone();
        ids.clear_selects().expr(Ids::aggregate(backend, "id"));
        query.expr(scalar(ids));
        let most = known.map_or(FEW, |sizes| sizes.few());
        for (field, test) in question.tried() {
            let rows = rows(scope, field, test, backend);
            query.expr(scalar(listed(rows, most, backend)));
        }
        if let (None, Some(metric)) = (known, ranked) {
            query
                .expr(scalar(counted(runs_of(scope, experiments, named), SMALL)))
                .expr(scalar(counted(series_of(metric), SMALL * 2)));
        }
        let Some(row) = app.db.read().query_one(&query).await? else {
            return Ok(Self::default());
        };
        let survey = Self::read(&row, known)?;
        // Known sizes do not become younger by being used.
        if known.is_none() || ranked.is_none() {
            let recent = (survey.experiment_ids.clone(), survey.sizes);
            app.recent_surveys.0.insert(key, recent).await;
        }
        Ok(survey)
    }

    fn read(row: &QueryResult, known: Option<Sizes>) -> Result<Self> {
        let mut columns = row.column_names().len();
        let sizes = match known {
            Some(sizes) => sizes,
            None => {
                columns -= 2;
                let at_most = |index: usize, most: u64| -> Result<Option<u64>> {
                    let found: i64 = row.try_get_by_index(index)?;
                    Ok(u64::try_from(found).ok().filter(|found| *found <= most))
                };
                Sizes {
                    runs: at_most(columns, SMALL)?,
                    series: at_most(columns + 1, SMALL * 2)?,
                }
            }
        };
        let mut candidates = Vec::new();
        for index in 1..columns {
            let text: String = row.try_get_by_index(index)?;
            if let Some((count, ids)) = text.split_once(':') {
                let count = count.parse().map_err(Error::internal)?;
                if count <= sizes.few() {
                    candidates.push((count, Ids::aggregated(ids.to_owned())));
                }
            }
        }
        Ok(Self {
            experiment_ids: Ids::aggregated(row.try_get_by_index(0)?).parse()?,
            sizes,
            candidates,
        })
    }

    /// The only runs that can fit, where looking them up is quicker than the search without.
    pub(super) fn candidates(&mut self) -> Option<Ids> {
        self.candidates.sort_by_key(|(count, _)| *count);
        self.candidates.drain(..).next().map(|(_, ids)| ids)
    }

    /// Whether the runs are so few that all of them are looked through sooner than the way along the index is gone.
    pub(super) fn is_small(&self) -> bool {
        self.sizes.runs.is_some() && !self.sizes.way_is_short()
    }
}

fn scalar(query: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(query.into_sub_query_statement()))
}

/// How many rows, and whether there are more than `most`.
fn counted(mut rows: SelectStatement, most: u64) -> SelectStatement {
    let mut count = Query::select();
    rows.limit(most + 1);
    count
        .expr(Expr::cust("COUNT(*)"))
        .from_subquery(rows, "some");
    count
}

/// How many rows, and their ids, as one text; not all of them where there are more than `most`.
fn listed(mut rows: SelectStatement, most: u64, backend: DbBackend) -> SelectStatement {
    let mut list = Query::select();
    rows.limit(most + 1);
    list.expr(
        Expr::cust("CAST(COUNT(*) AS text) || ':'")
            .binary(BinOper::Custom("||"), Ids::aggregate(backend, "found.id")),
    )
    .from_subquery(rows, "found");
    list
}

fn of_names(scope: &Scope, names: &[String]) -> SelectStatement {
    let mut ids = Query::select();
    ids.column(experiment::Column::Id)
        .from(experiment::Entity)
        .and_where(experiment::Column::ProjectId.eq(scope.project_id()))
        .and_where(experiment::Column::Name.is_in(names.iter().map(String::as_str)));
    ids
}

fn runs_of(scope: &Scope, names: &[String], named: SelectStatement) -> SelectStatement {
    let mut runs = Query::select();
    runs.column(run::Column::StartedAt).from(run::Entity);
    if names.is_empty() {
        runs.and_where(run::Column::ProjectId.eq(scope.project_id()));
    } else {
        runs.and_where(run::Column::ExperimentId.in_subquery(named));
    }
    runs
}

fn series_of(metric: &str) -> SelectStatement {
    let mut series = Query::select();
    series
        .column(metric_series::Column::LastValue)
        .from(metric_series::Entity)
        .and_where(metric_series::Column::Key.eq(metric));
    series
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

/// The ids of the runs that fit this comparison.
fn rows(scope: &Scope, field: &Field, test: &Test, backend: DbBackend) -> SelectStatement {
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
    rows
}
