//! Projects: the tenants of a server.

use std::collections::BTreeMap;

use mlplat::admin;
use pyo3::{prelude::*, types::PyModule};

use crate::{call::Call, client::Client, time::Time};

/// A tenant: experiments, features, models and lineage live in one.
#[pyclass(frozen, get_all, module = "mlplat")]
struct Project {
    /// Unique name.
    name: String,
    /// What it is for.
    description: String,
    /// Free labels.
    tags: BTreeMap<String, String>,
    /// When it was created.
    created_at: Time,
    /// Who created it.
    created_by: String,
}

#[pymethods]
impl Project {
    fn __repr__(&self) -> String {
        format!("Project({:?})", self.name)
    }
}

impl From<admin::Project> for Project {
    fn from(project: admin::Project) -> Self {
        Self {
            name: project.name,
            description: project.description,
            tags: project.tags,
            created_at: project.created_at.into(),
            created_by: project.created_by,
        }
    }
}

/// Creates a project.
#[pyfunction]
fn create_project(
    py: Python<'_>,
    client: &Client,
    name: String,
    description: String,
    tags: BTreeMap<String, String>,
) -> PyResult<Call> {
    let admin = client.get(py)?.admin();
    Ok(Call::new(async move {
        Ok(Project::from(
            admin.create_project(&name, &description, tags).await?,
        ))
    }))
}

/// One project by name.
#[pyfunction]
fn get_project(py: Python<'_>, client: &Client, name: String) -> PyResult<Call> {
    let admin = client.get(py)?.admin();
    Ok(Call::new(async move {
        Ok(Project::from(admin.get_project(&name).await?))
    }))
}

/// The projects that the caller may see.
#[pyfunction]
fn list_projects(py: Python<'_>, client: &Client) -> PyResult<Call> {
    let admin = client.get(py)?.admin();
    Ok(Call::new(async move {
        let list = admin.list_projects().collect(None).await?;
        Ok(list.into_iter().map(Project::from).collect::<Vec<_>>())
    }))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Project>()?;
    module.add_function(wrap_pyfunction!(create_project, module)?)?;
    module.add_function(wrap_pyfunction!(get_project, module)?)?;
    module.add_function(wrap_pyfunction!(list_projects, module)?)
}
