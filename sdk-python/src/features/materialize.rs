//! Copying the newest rows per key into the online store.

use mlplat::features::{Materialize, MaterializeProgress};
use pyo3::prelude::*;

use crate::{
    call::Call,
    client::Client,
    progress::Progress,
    time::{Time, from_nanos},
};

/// What was materialized of one view.
#[pyclass(frozen, get_all, module = "mlplat")]
pub(super) struct Materialized {
    /// The view.
    feature_view: String,
    /// Rows read from its source.
    rows_read: u64,
    /// Keys written.
    keys_written: u64,
    /// First event time that is covered; None: the beginning of the data.
    start: Option<Time>,
    /// Last event time that is covered.
    end: Option<Time>,
}

#[pymethods]
impl Materialized {
    fn __repr__(&self) -> String {
        format!(
            "Materialized({:?}, rows_read={}, keys_written={})",
            self.feature_view, self.rows_read, self.keys_written
        )
    }
}

impl From<MaterializeProgress> for Materialized {
    fn from(done: MaterializeProgress) -> Self {
        Self {
            feature_view: done.feature_view,
            rows_read: done.rows_read,
            keys_written: done.keys_written,
            start: done.start.map(Time),
            end: done.end.map(Time),
        }
    }
}

/// Materializes views; none given: all that are online.
#[pyfunction]
pub(super) fn materialize(
    py: Python<'_>,
    client: &Client,
    feature_views: Vec<String>,
    start: Option<i128>,
    end: Option<i128>,
    run_id: String,
) -> PyResult<Call> {
    let features = client.get(py)?.features();
    let mut what = Materialize::new(feature_views).run(run_id);
    if let Some(start) = start {
        what = what.start(from_nanos(start));
    }
    if let Some(end) = end {
        what = what.end(from_nanos(end));
    }
    let progress = Progress::default();
    let report = progress.clone();
    let work = async move {
        let stream = features.materialize(what).await?;
        let told = |p: &MaterializeProgress| {
            let (view, rows, keys) = (&p.feature_view, p.rows_read, p.keys_written);
            report.set(format!(
                "materializing {view}: {rows} rows read, {keys} keys written"
            ));
        };
        let done = stream.finish_with(told).await?;
        Ok(done.into_iter().map(Materialized::from).collect::<Vec<_>>())
    };
    Ok(Call::new(work).showing(progress))
}
