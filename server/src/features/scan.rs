//! The rows of a view as the join wants them: its keys, times and features, and nothing else.
//!
//! Invariant: what is read has the types that the view was applied with; data that changed its types since is refused, not
//! converted.

use std::{ops::Bound, sync::Arc};

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::{
    common::ScalarValue,
    dataframe::DataFrame,
    logical_expr::{Expr, lit},
    prelude::ident,
};

use super::{
    asof::{FeatureSide, Pruning},
    definitions::View,
    instant::Window,
    sources::{Rows, Session, rows, run_error},
};
use crate::error::{Error, Result};

/// The rows of a view.
pub(super) struct ViewScan {
    /// Keys, times and the wanted features, each column once.
    pub(super) table: DataFrame,
    /// The same for the join.
    pub(super) side: FeatureSide,
}

/// Opens the source of a view.
pub(super) async fn open(
    session: &mut Session,
    view: &View,
    features: &[String],
) -> Result<ViewScan> {
    let definition = &view.definition;
    let table = session
        .source(&definition.source)
        .await
        .map_err(super::sources::PlanError::into_error)?;
    check_types(view, features, table.schema().as_arrow())?;
    let source = session.catalog().sources.get(&definition.source);
    let time = |column: Option<&String>| column.filter(|name| !name.is_empty()).cloned();
    let event_timestamp = time(source.map(|source| &source.timestamp_column));
    let created_timestamp = time(source.map(|source| &source.created_column));
    let mut columns: Vec<&String> = Vec::new();
    for column in definition
        .join_keys
        .iter()
        .chain(&event_timestamp)
        .chain(&created_timestamp)
        .chain(features)
    {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let table = table
        .select(columns.into_iter().map(ident).collect::<Vec<_>>())
        .map_err(|error| read_error(&definition.name, &error))?;
    let side = FeatureSide {
        view: definition.name.clone(),
        schema: Arc::new(table.schema().as_arrow().clone()),
        keys: definition.join_keys.clone(),
        event_timestamp,
        created_timestamp,
        features: features.to_vec(),
    };
    Ok(ViewScan { table, side })
}

impl ViewScan {
    /// Leaves out what the join says cannot matter.
    pub(super) fn prune(mut self, pruning: &Pruning) -> Result<Self> {
        for range in &pruning.ranges {
            let literal = |array: &arrow::array::ArrayRef| -> Result<Expr> {
                let value = ScalarValue::try_from_array(array, 0);
                Ok(lit(value.map_err(Error::internal)?))
            };
            if let Some(min) = &range.min {
                let predicate = ident(&range.column).gt_eq(literal(min)?);
                self = self.filter(predicate)?;
            }
            if let Some(max) = &range.max {
                let predicate = ident(&range.column).lt_eq(literal(max)?);
                self = self.filter(predicate)?;
            }
        }
        Ok(self)
    }

    /// Leaves out rows whose event time is outside of a window, exactly. Static rows are always inside.
    pub(super) fn within(mut self, window: Window) -> Result<Self> {
        let Some(column) = self.side.event_timestamp.clone() else {
            return Ok(self);
        };
        let data_type = self.side.schema.field_with_name(&column);
        let data_type = data_type.map_err(Error::internal)?.data_type().clone();
        let least = match window.0 {
            Bound::Included(at) => Some(at),
            Bound::Excluded(at) => Some(at + 1),
            Bound::Unbounded => None,
        };
        let greatest = match window.1 {
            Bound::Included(at) => Some(at),
            Bound::Excluded(at) => Some(at - 1),
            Bound::Unbounded => None,
        };
        if let Some(least) = least {
            let bound = match at_least(&data_type, least) {
                Some(value) => ident(&column).gt_eq(lit(value)),
                None => lit(least <= 0),
            };
            self = self.filter(bound)?;
        }
        if let Some(greatest) = greatest {
            let bound = match at_most(&data_type, greatest) {
                Some(value) => ident(&column).lt_eq(lit(value)),
                None => lit(greatest >= 0),
            };
            self = self.filter(bound)?;
        }
        Ok(self)
    }

    /// Begins to read.
    pub(super) async fn rows(self) -> Result<Rows> {
        rows(&format!("feature view `{}`", self.side.view), self.table).await
    }

    fn filter(self, predicate: Expr) -> Result<Self> {
        let view = &self.side.view;
        let table = self.table.filter(predicate);
        let table = table.map_err(|error| read_error(view, &error))?;
        Ok(Self { table, ..self })
    }
}

/// An error of reading a view.
pub(super) fn read_error(view: &str, error: &datafusion::error::DataFusionError) -> Error {
    run_error(&format!("feature view `{view}`"), error)
}

fn check_types(view: &View, features: &[String], schema: &Schema) -> Result<()> {
    let definition = &view.definition;
    let keys = definition.join_keys.iter().zip(&view.key_types);
    let features = features.iter().filter_map(|name| {
        let feature = view.feature(name)?;
        Some((name, &feature.data_type))
    });
    for (column, applied) in keys.chain(features) {
        let text = match schema.field_with_name(column) {
            Err(_) => format!("has no column `{column}` any more"),
            Ok(found) if &found.data_type().to_string() != applied => format!(
                "has `{column}` as {} now; it was {applied} when the view was applied",
                found.data_type()
            ),
            Ok(_) => continue,
        };
        let text = format!(
            "the source `{}` of feature view `{}` {text}; apply the view again",
            definition.source, definition.name
        );
        return Err(Error::precondition("SCHEMA_CHANGED", text));
    }
    Ok(())
}

const DAY: i128 = 86_400_000_000_000;

/// The least value of the type that is not before an instant; `None` when there is no such bound.
fn at_least(data_type: &DataType, instant: i128) -> Option<ScalarValue> {
    let unit = unit(data_type)?;
    scalar(data_type, -(-instant).div_euclid(unit))
}

/// The greatest value of the type that is not after an instant.
fn at_most(data_type: &DataType, instant: i128) -> Option<ScalarValue> {
    let unit = unit(data_type)?;
    scalar(data_type, instant.div_euclid(unit))
}

fn unit(data_type: &DataType) -> Option<i128> {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => Some(1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => Some(1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(1),
        DataType::Date32 => Some(DAY),
        _ => None,
    }
}

fn scalar(data_type: &DataType, value: i128) -> Option<ScalarValue> {
    let wide = i64::try_from(value).ok();
    Some(match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            ScalarValue::TimestampSecond(Some(wide?), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            ScalarValue::TimestampMillisecond(Some(wide?), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(wide?), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            ScalarValue::TimestampNanosecond(Some(wide?), zone.clone())
        }
        DataType::Date64 => ScalarValue::Date64(Some(wide?)),
        DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(value).ok()?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_exact_in_coarser_units() {
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        let second = |value| Some(ScalarValue::TimestampSecond(Some(value), None));
        assert_eq!(at_least(&seconds, 1_000_000_001), second(2));
        assert_eq!(at_least(&seconds, 1_000_000_000), second(1));
        assert_eq!(at_most(&seconds, 1_999_999_999), second(1));
        assert_eq!(at_most(&seconds, -1), second(-1));
        assert_eq!(at_least(&seconds, -1), second(0));
        assert_eq!(
            at_most(&DataType::Date32, DAY - 1),
            Some(ScalarValue::Date32(Some(0)))
        );
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(at_most(&nanos, i128::MAX), None);
    }
}
