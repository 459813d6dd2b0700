//! [`Pruning`]: what a scan of the feature side may leave out, because no entity row can ask for it.
//!
//! Leaving out less than is allowed changes nothing but the time it takes. This file must not know how a scan filters.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::Result;
use super::columns::FeatureColumns;
use super::keys::plain;
use super::slots::{KeyExtremes, Slots};
use super::time::{self, Literal};

/// The values of one column that matter.
#[derive(Debug, Clone)]
pub struct ColumnRange {
    /// The column of the feature side.
    pub column: String,
    /// Its least value that matters, inclusive, as an array of length 1 in the column's type (for a dictionary the
    /// type of its values); `None` if unbounded.
    pub min: Option<ArrayRef>,
    /// Its greatest value that matters, inclusive, likewise.
    pub max: Option<ArrayRef>,
}

/// What a scan of the feature side may leave out.
#[derive(Debug, Clone, Default)]
pub struct Pruning {
    /// No feature row can match, so that nothing need be scanned.
    pub nothing: bool,
    /// A row in which any of these columns is null or outside its range can be left out.
    pub ranges: Vec<ColumnRange>,
}

/// What the entity rows in `slots` rule out.
pub(super) fn of(
    features: &FeatureColumns,
    slots: &Slots,
    extremes: &KeyExtremes,
    ttl: Option<i128>,
    known_at: bool,
) -> Result<Pruning> {
    let Some((earliest, latest)) = slots.span() else {
        return Ok(Pruning {
            nothing: true,
            ranges: Vec::new(),
        });
    };
    let mut pruning = Pruning::default();
    if let Some(event) = features.event {
        pruning.instants(features, event, ttl.map(|ttl| earliest - ttl), latest);
    }
    if let Some(created) = features.created.filter(|_| known_at) {
        pruning.instants(features, created, None, latest);
    }
    for (&index, (least, greatest)) in features.keys.iter().zip(&extremes.0) {
        let data_type = plain(features.table.data_type(index));
        let min = bound(least, data_type)?;
        let max = bound(greatest, data_type)?;
        if min.is_some() || max.is_some() {
            pruning.ranges.push(ColumnRange {
                column: features.table.schema.field(index).name().clone(),
                min,
                max,
            });
        }
    }
    Ok(pruning)
}

impl Pruning {
    /// Adds the range of an instant column.
    fn instants(&mut self, features: &FeatureColumns, index: usize, from: Option<i128>, to: i128) {
        let field = features.table.schema.field(index);
        let mut range = ColumnRange {
            column: field.name().clone(),
            min: None,
            max: None,
        };
        match from.and_then(|from| time::at_least(field.data_type(), from)) {
            Some(Literal::Value(value)) => range.min = Some(value),
            Some(Literal::AboveAll) => self.nothing = true,
            Some(Literal::BelowAll) | None => {}
        }
        match time::at_most(field.data_type(), to) {
            Some(Literal::Value(value)) => range.max = Some(value),
            Some(Literal::BelowAll) => self.nothing = true,
            Some(Literal::AboveAll) | None => {}
        }
        if range.min.is_some() || range.max.is_some() {
            self.ranges.push(range);
        }
    }
}

/// An extreme of the entity keys in the type of the feature column; `None` where that type orders values otherwise, or
/// cannot hold the value.
fn bound(extreme: &ArrayRef, data_type: &DataType) -> Result<Option<ArrayRef>> {
    use DataType::{Date32, Date64, Decimal128, LargeUtf8, Utf8, Utf8View};
    let ordered_alike = match data_type {
        _ if data_type.is_integer() => extreme.data_type().is_integer(),
        Utf8 | LargeUtf8 | Utf8View => matches!(extreme.data_type(), Utf8 | LargeUtf8 | Utf8View),
        Decimal128(..) | Date32 | Date64 => extreme.data_type() == data_type,
        _ => false,
    };
    if !ordered_alike || extreme.is_empty() {
        return Ok(None);
    }
    let value = cast(extreme, data_type)?;
    Ok((value.null_count() == 0).then_some(value))
}
