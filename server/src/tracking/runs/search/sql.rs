//! The condition on `runs` that a filter means.
//!
//! Invariant: it expects `runs` in the query under its own name, and `experiments` where the filter mentions the name of the
//! experiment; whatever the filter holds becomes a bound value. Every condition is true or false, never unknown, so that NOT
//! means what it says.

use sea_orm::{
    Condition, DbBackend,
    sea_query::{
        Alias, Expr, ExprTrait as _, LikeExpr, Query, SelectStatement,
        extension::{postgres, sqlite},
    },
};

use super::ast::{Attribute, DatasetPart, Field, Filter, Op, Stat, Test, Values};
use crate::tracking::entity::{experiment, metric_series, run};

/// What the condition may rely on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) backend: DbBackend,
    /// A metric whose series is joined under this alias, for runs that have a last value of it.
    pub(super) joined: Option<(&'a str, &'a str)>,
}

impl Terms<'_> {
    /// The condition for a filter.
    pub(super) fn condition(&self, filter: &Filter) -> Condition {
        self.signed(filter, false)
    }

    /// The condition for a filter, or for its contrary.
    fn signed(&self, filter: &Filter, negated: bool) -> Condition {
        let (parts, all) = match filter {
            Filter::Not(inner) => return self.signed(inner, !negated),
            Filter::Compare(field, test) => return self.compare(field, test, negated),
            Filter::All(parts) => (parts, !negated),
            Filter::Any(parts) => (parts, negated),
        };
        let joined = if all {
            Condition::all()
        } else {
            Condition::any()
        };
        parts.iter().fold(joined, |joined, part| {
            joined.add(self.signed(part, negated))
        })
    }

    fn compare(&self, field: &Field, test: &Test, negated: bool) -> Condition {
        if let Field::Attribute(attribute) = field {
            return self.attribute(*attribute, test, negated);
        }
        if let (Field::Metric(Stat::Last, key), Some((joined, alias))) = (field, self.joined)
            && key == joined
        {
            // It has a value, so the comparison is true or false.
            let column = Expr::col((Alias::new(alias), metric_series::Column::LastValue));
            return signed(self.fits(column, test), negated);
        }
        // IS NULL is the contrary of IS NOT NULL, which a row can fit.
        let (test, negated) = match test {
            Test::Null { negated: false } => (&Test::Null { negated: true }, !negated),
            test => (test, negated),
        };
        let mut rows = rows_of(field, test, |column| self.fits(column, test));
        rows.and_where(Expr::col((table_of(field), Alias::new("run_id"))).eq(self.run_id()));
        match self.backend {
            // Without it SQLite makes a join of it, and may begin with all rows of the key, for each run again.
            DbBackend::Sqlite => {
                rows.limit(1);
            }
            // The same in PostgreSQL, which does not see that few runs along the index are enough for a page.
            _ if self.joined.is_some() => {
                rows.offset(0);
            }
            _ => {}
        }
        Condition::all().add(if negated {
            Expr::not_exists(rows)
        } else {
            Expr::exists(rows)
        })
    }

    /// The run that a row belongs to: by the joined series where there is one, for then the row is looked up before the run.
    fn run_id(&self) -> Expr {
        match self.joined {
            Some((_, alias)) => Expr::col((Alias::new(alias), metric_series::Column::RunId)),
            None => Expr::col((run::Entity, run::Column::Id)),
        }
    }

    fn attribute(&self, attribute: Attribute, test: &Test, negated: bool) -> Condition {
        let column = match test {
            Test::Like { .. } if attribute.is_id() => id_as_text(attribute, self.backend),
            _ => attribute_column(attribute),
        };
        let fits = self.fits(column.clone(), test);
        match (negated, attribute.is_nullable(), test) {
            (true, true, Test::Null { .. }) | (true, false, _) => Condition::all().add(fits.not()),
            (true, true, _) => Condition::any().add(fits.not()).add(column.is_null()),
            (false, ..) => Condition::all().add(fits),
        }
    }

    /// What a column must be. A null column fits nothing but IS NULL: so SQL has it, and so the language wants it.
    pub(super) fn fits(&self, column: Expr, test: &Test) -> Expr {
        match test {
            Test::Number(op, number) => by_op(column, *op, (*number).into()),
            Test::Text(op, text) => by_op(column, *op, text.as_str().into()),
            Test::Time(op, micros) => by_op(column, *op, (*micros).into()),
            Test::Id(op, id) => by_op(column, *op, (*id).into()),
            Test::Like {
                pattern,
                ignore_case,
                negated,
            } => {
                // The escape character of PostgreSQL is `\` anyway; SQLite has none until it is named.
                let like = match (self.backend, ignore_case) {
                    (DbBackend::Sqlite, false) => sqlite::SqliteExpr::glob(column, pattern.glob()),
                    (DbBackend::Sqlite, true) => {
                        column.like(LikeExpr::new(pattern.like()).escape('\\'))
                    }
                    (_, false) => column.like(pattern.like()),
                    (_, true) => postgres::PgExpr::ilike(column, pattern.like()),
                };
                if *negated { like.not() } else { like }
            }
            Test::In { values, negated } => {
                let values: Vec<Expr> = match values {
                    Values::Numbers(numbers) => {
                        numbers.iter().map(|number| (*number).into()).collect()
                    }
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
}

fn signed(fits: Expr, negated: bool) -> Condition {
    Condition::all().add(if negated { fits.not() } else { fits })
}

/// Ids of runs by the rows of params, tags, series, data sets or runs that fit, of whichever project.
pub(super) fn rows_of(field: &Field, test: &Test, fits: impl Fn(Expr) -> Expr) -> SelectStatement {
    let table = table_of(field);
    let column = |name: &'static str| Expr::col((table.clone(), Alias::new(name)));
    let mut rows = Query::select();
    let id = match field {
        Field::Attribute(_) => "id",
        _ => "run_id",
    };
    rows.expr_as(column(id), Alias::new("id"))
        .from(table.clone());
    let value = match field {
        Field::Metric(stat, key) => {
            rows.and_where(column("key").eq(key.as_str()));
            if *stat == Stat::Count {
                // A series of an older branch of the run: there is nothing of it in this one.
                rows.and_where(column("count").gt(0));
            }
            column(stat_column(*stat))
        }
        Field::Param(key) | Field::Tag(key) => {
            rows.and_where(column("key").eq(key.as_str()));
            // Whatever text there is, there is a value; the number is null where the text is none.
            if test.is_numeric() {
                column("number")
            } else {
                column("value")
            }
        }
        Field::Dataset(part) => column(dataset_column(*part)),
        Field::Attribute(attribute) => attribute_column(*attribute),
    };
    rows.and_where(fits(value));
    rows
}

fn table_of(field: &Field) -> Alias {
    Alias::new(match field {
        Field::Metric(..) => "metric_series",
        Field::Param(_) => "run_params",
        Field::Tag(_) => "run_tags",
        Field::Dataset(_) => "run_inputs",
        Field::Attribute(_) => "runs",
    })
}

/// What a number of a series is called in SQL.
pub(super) fn stat_column(stat: Stat) -> &'static str {
    match stat {
        Stat::Last => "last_value",
        Stat::Min => "min_value",
        Stat::Max => "max_value",
        Stat::Count => "count",
    }
}

/// What a part of a data set is called in SQL.
pub(super) fn dataset_column(part: DatasetPart) -> &'static str {
    match part {
        DatasetPart::Name => "name",
        DatasetPart::Digest => "digest",
        DatasetPart::Context => "context",
        DatasetPart::Source => "source",
    }
}

/// What a column of runs is called in SQL.
pub(super) fn attribute_column(attribute: Attribute) -> Expr {
    use run::Column as C;
    let column = match attribute {
        Attribute::Experiment => {
            return Expr::col((experiment::Entity, experiment::Column::Name));
        }
        Attribute::RunId => C::Id,
        Attribute::Name => C::Name,
        Attribute::Status => C::Status,
        Attribute::StatusMessage => C::StatusMessage,
        Attribute::Description => C::Description,
        Attribute::ExperimentId => C::ExperimentId,
        Attribute::ParentRunId => C::ParentRunId,
        Attribute::StartedAt => C::StartedAt,
        Attribute::EndedAt => C::EndedAt,
        Attribute::CreatedAt => C::CreatedAt,
        Attribute::UpdatedAt => C::UpdatedAt,
        Attribute::CreatedBy => C::CreatedBy,
    };
    Expr::col((run::Entity, column))
}

/// An id as people write it; SQLite keeps the bytes.
fn id_as_text(attribute: Attribute, backend: DbBackend) -> Expr {
    let column = match attribute {
        Attribute::ParentRunId => r#""runs"."parent_run_id""#,
        Attribute::ExperimentId => r#""runs"."experiment_id""#,
        _ => r#""runs"."id""#,
    };
    if backend == DbBackend::Postgres {
        return Expr::cust(format!("CAST({column} AS text)"));
    }
    let parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)]
        .map(|(from, length)| format!("substr(hex({column}), {from}, {length})"));
    Expr::cust(format!("lower({})", parts.join(" || '-' || ")))
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
        let terms = Terms {
            backend,
            joined: Some(("loss", "order_0")),
        };
        let mut select = Query::select();
        select
            .expr(Expr::cust("1"))
            .from(run::Entity)
            .cond_where(terms.condition(&parsed));
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

    #[test]
    fn not_is_never_unknown() {
        let text = sql("NOT (name = 'a' AND ended_at > 5)", DbBackend::Sqlite);
        assert!(text.contains(" OR "), "{text}");
        assert!(text.contains(r#""runs"."ended_at" IS NULL"#), "{text}");
        assert!(!sql("NOT NOT name = 'a'", DbBackend::Sqlite).contains("NOT"));
    }

    #[test]
    fn a_joined_series_is_not_asked_again() {
        let text = sql("metrics.loss < 1 AND metrics.mae < 1", DbBackend::Postgres);
        assert!(text.contains(r#""order_0"."last_value" < 1"#), "{text}");
        assert_eq!(text.matches("EXISTS").count(), 1, "{text}");
    }
}
