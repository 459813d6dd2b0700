//! Finding runs: as a table, page by page, and as records.

use mlplat::tracking::{RunQuery, View};
use pyo3::{prelude::*, types::PyModule};

use super::RunRecord;
use crate::{call::Call, client::Client, errors::misuse, table::Batches};

/// What is searched.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Search {
    filter: String,
    experiments: Vec<String>,
    order_by: Vec<String>,
    view: String,
    columns: Vec<String>,
}

impl Search {
    fn query(self, py: Python<'_>) -> PyResult<RunQuery> {
        let mut query = RunQuery::new()
            .filter(self.filter)
            .view(view(py, &self.view)?);
        for experiment in self.experiments {
            query = query.experiment(experiment);
        }
        for order in self.order_by {
            query = query.order_by(order);
        }
        for column in self.columns {
            query = query.field(column);
        }
        Ok(query)
    }
}

/// `active`, `deleted` or `all`.
pub(super) fn view(py: Python<'_>, name: &str) -> PyResult<View> {
    match name {
        "active" => Ok(View::Active),
        "deleted" => Ok(View::Deleted),
        "all" => Ok(View::All),
        other => {
            let text = format!("view is {other:?}; give \"active\", \"deleted\" or \"all\"");
            Err(misuse(py, text))
        }
    }
}

fn page_size(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(1000).clamp(1, 1000)
}

/// The runs that fit, as one table.
#[pyfunction]
fn search_runs(
    py: Python<'_>,
    client: &Client,
    search: Search,
    limit: Option<usize>,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let query = search.query(py)?;
    let query = query.page_size(page_size(limit.unwrap_or(1000)));
    Ok(Call::new(async move {
        let table = client.tracking().search_table(query, limit).await?;
        Ok(Batches::from(table))
    }))
}

/// One page of the runs that fit, as a table, and the token of the next one.
#[pyfunction]
fn search_page(
    py: Python<'_>,
    client: &Client,
    search: Search,
    size: usize,
    token: String,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let query = search.query(py)?;
    let query = query.page_size(page_size(size));
    Ok(Call::new(async move {
        let (table, next) = client.tracking().search_table_page(query, &token).await?;
        Ok((Batches::from(table), next))
    }))
}

/// The runs that fit, as records.
#[pyfunction]
fn find_runs(
    py: Python<'_>,
    client: &Client,
    search: Search,
    limit: Option<usize>,
) -> PyResult<Call> {
    let client = client.get(py)?;
    let query = search.query(py)?;
    let query = query.page_size(page_size(limit.unwrap_or(1000)));
    Ok(Call::new(async move {
        let runs = client.tracking().search_runs(query).collect(limit).await?;
        Ok(runs.into_iter().map(RunRecord::from).collect::<Vec<_>>())
    }))
}

/// The runs nested in a run, directly.
#[pyfunction]
fn child_runs(py: Python<'_>, client: &Client, run_id: String) -> PyResult<Call> {
    let client = client.get(py)?;
    Ok(Call::new(async move {
        let runs = client.tracking().child_runs(&run_id).await?;
        Ok(runs.into_iter().map(RunRecord::from).collect::<Vec<_>>())
    }))
}

/// A run and those nested in it, drawn as a tree.
#[pyfunction]
fn run_tree(py: Python<'_>, client: &Client, run_id: String) -> PyResult<Call> {
    let client = client.get(py)?;
    Ok(Call::new(async move {
        let tree = client.tracking().run_tree(&run_id).await?;
        Ok(tree.to_string().trim_end().to_owned())
    }))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(search_runs, module)?)?;
    module.add_function(wrap_pyfunction!(search_page, module)?)?;
    module.add_function(wrap_pyfunction!(find_runs, module)?)?;
    module.add_function(wrap_pyfunction!(child_runs, module)?)?;
    module.add_function(wrap_pyfunction!(run_tree, module)?)
}
