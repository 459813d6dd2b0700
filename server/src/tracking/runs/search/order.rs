//! The order of found runs, and where in it a page begins.
//!
//! Invariant: the order is total (the id of the run decides last) and what a run lacks comes last, so a page begins exactly
//! behind the last run of the one before, whatever was inserted meanwhile.

use sea_orm::{
    Condition, QueryResult,
    sea_query::{
        Alias, Expr, ExprTrait as _, Func, JoinType, NullOrdering, Order, Query,
        QueryStatementBuilder as _, SelectStatement,
    },
};
use uuid::Uuid;

use super::{
    ast::{Attribute, DatasetPart, Field, OrderBy, Stat},
    sql::{attribute_column, dataset_column, stat_column},
};
use crate::{
    error::Result,
    tracking::entity::{run, run_input},
};

/// Params, tags and notes are ordered by so many of their characters; the rest would blow up page tokens.
const SORTED_CHARACTERS: &str = "250";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Number,
    Text,
    Integer,
    Id,
}

/// One value that runs are ordered by.
#[derive(Debug)]
pub(super) struct SortKey {
    expr: Expr,
    value_type: Type,
    descending: bool,
    nullable: bool,
}

/// The value of a run for a [`SortKey`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SortValue {
    Number(f64),
    Text(String),
    Integer(i64),
    Id(Uuid),
}

/// Alias of the series that a search goes along.
pub(super) const FIRST: &str = "order_0";

/// What runs are ordered by: what was asked for, else newest first; then by id, newest first. `ranked`: only runs that have
/// a value for the first order, which is a metric, so that its index gives the order.
pub(super) fn sort_keys(
    select: &mut SelectStatement,
    order: &[OrderBy],
    ranked: bool,
) -> Vec<SortKey> {
    let mut keys = Vec::new();
    for (index, order) in order.iter().enumerate() {
        keys.extend(keys_of(select, index, order, ranked && index == 0));
    }
    if order.is_empty() {
        keys.push(attribute_key(Attribute::StartedAt, true));
    }
    keys.push(attribute_key(Attribute::RunId, true));
    keys
}

fn keys_of(
    select: &mut SelectStatement,
    index: usize,
    order: &OrderBy,
    ranked: bool,
) -> Vec<SortKey> {
    let alias = format!("order_{index}");
    let descending = order.descending;
    let key = |expr: Expr, value_type| SortKey {
        expr,
        value_type,
        descending,
        nullable: !ranked,
    };
    let mut joined = |table: &'static str, of: &str| {
        let join = if ranked {
            JoinType::InnerJoin
        } else {
            JoinType::LeftJoin
        };
        let column = |name: &'static str| Expr::col((Alias::new(&alias), Alias::new(name)));
        let of_run = Condition::all()
            .add(column("run_id").equals((run::Entity, run::Column::Id)))
            .add(column("key").eq(of));
        select.join_as(join, Alias::new(table), Alias::new(&alias), of_run);
        column
    };
    // Numbers among texts come first and as numbers.
    let texts = |number: Expr, value: Expr| {
        vec![key(number, Type::Number), key(beginning(value), Type::Text)]
    };
    match &order.field {
        Field::Attribute(attribute) => vec![attribute_key(*attribute, descending)],
        Field::Dataset(part) => vec![key(least_of_inputs(*part), Type::Text)],
        Field::Metric(stat, of) => {
            let mut value = joined("metric_series", of)(stat_column(*stat));
            if *stat == Stat::Count {
                // A series of an older branch of the run: there is nothing of it in this one.
                value = Func::cust("nullif").args([value, Expr::cust("0")]).into();
            }
            let value_type = match stat {
                Stat::Count => Type::Integer,
                Stat::Last | Stat::Min | Stat::Max => Type::Number,
            };
            if ranked {
                select.and_where(value.clone().is_not_null());
            }
            vec![key(value, value_type)]
        }
        Field::Param(of) => {
            let column = joined("run_params", of);
            texts(column("number"), column("value"))
        }
        Field::Tag(of) => {
            let column = joined("run_tags", of);
            texts(column("number"), column("value"))
        }
    }
}

fn beginning(text: Expr) -> Expr {
    let arguments = [text, Expr::cust("1"), Expr::cust(SORTED_CHARACTERS)];
    Func::cust("substr").args(arguments).into()
}

/// A run may have read several data sets; the least decides.
fn least_of_inputs(part: DatasetPart) -> Expr {
    let column = |name: &'static str| Expr::col((run_input::Entity, Alias::new(name)));
    let mut least = Query::select();
    least
        .expr(Func::min(column(dataset_column(part))))
        .from(run_input::Entity)
        .and_where(column("run_id").equals((run::Entity, run::Column::Id)));
    beginning(Expr::SubQuery(
        None,
        Box::new(least.into_sub_query_statement()),
    ))
}

fn attribute_key(attribute: Attribute, descending: bool) -> SortKey {
    use Attribute::{CreatedAt, Description, EndedAt, StartedAt, StatusMessage, UpdatedAt};
    let value_type = match attribute {
        id if id.is_id() => Type::Id,
        StartedAt | EndedAt | CreatedAt | UpdatedAt => Type::Integer,
        _ => Type::Text,
    };
    SortKey {
        expr: match attribute {
            StatusMessage | Description => beginning(attribute_column(attribute)),
            _ => attribute_column(attribute),
        },
        value_type,
        descending,
        nullable: attribute.is_nullable(),
    }
}

/// Orders the query, lets it give the sort values, and begins behind `after`.
pub(super) fn apply(
    select: &mut SelectStatement,
    keys: &[SortKey],
    after: Option<&[Option<SortValue>]>,
) {
    for key in keys {
        let order = if key.descending {
            Order::Desc
        } else {
            Order::Asc
        };
        select.expr(key.expr.clone());
        // Where there are no nulls nothing is said of them: PostgreSQL would not use an index otherwise.
        if key.nullable {
            select.order_by_expr_with_nulls(key.expr.clone(), order, NullOrdering::Last);
        } else {
            select.order_by_expr(key.expr.clone(), order);
        }
    }
    if let Some(after) = after {
        select.cond_where(behind(keys, after));
        if let (Some(key), Some(Some(value))) = (keys.first(), after.first())
            && !key.nullable
        {
            // Follows from the rest, but only this is a range of an index.
            let value: Expr = value.clone().into();
            select.and_where(if key.descending {
                key.expr.clone().lte(value)
            } else {
                key.expr.clone().gte(value)
            });
        }
    }
}

/// Greater in the first key, or equal there and greater in the second, and so on.
fn behind(keys: &[SortKey], after: &[Option<SortValue>]) -> Condition {
    let mut behind = Condition::any();
    let mut equal_before = Condition::all();
    for (key, value) in keys.iter().zip(after) {
        let Some(value) = value else {
            // Nothing comes behind what is not there.
            equal_before = equal_before.add(key.expr.clone().is_null());
            continue;
        };
        let value: Expr = value.clone().into();
        let mut greater = Condition::any().add(if key.descending {
            key.expr.clone().lt(value.clone())
        } else {
            key.expr.clone().gt(value.clone())
        });
        if key.nullable {
            greater = greater.add(key.expr.clone().is_null());
        }
        behind = behind.add(equal_before.clone().add(greater));
        equal_before = equal_before.add(key.expr.clone().eq(value));
    }
    behind
}

/// The sort values of a found row.
pub(super) fn read(row: &QueryResult, keys: &[SortKey]) -> Result<Vec<Option<SortValue>>> {
    let mut values = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        values.push(match key.value_type {
            Type::Number => row
                .try_get_by_index::<Option<f64>>(index)?
                .map(SortValue::Number),
            Type::Text => row
                .try_get_by_index::<Option<String>>(index)?
                .map(SortValue::Text),
            Type::Integer => row
                .try_get_by_index::<Option<i64>>(index)?
                .map(SortValue::Integer),
            Type::Id => row
                .try_get_by_index::<Option<Uuid>>(index)?
                .map(SortValue::Id),
        });
    }
    Ok(values)
}

/// The run that has these sort values: its id comes last.
pub(super) fn run_id(sort_values: &[Option<SortValue>]) -> Uuid {
    match sort_values.last() {
        Some(Some(SortValue::Id(id))) => *id,
        _ => Uuid::nil(),
    }
}

/// For a page token.
pub(super) fn encode(value: &Option<SortValue>) -> String {
    match value {
        None => String::new(),
        Some(SortValue::Number(number)) => format!("={:x}", number.to_bits()),
        Some(SortValue::Text(text)) => format!("={text}"),
        Some(SortValue::Integer(integer)) => format!("={integer}"),
        Some(SortValue::Id(id)) => format!("={id}"),
    }
}

/// From a page token; `None` when it does not fit the order.
pub(super) fn decode(keys: &[SortKey], token: &[String]) -> Option<Vec<Option<SortValue>>> {
    if token.len() != keys.len() {
        return None;
    }
    keys.iter()
        .zip(token)
        .map(|(key, text)| decode_one(key.value_type, text))
        .collect()
}

/// Outside: whether the text fits; inside: whether there is a value.
fn decode_one(value_type: Type, text: &str) -> Option<Option<SortValue>> {
    let Some(text) = text.strip_prefix('=') else {
        return text.is_empty().then_some(None);
    };
    let value = match value_type {
        Type::Number => SortValue::Number(f64::from_bits(u64::from_str_radix(text, 16).ok()?)),
        Type::Text => SortValue::Text(text.to_owned()),
        Type::Integer => SortValue::Integer(text.parse().ok()?),
        Type::Id => SortValue::Id(Uuid::try_parse(text).ok()?),
    };
    Some(Some(value))
}

impl From<SortValue> for Expr {
    fn from(value: SortValue) -> Self {
        match value {
            SortValue::Number(number) => number.into(),
            SortValue::Text(text) => text.into(),
            SortValue::Integer(integer) => integer.into(),
            SortValue::Id(id) => id.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::SqliteQueryBuilder;

    use super::*;

    fn keys(order: &[OrderBy]) -> (SelectStatement, Vec<SortKey>) {
        let mut select = Query::select();
        select.from(run::Entity);
        let keys = sort_keys(&mut select, order, false);
        (select, keys)
    }

    #[test]
    fn tokens_lead_back() {
        let order = [
            OrderBy {
                field: Field::Metric(Stat::Last, "m".to_owned()),
                descending: true,
            },
            OrderBy {
                field: Field::Param("p".to_owned()),
                descending: false,
            },
            OrderBy {
                field: Field::Attribute(Attribute::EndedAt),
                descending: false,
            },
        ];
        let (_, keys) = keys(&order);
        let values = vec![
            Some(SortValue::Number(-0.1)),
            None,
            Some(SortValue::Text("=a".to_owned())),
            Some(SortValue::Integer(-5)),
            Some(SortValue::Id(Uuid::max())),
        ];
        let token: Vec<String> = values.iter().map(encode).collect();
        assert_eq!(decode(&keys, &token), Some(values));
        assert_eq!(decode(&keys, &token[1..]), None);
        assert_eq!(
            decode(&keys, &["x", "", "", "", ""].map(str::to_owned)),
            None
        );
    }

    #[test]
    fn a_page_begins_behind_the_last_run() {
        let (mut select, keys) = keys(&[OrderBy {
            field: Field::Attribute(Attribute::EndedAt),
            descending: false,
        }]);
        let id = Uuid::nil();
        apply(
            &mut select,
            &keys,
            Some(&[Some(SortValue::Integer(7)), Some(SortValue::Id(id))]),
        );
        let sql = select.to_string(SqliteQueryBuilder);
        assert!(
            sql.contains(r#""runs"."ended_at" > 7 OR "runs"."ended_at" IS NULL"#),
            "{sql}"
        );
        assert!(
            sql.contains(r#""runs"."ended_at" = 7 AND "runs"."id" < "#),
            "{sql}"
        );
        assert!(
            sql.contains(r#"ORDER BY "runs"."ended_at" ASC NULLS LAST, "runs"."id" DESC"#),
            "{sql}"
        );
    }

    #[test]
    fn behind_a_missing_value_only_the_rest_decides() {
        let (mut select, keys) = keys(&[OrderBy {
            field: Field::Attribute(Attribute::EndedAt),
            descending: true,
        }]);
        apply(
            &mut select,
            &keys,
            Some(&[None, Some(SortValue::Id(Uuid::nil()))]),
        );
        let sql = select.to_string(SqliteQueryBuilder);
        assert!(
            sql.contains(r#""runs"."ended_at" IS NULL AND "runs"."id" < "#),
            "{sql}"
        );
    }
}
