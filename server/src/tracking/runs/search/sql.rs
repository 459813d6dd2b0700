//! The condition on `runs` that a filter means.
//!
//! Invariant: it expects `runs` and `experiments` in the query, under their own names; whatever the filter holds becomes a
//! bound value.

use sea_orm::{
    Condition, DbBackend,
    sea_query::{
        Expr, ExprTrait as _, LikeExpr, Query, SelectStatement,
        extension::{postgres, sqlite},
    },
};

use super::ast::{Attribute, Field, Filter, Op, Test, Values};
use crate::tracking::entity::{experiment, metric_series, run, run_param, run_tag};

/// The condition for a filter.
pub(super) fn condition(filter: &Filter, backend: DbBackend) -> Condition {
    match filter {
        Filter::All(parts) => parts.iter().fold(Condition::all(), |all, part| {
            all.add(condition(part, backend))
        }),
        Filter::Any(parts) => parts.iter().fold(Condition::any(), |any, part| {
            any.add(condition(part, backend))
        }),
        Filter::Compare(field, test) => Condition::all().add(compare(field, test, backend)),
    }
}

fn compare(field: &Field, test: &Test, backend: DbBackend) -> Expr {
    let rows = match field {
        Field::Attribute(attribute) => return fits(attribute_column(*attribute), test, backend),
        Field::Metric(key) => metric_rows(key),
        Field::Param(key) => param_rows(key),
        Field::Tag(key) => tag_rows(key),
    };
    let exists = |condition: Expr| Expr::exists(rows.clone().and_where(condition).take());
    match (field, test) {
        (Field::Metric(_), Test::Null { negated }) => {
            let mut known = rows.clone();
            known.and_where(Expr::col(metric_series::Column::LastValue).is_not_null());
            if *negated {
                Expr::exists(known)
            } else {
                Expr::not_exists(known)
            }
        }
        (_, Test::Null { negated: true }) => Expr::exists(rows.clone()),
        (_, Test::Null { negated: false }) => Expr::not_exists(rows.clone()),
        (Field::Metric(_), test) => exists(fits(
            Expr::col(metric_series::Column::LastValue),
            test,
            backend,
        )),
        (
            _,
            Test::Number(..)
            | Test::In {
                values: Values::Numbers(_),
                ..
            },
        ) => exists(fits(Expr::col(run_param::Column::Number), test, backend)),
        (_, test) => exists(fits(Expr::col(run_param::Column::Value), test, backend)),
    }
}

/// What a column of runs is called in SQL.
pub(super) fn attribute_column(attribute: Attribute) -> Expr {
    use run::Column as C;
    match attribute {
        Attribute::RunId => Expr::col((run::Entity, C::Id)),
        Attribute::Name => Expr::col((run::Entity, C::Name)),
        Attribute::Status => Expr::col((run::Entity, C::Status)),
        Attribute::Experiment => Expr::col((experiment::Entity, experiment::Column::Name)),
        Attribute::ParentRunId => Expr::col((run::Entity, C::ParentRunId)),
        Attribute::StartedAt => Expr::col((run::Entity, C::StartedAt)),
        Attribute::EndedAt => Expr::col((run::Entity, C::EndedAt)),
        Attribute::CreatedBy => Expr::col((run::Entity, C::CreatedBy)),
    }
}

fn metric_rows(key: &str) -> SelectStatement {
    use metric_series::{Column, Entity};
    let mut rows = Query::select();
    rows.expr(Expr::cust("1"))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::RunId)).equals((run::Entity, run::Column::Id)))
        .and_where(Expr::col((Entity, Column::Key)).eq(key));
    rows
}

fn param_rows(key: &str) -> SelectStatement {
    use run_param::{Column, Entity};
    let mut rows = Query::select();
    rows.expr(Expr::cust("1"))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::RunId)).equals((run::Entity, run::Column::Id)))
        .and_where(Expr::col((Entity, Column::Key)).eq(key));
    rows
}

/// The columns of tags are called like those of params.
fn tag_rows(key: &str) -> SelectStatement {
    use run_tag::{Column, Entity};
    let mut rows = Query::select();
    rows.expr(Expr::cust("1"))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::RunId)).equals((run::Entity, run::Column::Id)))
        .and_where(Expr::col((Entity, Column::Key)).eq(key));
    rows
}

/// A null column fits nothing but IS NULL: so SQL has it, and so the language wants it.
fn fits(column: Expr, test: &Test, backend: DbBackend) -> Expr {
    match test {
        Test::Number(op, number) => by_op(column, *op, (*number).into()),
        Test::Text(op, text) => by_op(column, *op, text.as_str().into()),
        Test::Time(op, micros) => by_op(column, *op, (*micros).into()),
        Test::Id(op, id) => by_op(column, *op, (*id).into()),
        Test::Like {
            pattern,
            ignore_case,
        } => {
            // The escape character of PostgreSQL is `\` anyway; SQLite has none until it is named.
            match (backend, ignore_case) {
                (DbBackend::Sqlite, false) => sqlite::SqliteExpr::glob(column, pattern.glob()),
                (DbBackend::Sqlite, true) => {
                    column.like(LikeExpr::new(pattern.like()).escape('\\'))
                }
                (_, false) => column.like(pattern.like()),
                (_, true) => postgres::PgExpr::ilike(column, pattern.like()),
            }
        }
        Test::In { values, negated } => {
            let values: Vec<Expr> = match values {
                Values::Numbers(numbers) => numbers.iter().map(|number| (*number).into()).collect(),
                Values::Texts(texts) => texts.iter().map(|text| text.as_str().into()).collect(),
                Values::Times(times) => times.iter().map(|micros| (*micros).into()).collect(),
                Values::Ids(ids) => ids.iter().map(|id| (*id).into()).collect(),
            };
            if *negated {
                column.is_not_in(values)
            } else {
                column.is_in(values)
            }
        }
        Test::Null { negated: true } => column.is_not_null(),
        Test::Null { negated: false } => column.is_null(),
    }
}

fn by_op(column: Expr, op: Op, value: Expr) -> Expr {
    match op {
        Op::Eq => column.eq(value),
        Op::Ne => column.ne(value),
        Op::Lt => column.lt(value),
        Op::Le => column.lte(value),
        Op::Gt => column.gt(value),
        Op::Ge => column.gte(value),
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::{PostgresQueryBuilder, SqliteQueryBuilder};

    use super::*;
    use crate::tracking::runs::search::parser;

    fn sql(filter: &str, backend: DbBackend) -> String {
        let parsed = parser::parse(filter).expect("a filter");
        let mut select = Query::select();
        select
            .expr(Expr::cust("1"))
            .from(run::Entity)
            .cond_where(condition(&parsed, backend));
        match backend {
            DbBackend::Sqlite => select.to_string(SqliteQueryBuilder),
            _ => select.to_string(PostgresQueryBuilder),
        }
    }

    #[test]
    fn case_matters_to_like_on_both() {
        let cases = [
            ("name LIKE 'a*%'", DbBackend::Sqlite, "GLOB 'a[*]*'"),
            (
                "name ILIKE 'a%'",
                DbBackend::Sqlite,
                " LIKE 'a%' ESCAPE '\\'",
            ),
            ("name LIKE 'a*%'", DbBackend::Postgres, " LIKE 'a*%'"),
            ("name ILIKE 'a%'", DbBackend::Postgres, " ILIKE 'a%'"),
        ];
        for (filter, backend, wanted) in cases {
            let text = sql(filter, backend);
            assert!(text.ends_with(wanted), "{filter}: {text}");
        }
    }

    #[test]
    fn or_keeps_its_parentheses() {
        let text = sql(
            "(status = 'FAILED' OR name = 'a') AND name != 'b'",
            DbBackend::Sqlite,
        );
        let wanted =
            r#"("runs"."status" = 'FAILED' OR "runs"."name" = 'a') AND "runs"."name" <> 'b'"#;
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn what_is_not_there_is_asked_by_exists() {
        let text = sql(
            "params.depth > 3 AND metrics.mae IS NULL",
            DbBackend::Sqlite,
        );
        assert!(text.contains(r#""number" > 3"#), "{text}");
        assert!(text.contains("NOT EXISTS"), "{text}");
    }
}
