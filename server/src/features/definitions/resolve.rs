//! Fits definitions to the data: reads the real schemas of sources, and fills in what follows from them.
//!
//! Invariant: it reads footers and plans queries, but no rows; and it does not touch the database, so that it may be slow.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use mlplat_proto::features::v1::{self as pb, source::Location};
use sha2::{Digest as _, Sha256};

use super::{
    Catalog, View,
    check::{ON_DEMAND, Requested, VIEWS},
    diff::Flatten as _,
    names::listed,
    plan::{Dependency, Plan, References},
};
use crate::{
    error::Result,
    features::{
        asof::{FeatureSide, Latest},
        on_demand::OnDemand,
        sources::{PlanError, Session, is_timestamp, join_keys},
    },
    request::Violations,
};

/// Resolves what the request touches. Violations have precedence over data that cannot be read.
pub(super) async fn resolve(
    plan: &mut Plan,
    requested: &Requested,
    session: &mut Session,
    mut violations: Violations,
) -> Result<()> {
    let references = references(&plan.desired, session);
    let mut unreadable = None;
    let mut schemas = BTreeMap::new();
    let views = plan.affected_views(requested, &references);
    let mut sources: Vec<String> = plan.source_paths.keys().cloned().collect();
    for name in &views {
        let source = &plan.desired.views[name].definition.source;
        if plan.desired.sources.contains_key(source) && !sources.contains(source) {
            sources.push(source.clone());
        }
    }
    for name in sources {
        let field = match plan.source_paths.get(&name) {
            Some(path) => location_field(path, &plan.desired.sources[&name]),
            None => "sources".to_owned(),
        };
        match session.source(&name).await {
            Ok(table) => {
                let schema = table.schema().as_arrow().clone();
                let path = plan
                    .source_paths
                    .get(&name)
                    .map_or("sources", String::as_str);
                check_times(&plan.desired.sources[&name], &schema, path, &mut violations);
                schemas.insert(name, schema);
            }
            Err(PlanError::Definition(text)) => violations.add(field, text),
            Err(PlanError::Data(error)) => unreadable = unreadable.or(Some(error)),
        }
    }
    for name in views {
        let view = plan.desired.views[&name].definition.clone();
        let Some(schema) = schemas.get(&view.source) else {
            continue; // told already
        };
        let path = plan.view_paths.get(&name).cloned();
        let path = path.unwrap_or_else(|| unnamed(VIEWS, &name));
        let is_named = plan.view_paths.contains_key(&name);
        if let Some(mut view) = resolve_view(
            &plan.desired,
            view,
            schema,
            &path,
            is_named,
            &mut violations,
        ) {
            view.origin = origin(&plan.desired, &view, &references);
            plan.desired.views.insert(name, view);
        }
    }
    let digests = session.pins().digests();
    plan.found.digests = digests
        .map(|(source, _, digest)| (source.to_owned(), digest))
        .collect();
    plan.found.references = references;
    resolve_on_demand(plan, &mut violations);
    if violations.is_empty() {
        plan.check_services(requested, &mut violations);
    }
    violations.finish()?;
    unreadable.map_or(Ok(()), Err)
}

/// The path of a definition that the request does not name, but that rests on something in it.
fn unnamed(list: &str, name: &str) -> String {
    format!("{list}[{name:?}, which the request does not name]")
}

fn location_field(path: &str, source: &pb::Source) -> String {
    match source.location {
        Some(Location::Sql(_)) => format!("{path}.sql.query"),
        _ => format!("{path}.parquet.uri"),
    }
}

/// Which sources and views the queries name. A query that does not parse is told when it is planned.
fn references(catalog: &Catalog, session: &Session) -> References {
    let mut references = References::default();
    for (name, view) in &catalog.views {
        let source = view.definition.source.clone();
        references.source_of_view.insert(name.clone(), source);
    }
    for (name, source) in &catalog.sources {
        let Some(Location::Sql(sql)) = &source.location else {
            continue;
        };
        let tables = session.references(name, &sql.query).unwrap_or_default();
        let dependencies = tables.into_iter().map(|(schema, table)| {
            let is_source = match schema.as_deref() {
                Some("sources") => true,
                Some("views") => false,
                _ => catalog.sources.contains_key(&table),
            };
            if is_source {
                Dependency::Source(table)
            } else {
                Dependency::View(table)
            }
        });
        references
            .of_source
            .insert(name.clone(), dependencies.collect());
    }
    references
}

fn check_times(source: &pb::Source, schema: &Schema, path: &str, violations: &mut Violations) {
    for (field, column) in [
        ("timestamp_column", &source.timestamp_column),
        ("created_column", &source.created_column),
    ] {
        if column.is_empty() {
            continue;
        }
        let field = format!("{path}.{field}");
        match schema.field_with_name(column) {
            Err(_) => violations.add(field, no_column(&source.name, column, schema)),
            Ok(found) if !is_timestamp(found.data_type()) => {
                let text = format!(
                    "column `{column}` of source `{}` is {}, which is no timestamp; accepted are Timestamp (s, ms, us, ns) and \
                     Date",
                    source.name,
                    found.data_type()
                );
                violations.add(field, text);
            }
            Ok(_) => {}
        }
    }
}

fn no_column(source: &str, column: &str, schema: &Schema) -> String {
    let columns = listed(schema.fields().iter().map(|field| field.name().as_str()));
    format!("source `{source}` has no column `{column}`; its columns are {columns}")
}

/// The view with its keys and features; `None` when something is wrong with it.
fn resolve_view(
    catalog: &Catalog,
    mut view: pb::FeatureView,
    schema: &Schema,
    path: &str,
    is_named: bool,
    violations: &mut Violations,
) -> Option<View> {
    let source = catalog.sources.get(&view.source)?;
    let keys = join_keys(catalog, &view);
    let mut fine = true;
    let mut complain = |field: String, text: String| {
        violations.add(field, text);
        fine = false;
    };
    for key in &keys {
        if schema.field_with_name(key).is_err() {
            let text = format!("join key `{key}`: {}", no_column(&view.source, key, schema));
            complain(format!("{path}.entities"), text);
        }
    }
    if view.features.is_empty() {
        let others = schema.fields().iter().filter(|field| {
            let name = field.name();
            !keys.contains(name)
                && name != &source.timestamp_column
                && name != &source.created_column
        });
        view.features = others
            .map(|field| pb::Feature {
                name: field.name().clone(),
                ..Default::default()
            })
            .collect();
        if view.features.is_empty() {
            let text = format!(
                "source `{}` has no columns but keys and timestamps",
                view.source
            );
            complain(format!("{path}.features"), text);
        }
    }
    for (at, feature) in view.features.iter_mut().enumerate() {
        let field = format!("{path}.features[{at}]");
        if keys.contains(&feature.name) {
            complain(
                field,
                format!(
                    "`{}` is a join key, which entity rows have anyway",
                    feature.name
                ),
            );
            continue;
        }
        let Ok(column) = schema.field_with_name(&feature.name) else {
            complain(field, no_column(&view.source, &feature.name, schema));
            continue;
        };
        let actual = column.data_type().to_string();
        if actual.parse::<DataType>().ok().as_ref() != Some(column.data_type()) {
            let text = format!(
                "column `{}` is of type {actual}, which features cannot have",
                feature.name
            );
            complain(field, text);
            continue;
        }
        let same = feature.data_type == actual
            || feature.data_type.parse::<DataType>().ok().as_ref() == Some(column.data_type());
        // What a client wrote must be so; what was found at an earlier apply may be found otherwise now.
        if is_named && !feature.data_type.is_empty() && !same {
            let text = format!(
                "`{}` is {actual} in source `{}`, not {}; leave the type out to take it as it is",
                feature.name, view.source, feature.data_type
            );
            complain(format!("{field}.data_type"), text);
        }
        feature.data_type = actual;
    }
    if !fine {
        return None;
    }
    check_joinable(&view, source, &keys, schema, path, violations)?;
    let types = keys
        .iter()
        .filter_map(|key| schema.field_with_name(key).ok());
    Some(View {
        key_types: types.map(|field| field.data_type().to_string()).collect(),
        definition: pb::FeatureView {
            join_keys: keys,
            ..view
        },
        origin: String::new(),
    })
}

/// Asks the join itself whether it takes these columns.
fn check_joinable(
    view: &pb::FeatureView,
    source: &pb::Source,
    keys: &[String],
    schema: &Schema,
    path: &str,
    violations: &mut Violations,
) -> Option<()> {
    let column = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    if [&source.timestamp_column, &source.created_column]
        .into_iter()
        .filter(|name| !name.is_empty())
        .any(|name| {
            schema
                .field_with_name(name)
                .map_or(true, |f| !is_timestamp(f.data_type()))
        })
    {
        return None; // told already
    }
    let side = FeatureSide {
        view: view.name.clone(),
        schema: std::sync::Arc::new(schema.clone()),
        keys: keys.to_vec(),
        event_timestamp: column(&source.timestamp_column),
        created_timestamp: column(&source.created_column),
        features: view
            .features
            .iter()
            .map(|feature| feature.name.clone())
            .collect(),
    };
    let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    match Latest::new(&side, everything, usize::MAX) {
        Ok(_) => Some(()),
        Err(error) => {
            violations.add(format!("{path}.entities"), error.to_string());
            None
        }
    }
}

/// On-demand views follow the features that they read.
fn resolve_on_demand(plan: &mut Plan, violations: &mut Violations) {
    let mut resolved = Vec::new();
    for (name, view) in &plan.desired.on_demand_views {
        let readable = view.inputs.iter().all(|input| {
            super::names::split(input).is_some_and(|(view, _)| {
                plan.desired
                    .views
                    .get(view)
                    .is_some_and(|view| !view.origin.is_empty())
            })
        });
        if !readable {
            continue; // told already
        }
        let path = plan.on_demand_paths.get(name).cloned();
        let path = path.unwrap_or_else(|| unnamed(ON_DEMAND, name));
        match OnDemand::compile(view, &plan.desired) {
            Ok(compiled) => {
                let mut view = view.clone();
                for (feature, data_type) in view.features.iter_mut().zip(compiled.types()) {
                    feature.data_type = data_type.to_string();
                }
                resolved.push(view);
            }
            Err(found) => {
                for (field, text) in found {
                    violations.add(format!("{path}.{field}"), text);
                }
            }
        }
    }
    for view in resolved {
        plan.desired.on_demand_views.insert(view.name.clone(), view);
    }
}

/// A digest of everything that decides which rows a view has, but not of which of their columns are features.
fn origin(catalog: &Catalog, view: &View, references: &References) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    for key in &view.definition.join_keys {
        add(key);
    }
    for dependency in references.closure(&view.definition.source) {
        match dependency {
            Dependency::Source(name) => {
                add("source");
                add(&name);
                let fields = catalog.sources.get(&name).map(|source| source.flatten());
                for (field, value) in fields.unwrap_or_default() {
                    let describes =
                        field == "description" || field == "owner" || field.starts_with("tags.");
                    if !describes {
                        add(&field);
                        add(&value);
                    }
                }
            }
            Dependency::View(name) => {
                add("view");
                add(&name);
                for feature in catalog
                    .views
                    .get(&name)
                    .into_iter()
                    .flat_map(|v| &v.definition.features)
                {
                    add(&feature.name);
                }
            }
        }
    }
    hex::encode(&hash.finalize()[..16])
}
