//! What can be said about an ApplyRequest without looking at anything else: names, lengths, forms.
//!
//! Invariant: all bad fields are reported, each by its path in the request. What passes has no output fields left.

use std::collections::{HashMap, HashSet};

use mlplat_proto::features::v1::{self as pb, source::Location};

use super::names::split;
use crate::{
    objects::location::Location as FileLocation,
    request::{self, MAX_DESCRIPTION, Violations},
    tags,
};

const MAX_NAME: usize = 250;
const MAX_QUERY: usize = 100_000;
const MAX_DEFINITIONS: usize = 10_000;
const MAX_COLUMNS: usize = 10_000;

/// The definitions of a request, in its order, without output fields.
#[derive(Debug, Default)]
pub(super) struct Requested {
    pub(super) entities: Vec<pb::Entity>,
    pub(super) sources: Vec<pb::Source>,
    pub(super) views: Vec<pb::FeatureView>,
    pub(super) on_demand_views: Vec<pb::OnDemandFeatureView>,
    pub(super) services: Vec<pb::FeatureService>,
}

/// The path of an element of the request.
pub(super) fn path(list: &str, at: usize) -> String {
    format!("{list}[{at}]")
}

pub(super) const ENTITIES: &str = "entities";
pub(super) const SOURCES: &str = "sources";
pub(super) const VIEWS: &str = "feature_views";
pub(super) const ON_DEMAND: &str = "on_demand_feature_views";
pub(super) const SERVICES: &str = "feature_services";

/// Checks a request, and takes its definitions out of it.
pub(super) fn check(request: &pb::ApplyRequest, violations: &mut Violations) -> Requested {
    let count = request.entities.len()
        + request.sources.len()
        + request.feature_views.len()
        + request.on_demand_feature_views.len()
        + request.feature_services.len();
    if count > MAX_DEFINITIONS {
        violations.add(
            "feature_views",
            format!(
                "a request may have at most {MAX_DEFINITIONS} definitions, this one has {count}"
            ),
        );
        return Requested::default();
    }
    let requested = Requested {
        entities: request.entities.iter().map(plain_entity).collect(),
        sources: request.sources.iter().map(plain_source).collect(),
        views: request.feature_views.iter().map(plain_view).collect(),
        on_demand_views: request
            .on_demand_feature_views
            .iter()
            .map(plain_on_demand)
            .collect(),
        services: request.feature_services.iter().map(plain_service).collect(),
    };
    let mut names = Names::default();
    for (at, entity) in requested.entities.iter().enumerate() {
        let path = path(ENTITIES, at);
        names.check(violations, &path, &entity.name, &entity.info);
        if entity.join_keys.is_empty() {
            violations.add(format!("{path}.join_keys"), "must name at least one column");
        }
        columns(
            violations,
            &format!("{path}.join_keys"),
            entity.join_keys.iter(),
        );
    }
    names.next_kind();
    for (at, source) in requested.sources.iter().enumerate() {
        let path = path(SOURCES, at);
        names.check(violations, &path, &source.name, &source.info);
        check_source(violations, &path, source);
    }
    names.next_kind();
    for (at, view) in requested.views.iter().enumerate() {
        let path = path(VIEWS, at);
        names.check(violations, &path, &view.name, &view.info);
        check_view(violations, &path, view);
    }
    // Views of both sorts are told apart by name alone.
    for (at, view) in requested.on_demand_views.iter().enumerate() {
        let path = path(ON_DEMAND, at);
        names.check(violations, &path, &view.name, &view.info);
        check_on_demand(violations, &path, view);
    }
    names.next_kind();
    for (at, service) in requested.services.iter().enumerate() {
        let path = path(SERVICES, at);
        names.check(violations, &path, &service.name, &service.info);
        if service.name.contains(':') {
            violations.add(
                format!("{path}.name"),
                "must not hold a colon, which features have",
            );
        }
        references(violations, &format!("{path}.features"), &service.features);
    }
    requested
}

/// The names of a kind that were seen.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn next_kind(&mut self) {
        self.0.clear();
    }

    fn check(
        &mut self,
        violations: &mut Violations,
        path: &str,
        name: &str,
        info: &Option<pb::DefinitionInfo>,
    ) {
        violations.parse(format!("{path}.name"), request::name(name, MAX_NAME));
        if let Some(first) = self.0.insert(name.to_owned(), path.to_owned()) {
            violations.add(
                format!("{path}.name"),
                format!("`{name}` is the name of {first} as well; rename one of them"),
            );
        }
        if let Some(info) = info {
            let description = request::text(&info.description, MAX_DESCRIPTION);
            violations.parse(format!("{path}.info.description"), description);
            violations.parse(
                format!("{path}.info.owner"),
                request::text(&info.owner, MAX_NAME),
            );
            tags::check(violations, &format!("{path}.info.tags"), &info.tags);
        }
    }
}

/// Checks names of columns: each is one, and none comes twice.
fn columns<'a>(
    violations: &mut Violations,
    path: &str,
    names: impl ExactSizeIterator<Item = &'a String>,
) {
    if names.len() > MAX_COLUMNS {
        violations.add(path, format!("has more than {MAX_COLUMNS} columns"));
        return;
    }
    let mut seen = HashSet::new();
    for (at, name) in names.enumerate() {
        column(violations, &format!("{path}[{at}]"), name);
        if !seen.insert(name) {
            violations.add(format!("{path}[{at}]"), format!("`{name}` is there twice"));
        }
    }
}

/// Columns are called as files call them; they need only be nameable.
fn column(violations: &mut Violations, path: &str, name: &str) {
    if name.is_empty() {
        violations.add(path, "must not be empty");
    } else if name.chars().count() > MAX_NAME || name.contains('\0') {
        violations.add(
            path,
            format!("must have at most {MAX_NAME} characters and no NUL"),
        );
    }
}

fn references(violations: &mut Violations, path: &str, features: &[String]) {
    if features.is_empty() {
        violations.add(path, "must name at least one feature, as `view:feature`");
    }
    let mut seen = HashSet::new();
    for (at, reference) in features.iter().enumerate() {
        if split(reference).is_none() {
            violations.add(
                format!("{path}[{at}]"),
                format!(
                    "{} is not of the form `view:feature`",
                    request::quoted(reference)
                ),
            );
        } else if !seen.insert(reference) {
            violations.add(
                format!("{path}[{at}]"),
                format!("`{reference}` is there twice"),
            );
        }
    }
}

fn check_source(violations: &mut Violations, path: &str, source: &pb::Source) {
    match &source.location {
        None => violations.add(
            format!("{path}.location"),
            "needs Parquet files or a SQL query",
        ),
        Some(Location::Parquet(files)) => {
            violations.parse(
                format!("{path}.parquet.uri"),
                FileLocation::parse(&files.uri),
            );
        }
        Some(Location::Sql(sql)) => {
            let field = format!("{path}.sql.query");
            if sql.query.trim().is_empty() {
                violations.add(&field, "must be a SELECT statement");
            }
            violations.parse(field, request::text(&sql.query, MAX_QUERY));
        }
    }
    let (timestamp, created) = (&source.timestamp_column, &source.created_column);
    if !timestamp.is_empty() && timestamp == created {
        violations.add(
            format!("{path}.created_column"),
            "is the timestamp column too; leave it out where rows do not say when they were written",
        );
    }
    for (from, to) in &source.field_mapping {
        let field = format!("{path}.field_mapping[{}]", request::quoted(from));
        column(violations, &field, from);
        column(violations, &field, to);
    }
}

fn check_view(violations: &mut Violations, path: &str, view: &pb::FeatureView) {
    if view.name.contains(':') {
        violations.add(
            format!("{path}.name"),
            "must not hold a colon, which parts the view from the feature",
        );
    }
    if view.source.is_empty() {
        violations.add(format!("{path}.source"), "must name a source");
    }
    let mut seen = HashSet::new();
    for (at, entity) in view.entities.iter().enumerate() {
        if !seen.insert(entity) {
            violations.add(
                format!("{path}.entities[{at}]"),
                format!("`{entity}` is there twice"),
            );
        }
    }
    if let Some(ttl) = &view.ttl {
        // Nothing is a TTL too: only rows of that very instant count.
        if std::time::Duration::try_from(*ttl).is_err() {
            violations.add(
                format!("{path}.ttl"),
                "must be a duration that is not negative; leave it out for features that never expire",
            );
        }
    }
    let names: Vec<&String> = view.features.iter().map(|feature| &feature.name).collect();
    columns(violations, &format!("{path}.features"), names.into_iter());
    for (at, feature) in view.features.iter().enumerate() {
        let description = request::text(&feature.description, MAX_DESCRIPTION);
        violations.parse(format!("{path}.features[{at}].description"), description);
    }
}

fn check_on_demand(violations: &mut Violations, path: &str, view: &pb::OnDemandFeatureView) {
    if view.name.contains(':') {
        violations.add(
            format!("{path}.name"),
            "must not hold a colon, which parts the view from the feature",
        );
    }
    if !view.inputs.is_empty() {
        references(violations, &format!("{path}.inputs"), &view.inputs);
    }
    let names: Vec<&String> = view
        .request_columns
        .iter()
        .map(|column| &column.name)
        .collect();
    columns(
        violations,
        &format!("{path}.request_columns"),
        names.into_iter(),
    );
    if view.features.is_empty() {
        violations.add(
            format!("{path}.features"),
            "must define at least one feature",
        );
    }
    let names: Vec<&String> = view.features.iter().map(|feature| &feature.name).collect();
    columns(violations, &format!("{path}.features"), names.into_iter());
    for (at, feature) in view.features.iter().enumerate() {
        let field = format!("{path}.features[{at}].expression");
        if feature.expression.trim().is_empty() {
            violations.add(&field, "must be a SQL expression");
        }
        violations.parse(field, request::text(&feature.expression, MAX_QUERY));
    }
}

fn plain_info(info: &Option<pb::DefinitionInfo>) -> Option<pb::DefinitionInfo> {
    let info = info.clone().unwrap_or_default();
    Some(pb::DefinitionInfo {
        description: info.description,
        tags: info.tags,
        owner: info.owner,
        ..Default::default()
    })
}

fn plain_entity(entity: &pb::Entity) -> pb::Entity {
    pb::Entity {
        info: plain_info(&entity.info),
        ..entity.clone()
    }
}

fn plain_source(source: &pb::Source) -> pb::Source {
    pb::Source {
        info: plain_info(&source.info),
        ..source.clone()
    }
}

fn plain_view(view: &pb::FeatureView) -> pb::FeatureView {
    pb::FeatureView {
        join_keys: Vec::new(),
        info: plain_info(&view.info),
        ..view.clone()
    }
}

fn plain_on_demand(view: &pb::OnDemandFeatureView) -> pb::OnDemandFeatureView {
    let features = view.features.iter().map(|feature| pb::OnDemandFeature {
        data_type: String::new(),
        ..feature.clone()
    });
    pb::OnDemandFeatureView {
        features: features.collect(),
        info: plain_info(&view.info),
        ..view.clone()
    }
}

fn plain_service(service: &pb::FeatureService) -> pb::FeatureService {
    pb::FeatureService {
        info: plain_info(&service.info),
        ..service.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn all_bad_fields_are_reported_by_path() {
        let request = pb::ApplyRequest {
            entities: vec![pb::Entity {
                name: "origin".to_owned(),
                ..Default::default()
            }],
            sources: vec![pb::Source {
                name: "s".to_owned(),
                location: Some(Location::Parquet(pb::ParquetSource {
                    uri: "relative.parquet".to_owned(),
                })),
                ..Default::default()
            }],
            feature_views: vec![pb::FeatureView {
                name: "a:b".to_owned(),
                source: "s".to_owned(),
                ttl: Some(prost_types::Duration {
                    seconds: -1,
                    nanos: 0,
                }),
                ..Default::default()
            }],
            feature_services: vec![pb::FeatureService {
                name: "all".to_owned(),
                features: vec!["temp".to_owned()],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut violations = Violations::new();
        check(&request, &mut violations);
        let Err(Error::Invalid(found)) = violations.finish() else {
            panic!("must be invalid");
        };
        let fields: Vec<&str> = found.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "entities[0].join_keys",
                "sources[0].parquet.uri",
                "feature_views[0].name",
                "feature_views[0].ttl",
                "feature_services[0].features[0]",
            ]
        );
    }

    #[test]
    fn output_fields_are_not_taken_from_clients() {
        let request = pb::ApplyRequest {
            feature_views: vec![pb::FeatureView {
                name: "v".to_owned(),
                source: "s".to_owned(),
                join_keys: vec!["x".to_owned()],
                info: Some(pb::DefinitionInfo {
                    version: 7,
                    owner: "me".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut violations = Violations::new();
        let requested = check(&request, &mut violations);
        let view = &requested.views[0];
        assert!(view.join_keys.is_empty());
        let info = view.info.as_ref().unwrap();
        assert_eq!((info.version, info.owner.as_str()), (0, "me"));
    }
}
