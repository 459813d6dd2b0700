//! Reading definitions back: as dicts, of which the Python classes are made.

use mlplat::features::{
    DefinitionInfo, Entity, Feature, FeatureService, FeatureView, OnDemandFeatureView, Source,
    SourceLocation,
};
use pyo3::{
    IntoPyObjectExt as _,
    prelude::*,
    types::{PyDict, PyList},
};

use crate::{call::Call, client::Client, time::Time};

/// A definition as a dict of what the constructor of its class takes.
trait AsDict {
    fn fill(&self, dict: &Bound<'_, PyDict>) -> PyResult<()>;
    fn info(&self) -> &DefinitionInfo;

    fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        self.fill(&dict)?;
        let info = self.info();
        dict.set_item("description", &info.description)?;
        dict.set_item("tags", info.tags.clone())?;
        dict.set_item("owner", &info.owner)?;
        dict.set_item("version", info.version)?;
        dict.set_item("applied_at", info.applied_at.map(Time))?;
        dict.set_item("applied_by", &info.applied_by)?;
        Ok(dict)
    }
}

impl AsDict for Entity {
    fn fill(&self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        dict.set_item("name", &self.name)?;
        dict.set_item("join_keys", &self.join_keys)
    }

    fn info(&self) -> &DefinitionInfo {
        &self.info
    }
}

impl AsDict for Source {
    fn fill(&self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        dict.set_item("name", &self.name)?;
        match &self.location {
            SourceLocation::Parquet { uri } => dict.set_item("path", uri)?,
            SourceLocation::Sql { query } => dict.set_item("query", query)?,
            _ => {}
        }
        dict.set_item("timestamp", &self.timestamp_column)?;
        dict.set_item("created", &self.created_column)?;
        dict.set_item("field_mapping", self.field_mapping.clone())
    }

    fn info(&self) -> &DefinitionInfo {
        &self.info
    }
}

/// Features with their types.
fn columns<'a>(features: impl IntoIterator<Item = &'a Feature>) -> Vec<(String, String)> {
    let column = |f: &Feature| (f.name.clone(), f.data_type.clone());
    features.into_iter().map(column).collect()
}

impl AsDict for FeatureView {
    fn fill(&self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        dict.set_item("name", &self.name)?;
        dict.set_item("entities", &self.entities)?;
        dict.set_item("source", &self.source)?;
        dict.set_item("ttl", self.ttl)?;
        dict.set_item("schema", columns(&self.features))?;
        dict.set_item("join_keys", &self.join_keys)?;
        dict.set_item("online", self.online)
    }

    fn info(&self) -> &DefinitionInfo {
        &self.info
    }
}

impl AsDict for OnDemandFeatureView {
    fn fill(&self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        dict.set_item("name", &self.name)?;
        dict.set_item("inputs", &self.inputs)?;
        dict.set_item("request_columns", columns(&self.request_columns))?;
        let features = self.features.iter();
        let features: Vec<_> = features
            .map(|f| (f.name.as_str(), f.expression.as_str()))
            .collect();
        dict.set_item("features", features)
    }

    fn info(&self) -> &DefinitionInfo {
        &self.info
    }
}

impl AsDict for FeatureService {
    fn fill(&self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        dict.set_item("name", &self.name)?;
        dict.set_item("features", &self.features)
    }

    fn info(&self) -> &DefinitionInfo {
        &self.info
    }
}

fn dicts<T: AsDict>(py: Python<'_>, definitions: Vec<T>) -> PyResult<Py<PyAny>> {
    let dicts = definitions.iter().map(|definition| definition.dict(py));
    PyList::new(py, dicts.collect::<PyResult<Vec<_>>>()?)?.into_py_any(py)
}

macro_rules! list {
    ($($name:ident: $what:literal),+ $(,)?) => {
        $(
            #[doc = concat!("The ", $what, " of the project, as dicts.")]
            #[pyfunction]
            pub(super) fn $name(py: Python<'_>, client: &Client) -> PyResult<Call> {
                let features = client.get(py)?.features();
                Ok(Call::with(async move { features.$name().collect(None).await }, dicts))
            }
        )+
    };
}

list! {
    list_entities: "entities",
    list_sources: "sources",
    list_feature_views: "feature views",
    list_on_demand_feature_views: "on-demand feature views",
    list_feature_services: "feature services",
}

/// One feature view as a dict, in its newest or a given version.
#[pyfunction]
pub(super) fn get_feature_view(
    py: Python<'_>,
    client: &Client,
    name: String,
    version: u32,
) -> PyResult<Call> {
    let features = client.get(py)?.features();
    let work = async move { features.get_feature_view_version(&name, version).await };
    Ok(Call::with(work, |py, view| view.dict(py)?.into_py_any(py)))
}
