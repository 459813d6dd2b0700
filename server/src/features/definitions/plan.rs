//! From what is and what is asked for to what shall be: the desired catalog, and which of its definitions must be looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mlplat_proto::features::v1 as pb;

use super::{
    Catalog, View,
    check::{ON_DEMAND, Requested, SERVICES, SOURCES, VIEWS, path},
    names::{listed, split},
};
use crate::request::Violations;

/// What shall be, before the data was looked at.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) current: Arc<Catalog>,
    pub(super) desired: Catalog,
    /// Paths in the request, by name.
    pub(super) source_paths: BTreeMap<String, String>,
    pub(super) view_paths: BTreeMap<String, String>,
    pub(super) on_demand_paths: BTreeMap<String, String>,
    /// Everything that the request names, for the diff.
    pub(super) named: BTreeSet<(i32, String)>,
    /// What was found of the data, for the lineage.
    pub(super) found: Found,
}

/// What the sources were when the plan was resolved.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What sources and views rest on.
    pub(super) references: References,
    /// Source -> digest of its files, of those that were looked at.
    pub(super) digests: BTreeMap<String, String>,
}

impl Plan {
    /// Lays the request over what is, and checks that what it refers to is there.
    pub(super) fn make(
        current: Arc<Catalog>,
        requested: &Requested,
        prune: bool,
        violations: &mut Violations,
    ) -> Self {
        let mut desired = if prune {
            Catalog::default()
        } else {
            current.as_ref().clone()
        };
        let mut named = BTreeSet::new();
        let mut name = |kind: pb::DefinitionKind, name: &str| {
            named.insert((i32::from(kind), name.to_owned()));
        };
        for entity in &requested.entities {
            name(pb::DefinitionKind::Entity, &entity.name);
            desired.entities.insert(entity.name.clone(), entity.clone());
        }
        for source in &requested.sources {
            name(pb::DefinitionKind::Source, &source.name);
            desired.sources.insert(source.name.clone(), source.clone());
        }
        for view in &requested.views {
            name(pb::DefinitionKind::FeatureView, &view.name);
            let unresolved = View {
                definition: view.clone(),
                key_types: Vec::new(),
                origin: String::new(),
            };
            desired.views.insert(view.name.clone(), unresolved);
        }
        for view in &requested.on_demand_views {
            name(pb::DefinitionKind::OnDemandFeatureView, &view.name);
            desired
                .on_demand_views
                .insert(view.name.clone(), view.clone());
        }
        for service in &requested.services {
            name(pb::DefinitionKind::FeatureService, &service.name);
            desired
                .services
                .insert(service.name.clone(), service.clone());
        }
        let paths = |list: &str, names: Vec<&String>| -> BTreeMap<String, String> {
            let each = names.into_iter().enumerate();
            each.map(|(at, name)| (name.clone(), path(list, at)))
                .collect()
        };
        let plan = Self {
            source_paths: paths(SOURCES, requested.sources.iter().map(|s| &s.name).collect()),
            view_paths: paths(VIEWS, requested.views.iter().map(|v| &v.name).collect()),
            on_demand_paths: paths(
                ON_DEMAND,
                requested.on_demand_views.iter().map(|v| &v.name).collect(),
            ),
            current,
            desired,
            named,
            found: Found::default(),
        };
        plan.check_references(requested, violations);
        plan
    }

    fn check_references(&self, requested: &Requested, violations: &mut Violations) {
        for (at, view) in requested.views.iter().enumerate() {
            let path = path(VIEWS, at);
            for (entity_at, entity) in view.entities.iter().enumerate() {
                if !self.desired.entities.contains_key(entity) {
                    let text = missing(
                        "entity",
                        entity,
                        &self.current.entities,
                        &self.desired.entities,
                    );
                    violations.add(format!("{path}.entities[{entity_at}]"), text);
                }
            }
            if !view.source.is_empty() && !self.desired.sources.contains_key(&view.source) {
                let text = missing(
                    "source",
                    &view.source,
                    &self.current.sources,
                    &self.desired.sources,
                );
                violations.add(format!("{path}.source"), text);
            }
            if self.desired.on_demand_views.contains_key(&view.name)
                && !requested
                    .on_demand_views
                    .iter()
                    .any(|other| other.name == view.name)
            {
                let text = format!("`{}` is an on-demand feature view already", view.name);
                violations.add(format!("{path}.name"), text);
            }
        }
        for (at, view) in requested.on_demand_views.iter().enumerate() {
            let path = path(ON_DEMAND, at);
            if self.desired.views.contains_key(&view.name)
                && !requested.views.iter().any(|other| other.name == view.name)
            {
                let text = format!("`{}` is a feature view already", view.name);
                violations.add(format!("{path}.name"), text);
            }
            for (input_at, input) in view.inputs.iter().enumerate() {
                if let Some((name, _)) = split(input)
                    && !self.desired.views.contains_key(name)
                {
                    let text = missing(
                        "feature view",
                        name,
                        &self.current.views,
                        &self.desired.views,
                    );
                    violations.add(format!("{path}.inputs[{input_at}]"), text);
                }
            }
        }
    }

    /// Checks the features that services name, once those of the views are known.
    pub(super) fn check_services(&self, requested: &Requested, violations: &mut Violations) {
        for (at, service) in requested.services.iter().enumerate() {
            let path = path(SERVICES, at);
            for (feature_at, reference) in service.features.iter().enumerate() {
                if let Err(text) = find_feature(&self.desired, reference) {
                    violations.add(format!("{path}.features[{feature_at}]"), text);
                }
            }
        }
    }

    /// The views that must be looked at again: those of the request, and those that rest on something in it.
    pub(super) fn affected_views(
        &self,
        requested: &Requested,
        references: &References,
    ) -> BTreeSet<String> {
        let mut affected: BTreeSet<String> = self.view_paths.keys().cloned().collect();
        for (name, view) in &self.desired.views {
            let entity_named = view
                .definition
                .entities
                .iter()
                .any(|entity| requested.entities.iter().any(|named| &named.name == entity));
            if entity_named {
                affected.insert(name.clone());
            }
        }
        loop {
            let before = affected.len();
            for (name, view) in &self.desired.views {
                if affected.contains(name) {
                    continue;
                }
                let rests_on = references.closure(&view.definition.source);
                let touched = rests_on.iter().any(|dependency| match dependency {
                    Dependency::Source(source) => self.source_paths.contains_key(source),
                    Dependency::View(other) => affected.contains(other),
                });
                if touched {
                    affected.insert(name.clone());
                }
            }
            if affected.len() == before {
                return affected;
            }
        }
    }
}

/// What a source rests on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dependency {
    /// A source.
    Source(String),
    /// A feature view.
    View(String),
}

/// Which sources and views the SQL sources refer to.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Source -> what its query names.
    pub(super) of_source: BTreeMap<String, Vec<Dependency>>,
    /// View -> its source.
    pub(super) source_of_view: BTreeMap<String, String>,
}

impl References {
    /// A source and everything below it.
    pub(super) fn closure(&self, source: &str) -> BTreeSet<Dependency> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![Dependency::Source(source.to_owned())];
        while let Some(next) = waiting.pop() {
            if !found.insert(next.clone()) {
                continue;
            }
            match &next {
                Dependency::Source(name) => {
                    waiting.extend(self.of_source.get(name).into_iter().flatten().cloned());
                }
                Dependency::View(name) => {
                    let source = self.source_of_view.get(name).cloned();
                    waiting.extend(source.map(Dependency::Source));
                }
            }
        }
        found
    }
}

/// Whether there is such a feature; the error says what there is.
pub(in crate::features) fn find_feature(catalog: &Catalog, reference: &str) -> Result<(), String> {
    let Some((view, feature)) = split(reference) else {
        return Err(format!("`{reference}` is not of the form `view:feature`"));
    };
    let features: Vec<&str> = if let Some(found) = catalog.views.get(view) {
        let features = found.definition.features.iter();
        features.map(|feature| feature.name.as_str()).collect()
    } else if let Some(found) = catalog.on_demand_views.get(view) {
        let features = found.features.iter();
        features.map(|feature| feature.name.as_str()).collect()
    } else {
        let views = catalog.views.keys().chain(catalog.on_demand_views.keys());
        let views = listed(views.map(String::as_str));
        return Err(format!(
            "there is no feature view `{view}`; the views are {views}"
        ));
    };
    if features.contains(&feature) {
        return Ok(());
    }
    let features = listed(features);
    Err(format!(
        "feature view `{view}` has no feature `{feature}`; its features are {features}"
    ))
}

fn missing<T>(
    what: &str,
    name: &str,
    current: &BTreeMap<String, T>,
    desired: &BTreeMap<String, T>,
) -> String {
    if current.contains_key(name) {
        return format!(
            "{what} `{name}` is needed, but not in the request, so prune would remove it; add it"
        );
    }
    let known = listed(desired.keys().map(String::as_str));
    format!("there is no {what} `{name}`; known are {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_on_a_source_is_found_through_views_and_queries() {
        let mut references = References::default();
        references.of_source.insert(
            "busy".to_owned(),
            vec![Dependency::View("flights".to_owned())],
        );
        references
            .source_of_view
            .insert("flights".to_owned(), "raw".to_owned());
        let found = references.closure("busy");
        assert!(found.contains(&Dependency::Source("raw".to_owned())));
        assert!(found.contains(&Dependency::View("flights".to_owned())));
        assert_eq!(references.closure("raw").len(), 1);
    }

    #[test]
    fn prune_does_not_take_what_stays_needs() {
        let mut current = Catalog::default();
        current
            .entities
            .insert("origin".to_owned(), pb::Entity::default());
        let requested = Requested {
            views: vec![pb::FeatureView {
                name: "weather".to_owned(),
                entities: vec!["origin".to_owned()],
                ..Default::default()
            }],
            ..Default::default()
        };
        for (prune, fine) in [(true, false), (false, true)] {
            let mut violations = Violations::new();
            Plan::make(
                Arc::new(current.clone()),
                &requested,
                prune,
                &mut violations,
            );
            assert_eq!(violations.is_empty(), fine);
        }
    }
}
