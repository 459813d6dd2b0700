//! Arrow tables as Python holds them; the classes around them, with their conversions, are in `_table.py`.
//!
//! Invariant: a table never changes, and is given away without copying through the Arrow PyCapsule interface.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchReader, StructArray},
    datatypes::{DataType, Field, FieldRef, SchemaRef},
    error::ArrowError,
};
use pyo3::{
    prelude::*,
    types::{PyCapsule, PyDict, PyList, PyModule},
};
use pyo3_arrow::{
    ffi::{ArrayIterator, to_schema_pycapsule, to_stream_pycapsule},
    input::AnyRecordBatch,
};

use crate::{
    cells::{cell, text},
    columns, errors,
};

/// Rows in memory.
#[pyclass(frozen, module = "mlplat._native")]
#[derive(Clone)]
pub(crate) struct Batches {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

impl From<RecordBatch> for Batches {
    fn from(batch: RecordBatch) -> Self {
        Self {
            schema: batch.schema(),
            batches: vec![batch],
        }
    }
}

impl Batches {
    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The places of the first `limit` rows: batch and row in it.
    fn places(&self, limit: usize) -> impl Iterator<Item = (&RecordBatch, usize)> {
        let rows = self
            .batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |at| (batch, at)));
        rows.take(limit)
    }
}

#[pymethods]
impl Batches {
    #[getter]
    fn num_rows(&self) -> usize {
        self.rows()
    }

    /// Names of the columns with their Arrow types.
    #[getter]
    fn columns(&self) -> Vec<(String, String)> {
        let fields = self.schema.fields().iter();
        fields
            .map(|field| (field.name().clone(), field.data_type().to_string()))
            .collect()
    }

    /// The rows as dicts, at most `limit` of them.
    #[pyo3(signature = (limit=None))]
    fn to_dicts<'py>(&self, py: Python<'py>, limit: Option<usize>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for (batch, at) in self.places(limit.unwrap_or(usize::MAX)) {
            let row = PyDict::new(py);
            for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
                row.set_item(field.name(), cell(py, column, at)?)?;
            }
            rows.append(row)?;
        }
        Ok(rows)
    }

    /// The first rows as text, for showing.
    fn to_texts(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Vec<String>>> {
        let row = |(batch, at): (&RecordBatch, usize)| {
            batch
                .columns()
                .iter()
                .map(|column| text(py, column, at))
                .collect()
        };
        self.places(limit).map(row).collect()
    }

    /// The schema as an Arrow PyCapsule.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, self.schema.as_ref())?)
    }

    /// The rows as an Arrow PyCapsule.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let field: FieldRef = Arc::new(
            Field::new("", DataType::Struct(self.schema.fields().clone()), false)
                .with_metadata(self.schema.metadata().clone()),
        );
        let arrays = self.batches.clone().into_iter().map(|batch| {
            let array: ArrayRef = Arc::new(StructArray::from(batch));
            Ok::<_, ArrowError>(array)
        });
        Ok(to_stream_pycapsule(
            py,
            Box::new(ArrayIterator::new(arrays, field)),
            requested_schema,
        )?)
    }
}

/// Reads anything that speaks Arrow into memory.
#[pyfunction]
fn from_arrow(py: Python<'_>, table: AnyRecordBatch) -> PyResult<Batches> {
    let reader = table.into_reader()?;
    let schema = reader.schema();
    let batches = py.detach(|| reader.collect::<Result<Vec<_>, _>>());
    let batches = batches.map_err(|e| errors::raise(py, &e.into()))?;
    Ok(Batches { schema, batches })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Batches>()?;
    module.add_function(wrap_pyfunction!(from_arrow, module)?)?;
    module.add_function(wrap_pyfunction!(columns::from_columns, module)?)
}
