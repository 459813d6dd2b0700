//! The result, piece by piece: slices of the entity rows, with their features beside them.
//!
//! Only the piece that is being made holds repeated values; this file must not know how it is sent.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{Field, Schema, SchemaRef},
};

use super::entities::Entities;
use crate::{
    error::{Error, Result},
    features::{
        asof::Matches,
        coerce::lossless,
        definitions::names::listed,
        selection::{Computation, Selection, Value},
        sources::asof_error,
    },
};

/// Most rows of a piece.
const PIECE_ROWS: usize = 16_384;

/// What the pieces are made from.
pub(super) struct ResultSet {
    entities: Entities,
    selection: Arc<Selection>,
    matches: Vec<Matches>,
    schema: SchemaRef,
}

impl ResultSet {
    /// Puts the columns together.
    pub(super) fn new(
        entities: Entities,
        selection: Arc<Selection>,
        matches: Vec<Matches>,
    ) -> Result<Self> {
        let mut fields: Vec<Arc<Field>> = entities.schema.fields().iter().cloned().collect();
        for column in &selection.columns {
            let field = match column.value {
                Value::Joined { join, feature } => {
                    let field = matches[join].fields()[feature].as_ref().clone();
                    field.with_name(&column.name)
                }
                Value::Computed {
                    computation,
                    feature,
                } => {
                    let types = selection.computed[computation].on_demand.types();
                    let data_type = types.into_iter().nth(feature).cloned();
                    let data_type = data_type.unwrap_or(arrow::datatypes::DataType::Null);
                    Field::new(&column.name, data_type, true)
                }
            };
            fields.push(Arc::new(field));
        }
        let metadata = entities.schema.metadata().clone();
        Ok(Self {
            schema: Arc::new(Schema::new_with_metadata(fields, metadata)),
            entities,
            selection,
            matches,
        })
    }

    /// The columns of the entity rows, then the features.
    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Rows in all.
    pub(super) fn rows(&self) -> usize {
        self.entities.rows()
    }

    /// The rows in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Result<RecordBatch>> + Send + '_ {
        let mut start = 0;
        self.entities
            .batches
            .iter()
            .flat_map(move |batch| {
                let first = start;
                start += batch.num_rows();
                (0..batch.num_rows())
                    .step_by(PIECE_ROWS)
                    .map(move |at| (batch, first, at))
            })
            .map(|(batch, first, at)| {
                let rows = PIECE_ROWS.min(batch.num_rows() - at);
                self.piece(&batch.slice(at, rows), first + at..first + at + rows)
            })
    }

    fn piece(&self, entities: &RecordBatch, rows: Range<usize>) -> Result<RecordBatch> {
        let joined: Vec<Vec<ArrayRef>> = self
            .matches
            .iter()
            .map(|matches| matches.features(rows.clone()).map_err(|e| asof_error(&e)))
            .collect::<Result<_>>()?;
        let computed: Vec<Vec<ArrayRef>> = self
            .selection
            .computed
            .iter()
            .map(|computation| compute(computation, &joined, entities))
            .collect::<Result<_>>()?;
        let mut columns = entities.columns().to_vec();
        for column in &self.selection.columns {
            columns.push(match column.value {
                Value::Joined { join, feature } => joined[join][feature].clone(),
                Value::Computed {
                    computation,
                    feature,
                } => computed[computation][feature].clone(),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(Error::internal)
    }
}

fn compute(
    computation: &Computation,
    joined: &[Vec<ArrayRef>],
    entities: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    let inputs = computation.inputs.iter();
    let inputs: Vec<ArrayRef> = inputs
        .map(|&(join, feature)| joined[join][feature].clone())
        .collect();
    let mut request = Vec::new();
    for (name, data_type) in computation.on_demand.request_columns() {
        let Some(column) = entities.column_by_name(name) else {
            return Err(missing_request_column(
                computation,
                name,
                entities.schema_ref(),
            ));
        };
        let column = lossless(column, data_type).map_err(|text| {
            let text = format!(
                "column `{name}` {text} by on-demand feature view `{}`",
                computation.name
            );
            Error::invalid("entities", text)
        })?;
        request.push(column);
    }
    computation
        .on_demand
        .evaluate(&inputs, &request, entities.num_rows())
}

/// Checks, before anything is read, what the entity rows must have and must not have.
pub(super) fn check_columns(selection: &Selection, schema: &Schema) -> Result<()> {
    for column in &selection.columns {
        if schema.field_with_name(&column.name).is_ok() {
            let view = selection.view_of(column.value);
            let text = format!(
                "the entity table has a column `{0}` already, and feature view `{view}` a feature of that name; rename the \
                 column, or ask for full names",
                column.name
            );
            return Err(Error::invalid("features", text));
        }
    }
    for computation in &selection.computed {
        for (name, _) in computation.on_demand.request_columns() {
            if schema.field_with_name(name).is_err() {
                return Err(missing_request_column(computation, name, schema));
            }
        }
    }
    Ok(())
}

fn missing_request_column(computation: &Computation, name: &str, schema: &Schema) -> Error {
    let columns = listed(schema.fields().iter().map(|field| field.name().as_str()));
    let text = format!(
        "on-demand feature view `{}` needs the request column `{name}`, which the entity table does not have; its columns \
         are {columns}",
        computation.name
    );
    Error::invalid("entities", text)
}
