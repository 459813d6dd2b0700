//! Registered models and their versions.

use std::{collections::BTreeMap, str::FromStr as _};

use mlplat::catalogue::{self, ModelStage, VersionSelector};
use pyo3::{prelude::*, types::PyModule};

use crate::{call::Call, client::Client, errors::raise, html, time::Time};

/// A model under one name, with its versions.
#[pyclass(frozen, get_all, module = "mlplat")]
struct RegisteredModel {
    /// Name, unique in the project.
    name: String,
    /// Notes.
    description: String,
    /// Free labels.
    tags: BTreeMap<String, String>,
    /// Alias -> version number.
    aliases: BTreeMap<String, u32>,
    /// Number of the newest version; 0 where there is none.
    latest_version: u32,
    /// When it was created.
    created_at: Time,
    /// Who created it.
    created_by: String,
}

#[pymethods]
impl RegisteredModel {
    fn __repr__(&self) -> String {
        format!(
            "RegisteredModel({:?}, latest_version={})",
            self.name, self.latest_version
        )
    }
}

impl From<catalogue::RegisteredModel> for RegisteredModel {
    fn from(model: catalogue::RegisteredModel) -> Self {
        Self {
            name: model.name,
            description: model.description,
            tags: model.tags,
            aliases: model.aliases,
            latest_version: model.latest_version,
            created_at: model.created_at.into(),
            created_by: model.created_by,
        }
    }
}

/// One file of a model version.
#[pyclass(frozen, get_all, module = "mlplat")]
#[derive(Clone)]
struct ModelFile {
    /// Path inside the run.
    path: String,
    /// Size in bytes.
    size_bytes: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    sha256: String,
}

#[pymethods]
impl ModelFile {
    fn __repr__(&self) -> String {
        format!("ModelFile({:?}, {} bytes)", self.path, self.size_bytes)
    }
}

/// A feature view that the run of a model version read.
#[pyclass(frozen, get_all, module = "mlplat")]
#[derive(Clone)]
struct FeatureViewUse {
    /// Name of the feature view.
    feature_view: String,
    /// Its version.
    version: u32,
    /// The features that were read.
    features: Vec<String>,
    /// The training set it was read into.
    training_set: String,
}

#[pymethods]
impl FeatureViewUse {
    fn __repr__(&self) -> String {
        format!(
            "FeatureViewUse({:?}, version={}, features={:?})",
            self.feature_view, self.version, self.features
        )
    }
}

/// One published version of a model; what it captured never changes.
#[pyclass(frozen, get_all, module = "mlplat")]
pub(crate) struct ModelVersion {
    /// Name of the model.
    name: String,
    /// Number, counted from 1.
    version: u32,
    /// Where it is in its life: DEVELOPMENT, STAGING, PRODUCTION or ARCHIVED.
    stage: &'static str,
    /// Run that made it.
    run_id: String,
    /// Path of the file or directory in the run.
    artifact_path: String,
    /// Its files, by path.
    files: Vec<ModelFile>,
    /// Params of the run.
    params: BTreeMap<String, String>,
    /// Last metric values of the run.
    metrics: BTreeMap<String, f64>,
    /// Feature views that the run read.
    feature_views: Vec<FeatureViewUse>,
    /// Notes.
    description: String,
    /// Free labels.
    tags: BTreeMap<String, String>,
    /// Aliases that point at it.
    aliases: Vec<String>,
    /// When it was published.
    created_at: Time,
    /// Who published it.
    created_by: String,
}

#[pymethods]
impl ModelVersion {
    fn __repr__(&self) -> String {
        format!(
            "ModelVersion({:?}, version={}, stage={:?})",
            self.name, self.version, self.stage
        )
    }

    fn _repr_html_(&self) -> String {
        let join = |items: Vec<String>| items.join(", ");
        let pairs = |map: &BTreeMap<String, String>| {
            join(map.iter().map(|(k, v)| format!("{k}={v}")).collect())
        };
        let views = self.feature_views.iter();
        let rows = [
            ("model", format!("{} version {}", self.name, self.version)),
            ("stage", self.stage.to_owned()),
            ("aliases", self.aliases.join(", ")),
            ("run", self.run_id.clone()),
            (
                "files",
                join(self.files.iter().map(|f| f.path.clone()).collect()),
            ),
            (
                "metrics",
                join(
                    self.metrics
                        .iter()
                        .map(|(k, v)| format!("{k}={v}"))
                        .collect(),
                ),
            ),
            ("params", pairs(&self.params)),
            (
                "features",
                join(
                    views
                        .map(|v| format!("{} (v{})", v.feature_view, v.version))
                        .collect(),
                ),
            ),
        ];
        let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
        let rows: Vec<_> = rows
            .map(|(name, value)| vec![name.to_owned(), value])
            .collect();
        html::table(&[String::new(), String::new()], &rows, "")
    }
}

impl From<catalogue::ModelVersion> for ModelVersion {
    fn from(version: catalogue::ModelVersion) -> Self {
        let file = |file: catalogue::ModelFile| ModelFile {
            path: file.path,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
        };
        let view = |view: catalogue::FeatureViewUse| FeatureViewUse {
            feature_view: view.feature_view,
            version: view.version,
            features: view.features,
            training_set: view.training_set,
        };
        Self {
            name: version.model,
            version: version.version,
            stage: version.stage.as_str(),
            run_id: version.run_id,
            artifact_path: version.artifact_path,
            files: version.files.into_iter().map(file).collect(),
            params: version.params,
            metrics: version.metrics,
            feature_views: version.feature_views.into_iter().map(view).collect(),
            description: version.description,
            tags: version.tags,
            aliases: version.aliases,
            created_at: version.created_at.into(),
            created_by: version.created_by,
        }
    }
}

/// One registered model by name.
#[pyfunction]
fn get_model(py: Python<'_>, client: &Client, name: String) -> PyResult<Call> {
    let catalogue = client.get(py)?.catalogue();
    Ok(Call::new(async move {
        Ok(RegisteredModel::from(catalogue.get_model(&name).await?))
    }))
}

/// The registered models of the project.
#[pyfunction]
fn list_models(py: Python<'_>, client: &Client) -> PyResult<Call> {
    let catalogue = client.get(py)?.catalogue();
    Ok(Call::new(async move {
        let list = catalogue.list_models().collect(None).await?;
        Ok(list
            .into_iter()
            .map(RegisteredModel::from)
            .collect::<Vec<_>>())
    }))
}

/// One version: by number, by alias, or (both None) the newest.
#[pyfunction]
fn get_model_version(
    py: Python<'_>,
    client: &Client,
    name: String,
    number: Option<u32>,
    alias: Option<String>,
) -> PyResult<Call> {
    let catalogue = client.get(py)?.catalogue();
    let which = match (number, alias) {
        (Some(number), _) => VersionSelector::Number(number),
        (None, Some(alias)) => VersionSelector::Alias(alias),
        (None, None) => VersionSelector::Latest,
    };
    Ok(Call::new(async move {
        Ok(ModelVersion::from(
            catalogue.get_version(&name, which).await?,
        ))
    }))
}

/// The versions of a model, newest first.
#[pyfunction]
fn list_model_versions(py: Python<'_>, client: &Client, name: String) -> PyResult<Call> {
    let catalogue = client.get(py)?.catalogue();
    Ok(Call::new(async move {
        let list = catalogue.list_versions(&name).collect(None).await?;
        Ok(list.into_iter().map(ModelVersion::from).collect::<Vec<_>>())
    }))
}

/// Moves a version to another stage.
#[pyfunction]
fn transition_model_version(
    py: Python<'_>,
    client: &Client,
    name: String,
    number: u32,
    stage: &str,
    comment: String,
) -> PyResult<Call> {
    let catalogue = client.get(py)?.catalogue();
    let stage = ModelStage::from_str(stage).map_err(|e| raise(py, &e))?;
    Ok(Call::new(async move {
        let moved = catalogue.transition(&name, number, stage, &comment).await?;
        Ok(ModelVersion::from(moved))
    }))
}

/// Points an alias at a version.
#[pyfunction]
fn set_model_alias(
    py: Python<'_>,
    client: &Client,
    name: String,
    alias: String,
    number: u32,
) -> PyResult<Call> {
    let catalogue = client.get(py)?.catalogue();
    Ok(Call::new(async move {
        Ok(RegisteredModel::from(
            catalogue.set_alias(&name, &alias, number).await?,
        ))
    }))
}

/// Removes an alias.
#[pyfunction]
fn delete_model_alias(
    py: Python<'_>,
    client: &Client,
    name: String,
    alias: String,
) -> PyResult<Call> {
    let catalogue = client.get(py)?.catalogue();
    Ok(Call::new(async move {
        Ok(RegisteredModel::from(
            catalogue.delete_alias(&name, &alias).await?,
        ))
    }))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RegisteredModel>()?;
    module.add_class::<ModelFile>()?;
    module.add_class::<FeatureViewUse>()?;
    module.add_class::<ModelVersion>()?;
    module.add_function(wrap_pyfunction!(get_model, module)?)?;
    module.add_function(wrap_pyfunction!(list_models, module)?)?;
    module.add_function(wrap_pyfunction!(get_model_version, module)?)?;
    module.add_function(wrap_pyfunction!(list_model_versions, module)?)?;
    module.add_function(wrap_pyfunction!(transition_model_version, module)?)?;
    module.add_function(wrap_pyfunction!(set_model_alias, module)?)?;
    module.add_function(wrap_pyfunction!(delete_model_alias, module)?)
}
