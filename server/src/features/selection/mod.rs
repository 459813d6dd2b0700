//! What a request asks for: which views are joined under which keys, what is computed from them, and what result columns are
//! called. Historical and online retrieval read the same request the same way.
//!
//! Invariant: result columns have distinct names; every input of an on-demand feature is joined, whether it was asked for or
//! not. This module must not know where values come from.

use std::{collections::BTreeMap, sync::Arc};

use mlplat_proto::features::v1 as pb;

use super::{
    definitions::{
        Catalog, View,
        names::{listed, split},
    },
    on_demand::OnDemand,
};
use crate::{
    error::{Error, Result},
    request::Violations,
};

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Selection {
    /// The views that are joined.
    pub(super) joins: Vec<Join>,
    /// The on-demand views that are computed.
    pub(super) computed: Vec<Computation>,
    /// The result columns.
    pub(super) columns: Vec<ResultColumn>,
}

/// A view joined under some keys.
#[derive(Debug)]
pub(super) struct Join {
    /// Name in `name:feature`: the view's, or that of an alias.
    pub(super) name: String,
    /// The view.
    pub(super) view: Arc<View>,
    /// The columns of the request that stand for the view's keys, in their order.
    pub(super) keys: Vec<String>,
    /// The features that are read, each once.
    pub(super) features: Vec<String>,
}

/// An on-demand view.
#[derive(Debug)]
pub(super) struct Computation {
    /// Its name.
    pub(super) name: String,
    /// Its version.
    pub(super) version: u32,
    /// The expressions.
    pub(super) on_demand: OnDemand,
    /// For each input, where it is: join and feature.
    pub(super) inputs: Vec<(usize, usize)>,
    /// The features that were asked for.
    pub(super) features: Vec<String>,
}

/// A column of the result.
#[derive(Debug)]
pub(super) struct ResultColumn {
    /// Its name.
    pub(super) name: String,
    /// Arrow type as text.
    pub(super) data_type: String,
    /// Where its values come from.
    pub(super) value: Value,
}

/// Where the values of a result column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// A feature of a join.
    Joined {
        /// Which join.
        join: usize,
        /// Which of its features.
        feature: usize,
    },
    /// A feature of a computation.
    Computed {
        /// Which computation.
        computation: usize,
        /// Which of its features.
        feature: usize,
    },
}

impl Selection {
    /// Looks up what is asked for.
    ///
    /// # Errors
    /// NOT_FOUND for views, features and services that are not there; INVALID_ARGUMENT for what does not fit together.
    pub(super) fn of(
        catalog: &Catalog,
        features: &[String],
        aliases: &[pb::ViewAlias],
        full_names: bool,
    ) -> Result<Self> {
        let aliases = checked_aliases(catalog, aliases)?;
        let mut selection = Self {
            joins: Vec::new(),
            computed: Vec::new(),
            columns: Vec::new(),
        };
        let mut seen: Vec<(String, String)> = Vec::new();
        for (view, feature) in expand(catalog, features)? {
            if seen.contains(&(view.clone(), feature.clone())) {
                continue; // named by a service and by itself
            }
            selection.add(catalog, &aliases, &view, &feature, full_names)?;
            seen.push((view, feature));
        }
        Ok(selection)
    }

    fn add(
        &mut self,
        catalog: &Catalog,
        aliases: &BTreeMap<&str, &pb::ViewAlias>,
        view: &str,
        feature: &str,
        full_names: bool,
    ) -> Result<()> {
        let (value, data_type) = match catalog.on_demand_views.get(view) {
            Some(definition) if !aliases.contains_key(view) => {
                let computation = self.computation(catalog, aliases, definition)?;
                let computed = &mut self.computed[computation];
                let Some((at, data_type)) = computed.on_demand.feature(feature) else {
                    let known = listed(definition.features.iter().map(|f| f.name.as_str()));
                    return Err(no_feature(view, feature, &known));
                };
                let data_type = data_type.to_string();
                computed.features.push(feature.to_owned());
                let value = Value::Computed {
                    computation,
                    feature: at,
                };
                (value, data_type)
            }
            _ => {
                let (join, at) = self.joined(catalog, aliases, view, feature)?;
                let data_type = self.joins[join].view.feature(feature);
                let data_type = data_type.map(|f| f.data_type.clone()).unwrap_or_default();
                (Value::Joined { join, feature: at }, data_type)
            }
        };
        let name = if full_names {
            format!("{view}__{feature}")
        } else {
            feature.to_owned()
        };
        if let Some(other) = self.columns.iter().find(|column| column.name == name) {
            let text = format!(
                "`{}` and `{view}` both have a feature that the result would call `{name}`; ask for full names{}",
                self.view_of(other.value),
                if full_names { ", or use an alias" } else { "" }
            );
            return Err(Error::invalid("features", text));
        }
        self.columns.push(ResultColumn {
            name,
            data_type,
            value,
        });
        Ok(())
    }

    /// The name of the view that a value comes from.
    pub(super) fn view_of(&self, value: Value) -> &str {
        match value {
            Value::Joined { join, .. } => &self.joins[join].name,
            Value::Computed { computation, .. } => &self.computed[computation].name,
        }
    }

    /// Where a feature of a view is joined, which it is from now on.
    fn joined(
        &mut self,
        catalog: &Catalog,
        aliases: &BTreeMap<&str, &pb::ViewAlias>,
        name: &str,
        feature: &str,
    ) -> Result<(usize, usize)> {
        let join = match self.joins.iter().position(|join| join.name == name) {
            Some(join) => join,
            None => {
                self.joins.push(new_join(catalog, aliases, name)?);
                self.joins.len() - 1
            }
        };
        let found = &mut self.joins[join];
        if found.view.feature(feature).is_none() {
            let known = found
                .view
                .definition
                .features
                .iter()
                .map(|f| f.name.as_str());
            return Err(no_feature(name, feature, &listed(known)));
        }
        let at = found.features.iter().position(|known| known == feature);
        let at = at.unwrap_or_else(|| {
            found.features.push(feature.to_owned());
            found.features.len() - 1
        });
        Ok((join, at))
    }

    /// Where an on-demand view is computed.
    fn computation(
        &mut self,
        catalog: &Catalog,
        aliases: &BTreeMap<&str, &pb::ViewAlias>,
        view: &pb::OnDemandFeatureView,
    ) -> Result<usize> {
        if let Some(at) = self.computed.iter().position(|c| c.name == view.name) {
            return Ok(at);
        }
        let on_demand = OnDemand::compile(view, catalog).map_err(|complaints| {
            let text = complaints
                .iter()
                .map(|(field, text)| format!("{field}: {text}"));
            let text = text.collect::<Vec<_>>().join("; ");
            let name = &view.name;
            Error::precondition(
                "DEFINITION_BROKEN",
                format!("on-demand feature view `{name}` no longer fits its inputs: {text}"),
            )
        })?;
        let mut inputs = Vec::new();
        for (input_view, feature) in on_demand.inputs().to_vec() {
            inputs.push(self.joined(catalog, aliases, &input_view, &feature)?);
        }
        self.computed.push(Computation {
            name: view.name.clone(),
            version: view.info.as_ref().map_or(0, |info| info.version),
            on_demand,
            inputs,
            features: Vec::new(),
        });
        Ok(self.computed.len() - 1)
    }
}

fn no_feature(view: &str, feature: &str, known: &str) -> Error {
    Error::not_found(
        "feature",
        format!("{view}:{feature} (the view has {known})"),
    )
}

fn new_join(
    catalog: &Catalog,
    aliases: &BTreeMap<&str, &pb::ViewAlias>,
    name: &str,
) -> Result<Join> {
    let alias = aliases.get(name);
    let view_name = alias.map_or(name, |alias| &alias.feature_view);
    let view = catalog
        .views
        .get(view_name)
        .ok_or_else(|| Error::not_found("feature view", view_name))?;
    let keys = view.definition.join_keys.iter().map(|key| {
        let renamed = alias.and_then(|alias| alias.join_keys.get(key));
        renamed.unwrap_or(key).clone()
    });
    Ok(Join {
        name: name.to_owned(),
        keys: keys.collect(),
        view: Arc::new(view.clone()),
        features: Vec::new(),
    })
}

/// The features one by one, with those of services.
fn expand(catalog: &Catalog, features: &[String]) -> Result<Vec<(String, String)>> {
    if features.is_empty() {
        let text = "must name features as `view:feature`, or a feature service";
        return Err(Error::invalid("features", text));
    }
    let mut expanded = Vec::new();
    for (at, reference) in features.iter().enumerate() {
        if let Some((view, feature)) = split(reference) {
            expanded.push((view.to_owned(), feature.to_owned()));
        } else if let Some(service) = catalog.services.get(reference) {
            let parts = service.features.iter().filter_map(|feature| split(feature));
            expanded.extend(parts.map(|(view, feature)| (view.to_owned(), feature.to_owned())));
        } else if reference.is_empty() || reference.contains(':') {
            let text = format!("`{reference}` is not of the form `view:feature`");
            return Err(Error::invalid(format!("features[{at}]"), text));
        } else {
            return Err(Error::not_found("feature service", reference));
        }
    }
    Ok(expanded)
}

fn checked_aliases<'a>(
    catalog: &Catalog,
    aliases: &'a [pb::ViewAlias],
) -> Result<BTreeMap<&'a str, &'a pb::ViewAlias>> {
    let mut violations = Violations::new();
    let mut known = BTreeMap::new();
    for (at, alias) in aliases.iter().enumerate() {
        let path = format!("aliases[{at}]");
        let name = alias.name.as_str();
        if name.is_empty() || name.contains(':') {
            violations.add(format!("{path}.name"), "must be a name without a colon");
        }
        let taken = name != alias.feature_view
            && (catalog.views.contains_key(name) || catalog.on_demand_views.contains_key(name));
        if taken {
            let text = format!("`{name}` is the name of another view; choose a name of its own");
            violations.add(format!("{path}.name"), text);
        }
        if known.insert(name, alias).is_some() {
            violations.add(format!("{path}.name"), format!("`{name}` is there twice"));
        }
        let Some(view) = catalog.views.get(&alias.feature_view) else {
            violations.finish()?;
            return Err(Error::not_found("feature view", &alias.feature_view));
        };
        for key in alias.join_keys.keys() {
            if !view.definition.join_keys.contains(key) {
                let keys = listed(view.definition.join_keys.iter().map(String::as_str));
                let text = format!(
                    "`{key}` is no key of `{}`; its keys are {keys}",
                    alias.feature_view
                );
                violations.add(format!("{path}.join_keys"), text);
            }
        }
    }
    violations.finish()?;
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let feature = |name: &str, data_type: &str| pb::Feature {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            description: String::new(),
        };
        let mut catalog = Catalog::default();
        for name in ["weather", "planes"] {
            let view = View {
                definition: pb::FeatureView {
                    name: name.to_owned(),
                    join_keys: vec!["airport".to_owned()],
                    features: vec![feature("temp", "Float64"), feature(name, "Int64")],
                    ..Default::default()
                },
                key_types: vec!["Utf8".to_owned()],
                origin: "o".to_owned(),
            };
            catalog.views.insert(name.to_owned(), view);
        }
        let derived = pb::OnDemandFeatureView {
            name: "derived".to_owned(),
            inputs: vec!["weather:temp".to_owned()],
            features: vec![pb::OnDemandFeature {
                name: "double".to_owned(),
                expression: "temp * 2".to_owned(),
                data_type: String::new(),
            }],
            ..Default::default()
        };
        catalog
            .on_demand_views
            .insert("derived".to_owned(), derived);
        let service = pb::FeatureService {
            name: "model".to_owned(),
            features: vec!["weather:temp".to_owned(), "derived:double".to_owned()],
            info: None,
        };
        catalog.services.insert("model".to_owned(), service);
        catalog
    }

    fn select(features: &[&str], aliases: &[pb::ViewAlias], full: bool) -> Result<Selection> {
        let features: Vec<String> = features.iter().map(|f| (*f).to_owned()).collect();
        Selection::of(&catalog(), &features, aliases, full)
    }

    #[test]
    fn services_and_inputs_are_expanded() {
        let selection = select(&["model"], &[], false).unwrap();
        let names: Vec<_> = selection.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["temp", "double"]);
        assert_eq!(selection.joins.len(), 1);
        let alone = select(&["derived:double"], &[], false).unwrap();
        assert_eq!(
            alone.joins[0].features,
            ["temp"],
            "inputs are joined, though not asked for"
        );
        assert_eq!(alone.columns.len(), 1);
    }

    #[test]
    fn a_collision_names_both_views() {
        let error = select(&["weather:temp", "planes:temp"], &[], false).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`weather`") && text.contains("`planes`"),
            "{text}"
        );
        let full = select(&["weather:temp", "planes:temp"], &[], true).unwrap();
        assert_eq!(full.columns[1].name, "planes__temp");
    }

    #[test]
    fn a_view_joins_twice_under_aliases() {
        let alias = |name: &str, column: &str| pb::ViewAlias {
            name: name.to_owned(),
            feature_view: "weather".to_owned(),
            join_keys: [("airport".to_owned(), column.to_owned())].into(),
        };
        let aliases = [alias("origin", "from"), alias("dest", "to")];
        let selection = select(&["origin:temp", "dest:temp"], &aliases, true).unwrap();
        assert_eq!(selection.joins[0].keys, ["from"]);
        assert_eq!(selection.joins[1].keys, ["to"]);
        assert!(select(&["x:temp"], &[alias("planes", "x")], true).is_err());
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (reference, resource) in [
            ("nothing:temp", "feature view"),
            ("weather:nothing", "feature"),
            ("nothing", "feature service"),
        ] {
            match select(&[reference], &[], false) {
                Err(Error::NotFound {
                    resource: found, ..
                }) => assert_eq!(found, resource),
                other => panic!("{other:?}"),
            }
        }
    }
}
