//! The digest of a table that Python holds.

use mlplat::tracking::TableDigest;
use pyo3::prelude::*;
use pyo3_arrow::input::AnyRecordBatch;

use crate::errors;

/// Digest, number of rows, and columns with their types.
type Described = (String, Option<u64>, Vec<(String, String)>);

/// The digest of anything that speaks Arrow; other threads run meanwhile.
#[pyfunction]
pub(super) fn table_digest(py: Python<'_>, table: AnyRecordBatch) -> PyResult<Described> {
    let reader = table.into_reader()?;
    let described = py.detach(|| {
        let mut digest = TableDigest::new(reader.schema().as_ref())?;
        for batch in reader {
            digest.update(&batch?)?;
        }
        let input = digest.finish("");
        Ok((input.digest, input.rows, input.fields))
    });
    described.map_err(|error: arrow::error::ArrowError| errors::raise(py, &error.into()))
}
