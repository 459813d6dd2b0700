//! [`Matches`]: the outcome of a join, from which the result is made piece by piece.
//!
//! A winner's values are held once, however many entity rows share them; they are repeated only in the piece that is
//! being made. This file must not know how winners were found.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;

use super::columns::FeatureColumns;
use super::winners::RowRef;
use super::{AsOfError, Result, storage};

/// For every entity row, the feature row that it had, if any.
#[derive(Debug)]
pub struct Matches {
    view: String,
    fields: Vec<FieldRef>,
    /// Per feature, per chunk.
    columns: Vec<Vec<ArrayRef>>,
    rows: Vec<Option<RowRef>>,
}

impl Matches {
    pub(super) fn new(
        features: &FeatureColumns,
        chunks: Vec<Vec<ArrayRef>>,
        rows: Vec<Option<RowRef>>,
    ) -> Self {
        let schema = &features.table.schema;
        let nullable = |&index: &usize| Arc::new(schema.field(index).clone().with_nullable(true));
        let fields: Vec<FieldRef> = features.features.iter().map(nullable).collect();
        let columns = (0..fields.len())
            .map(|column| chunks.iter().map(|chunk| chunk[column].clone()).collect())
            .collect();
        Self {
            view: features.view.clone(),
            fields,
            columns,
            rows,
        }
    }

    /// The number of entity rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no entity rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether an entity row has a feature row, even one of nulls. False for a row that does not exist.
    pub fn is_match(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(Option::is_some)
    }

    /// The features in the order they were asked for, with the types and metadata of the view; all are nullable.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// The features of the entity rows in `rows`, one array per field, null where there is no match. What lies beyond
    /// the last row is left out.
    ///
    /// # Errors
    /// A piece whose values do not fit one array of its type: ask for fewer rows at a time.
    pub fn features(&self, rows: Range<usize>) -> Result<Vec<ArrayRef>> {
        let end = rows.end.min(self.rows.len());
        let rows = &self.rows[rows.start.min(end)..end];
        let each = self
            .columns
            .iter()
            .zip(&self.fields)
            .map(|(chunks, field)| {
                storage::deliver(chunks, rows, field.data_type())
                    .map_err(|error| AsOfError::of_delivery(&self.view, field, error))
            });
        each.collect()
    }
}
