//! Online retrieval.

use mlplat::features::{OnlineFeatures, OnlineQuery};
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};

use super::definitions::{Alias, Wanted, spelled_out};
use crate::{
    call::Call, client::Client, columns::value, errors::raise, table::Batches, time::from_nanos,
};

/// The answer; `OnlineFeatures` of the package is made of it.
#[pyclass(frozen, module = "mlplat._native")]
pub(super) struct OnlineAnswer(OnlineFeatures);

#[pymethods]
impl OnlineAnswer {
    #[getter]
    fn table(&self, py: Python<'_>) -> PyResult<Batches> {
        let batch = self.0.to_record_batch().map_err(|e| raise(py, &e))?;
        Ok(Batches::from(batch))
    }

    /// One dict per row: feature -> status.
    #[getter]
    fn statuses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for at in 0..self.0.rows.len() {
            let row = PyDict::new(py);
            for feature in &self.0.features {
                row.set_item(&feature.name, feature.statuses[at].as_str())?;
            }
            rows.append(row)?;
        }
        Ok(rows)
    }
}

/// The features of some keys, now or at a time.
#[pyfunction]
#[expect(
    clippy::too_many_arguments,
    reason = "one for each part of the question"
)]
pub(super) fn online(
    py: Python<'_>,
    client: &Client,
    wanted: Vec<Wanted>,
    aliases: Vec<Alias>,
    columns: Vec<String>,
    rows: Vec<Vec<Bound<'_, PyAny>>>,
    at: Option<i128>,
    full_names: bool,
) -> PyResult<Call> {
    let features = client.get(py)?.features();
    let mut rest = OnlineQuery::new(Vec::<String>::new()).full_names(full_names);
    for row in rows {
        let values = columns
            .iter()
            .zip(&row)
            .map(|(name, cell)| value(name, cell));
        rest = rest.row(values.collect::<PyResult<Vec<_>>>()?);
    }
    rest = rest.columns(columns);
    for alias in aliases {
        rest = rest.alias(alias.into());
    }
    if let Some(at) = at {
        rest = rest.at(from_nanos(at));
    }
    Ok(Call::new(async move {
        let names = spelled_out(&features, wanted).await?;
        Ok(OnlineAnswer(features.online(rest.features(names)).await?))
    }))
}
