//! Applying definitions, and the difference that this made.

use mlplat::features::{self as sdk, ApplyOptions, ChangeAction, Definitions};
use pyo3::prelude::*;

use super::definitions::{Entity, FeatureService, FeatureView, OnDemandFeatureView, Source};
use crate::{call::Call, client::Client, html};

/// One field that differs.
#[pyclass(frozen, get_all, eq, module = "mlplat")]
#[derive(Clone, PartialEq)]
pub(super) struct FieldChange {
    /// Path of the field, e.g. `ttl`, `features.temp`.
    field: String,
    /// Value before as text; empty where it was not set.
    before: String,
    /// Value after as text; empty where it is not set.
    after: String,
}

#[pymethods]
impl FieldChange {
    fn __repr__(&self) -> String {
        format!(
            "FieldChange({}: {:?} -> {:?})",
            self.field, self.before, self.after
        )
    }
}

/// What happens to one definition.
#[pyclass(frozen, get_all, eq, module = "mlplat")]
#[derive(Clone, PartialEq)]
pub(super) struct Change {
    /// Sort of the definition: `entity`, `source`, `feature view`, …
    kind: &'static str,
    /// Its name.
    name: String,
    /// CREATE, UPDATE, DELETE or UNCHANGED.
    action: &'static str,
    /// What differs, for updates.
    fields: Vec<FieldChange>,
}

#[pymethods]
impl Change {
    fn __repr__(&self) -> String {
        format!("Change({} {} {:?})", self.action, self.kind, self.name)
    }
}

/// The difference that an apply made, or on a dry run would make.
#[pyclass(frozen, module = "mlplat")]
pub(super) struct Diff(sdk::Applied);

#[pymethods]
impl Diff {
    /// The changes in the order in which they were made, unchanged definitions included.
    #[getter]
    fn changes(&self) -> Vec<Change> {
        let field = |f: &sdk::FieldChange| FieldChange {
            field: f.field.clone(),
            before: f.before.clone(),
            after: f.after.clone(),
        };
        let change = |c: &sdk::Change| Change {
            kind: c.kind.as_str(),
            name: c.name.clone(),
            action: c.action.as_str(),
            fields: c.fields.iter().map(field).collect(),
        };
        self.0.changes.iter().map(change).collect()
    }

    /// True when nothing was stored.
    #[getter]
    fn dry_run(&self) -> bool {
        self.0.dry_run
    }

    /// True when something changed.
    fn __bool__(&self) -> bool {
        !self.0.is_unchanged()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        self.0.to_string()
    }

    fn _repr_html_(&self) -> String {
        let changed = self
            .0
            .changes
            .iter()
            .filter(|c| c.action != ChangeAction::Unchanged);
        let rows: Vec<Vec<String>> = changed
            .map(|change| {
                let field =
                    |f: &sdk::FieldChange| format!("{}: {} → {}", f.field, f.before, f.after);
                vec![
                    change.action.as_str().to_lowercase(),
                    change.kind.as_str().to_owned(),
                    change.name.clone(),
                    change
                        .fields
                        .iter()
                        .map(field)
                        .collect::<Vec<_>>()
                        .join("; "),
                ]
            })
            .collect();
        let text = self.0.to_string();
        let summary = text.lines().last().unwrap_or_default();
        if rows.is_empty() {
            return format!("<p>{}</p>", html::escaped(summary));
        }
        html::table(
            &["action", "kind", "name", "fields"].map(str::to_owned),
            &rows,
            summary,
        )
    }
}

/// Brings the definitions of the project to what is given.
#[pyfunction]
#[expect(
    clippy::too_many_arguments,
    reason = "one list for each sort of definition"
)]
pub(super) fn apply(
    py: Python<'_>,
    client: &Client,
    entities: Vec<Entity>,
    sources: Vec<Source>,
    feature_views: Vec<FeatureView>,
    on_demand_feature_views: Vec<OnDemandFeatureView>,
    feature_services: Vec<FeatureService>,
    prune: bool,
    dry_run: bool,
    force: bool,
) -> PyResult<Call> {
    let features = client.get(py)?.features();
    let mut definitions = Definitions::new();
    definitions.entities = entities.into_iter().map(Into::into).collect();
    definitions.sources = sources.into_iter().map(Into::into).collect();
    definitions.feature_views = feature_views.into_iter().map(Into::into).collect();
    definitions.on_demand_feature_views = on_demand_feature_views
        .into_iter()
        .map(Into::into)
        .collect();
    definitions.feature_services = feature_services.into_iter().map(Into::into).collect();
    let options = ApplyOptions::default()
        .prune(prune)
        .dry_run(dry_run)
        .force(force);
    Ok(Call::new(async move {
        Ok(Diff(features.apply(definitions, options).await?))
    }))
}
