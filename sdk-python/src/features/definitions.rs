//! Definitions on their way from the Python classes, whose attributes are read here.
//!
//! Invariant: names and shapes were checked by the Python classes; what definitions mean is the server's business.

use std::{collections::BTreeMap, time::Duration};

use mlplat::features as sdk;
use pyo3::prelude::*;

#[derive(FromPyObject)]
pub(super) struct Entity {
    name: String,
    join_keys: Vec<String>,
    description: String,
    tags: BTreeMap<String, String>,
    owner: String,
}

#[derive(FromPyObject)]
pub(super) struct Source {
    name: String,
    /// Path, glob or address of Parquet files; None for SQL.
    path: Option<String>,
    query: Option<String>,
    timestamp: Option<String>,
    created: Option<String>,
    field_mapping: BTreeMap<String, String>,
    description: String,
    tags: BTreeMap<String, String>,
    owner: String,
}

#[derive(FromPyObject)]
pub(super) struct FeatureView {
    name: String,
    entity_names: Vec<String>,
    source_name: String,
    ttl: Option<Duration>,
    feature_names: Vec<String>,
    online: bool,
    description: String,
    tags: BTreeMap<String, String>,
    owner: String,
}

#[derive(FromPyObject)]
pub(super) struct OnDemandFeatureView {
    name: String,
    input_names: Vec<String>,
    request_columns: BTreeMap<String, String>,
    expressions: Vec<(String, String)>,
    description: String,
    tags: BTreeMap<String, String>,
    owner: String,
}

#[derive(FromPyObject)]
pub(super) struct FeatureService {
    name: String,
    feature_names: Vec<String>,
    description: String,
    tags: BTreeMap<String, String>,
    owner: String,
}

/// Puts what all definitions have into a definition.
macro_rules! described {
    ($definition:expr, $from:expr) => {{
        let mut definition = $definition;
        definition.info.description = $from.description;
        definition.info.tags = $from.tags;
        definition.info.owner = $from.owner;
        definition
    }};
}

impl From<Entity> for sdk::Entity {
    fn from(entity: Entity) -> Self {
        described!(sdk::Entity::new(entity.name, entity.join_keys), entity)
    }
}

impl From<Source> for sdk::Source {
    fn from(source: Source) -> Self {
        let location = match (source.path, source.query) {
            (Some(uri), _) => sdk::SourceLocation::Parquet { uri },
            (None, query) => sdk::SourceLocation::Sql {
                query: query.unwrap_or_default(),
            },
        };
        let mut made = sdk::Source::new(source.name, location);
        made.timestamp_column = source.timestamp;
        made.created_column = source.created;
        made.field_mapping = source.field_mapping;
        described!(made, source)
    }
}

impl From<FeatureView> for sdk::FeatureView {
    fn from(view: FeatureView) -> Self {
        let mut made = sdk::FeatureView::new(view.name, view.source_name)
            .entities(view.entity_names)
            .features(view.feature_names)
            .online(view.online);
        made.ttl = view.ttl;
        described!(made, view)
    }
}

impl From<OnDemandFeatureView> for sdk::OnDemandFeatureView {
    fn from(view: OnDemandFeatureView) -> Self {
        let mut made = sdk::OnDemandFeatureView::new(view.name, view.input_names);
        for (name, data_type) in view.request_columns {
            made = made.request_column(name, data_type);
        }
        for (name, expression) in view.expressions {
            made = made.feature(name, expression);
        }
        described!(made, view)
    }
}

impl From<FeatureService> for sdk::FeatureService {
    fn from(service: FeatureService) -> Self {
        described!(
            sdk::FeatureService::new(service.name, service.feature_names),
            service
        )
    }
}

/// A view joined under other keys, as Python describes it.
#[derive(FromPyObject)]
pub(super) struct Alias {
    name: String,
    view_name: String,
    join_keys: BTreeMap<String, String>,
}

impl From<Alias> for sdk::ViewAlias {
    fn from(alias: Alias) -> Self {
        let mut made = sdk::ViewAlias::new(alias.name, alias.view_name);
        made.join_keys = alias.join_keys;
        made
    }
}

/// One thing that a retrieval asks for: a name as it is, or all features of a view whose features the client does not
/// know (the name it goes by in the query, and the view).
#[derive(FromPyObject)]
pub(super) enum Wanted {
    #[pyo3(transparent)]
    Name(String),
    All(String, String),
}

/// The names to ask for, views spelled out by what the server knows of them.
pub(super) async fn spelled_out(
    features: &sdk::Features,
    wanted: Vec<Wanted>,
) -> mlplat::Result<Vec<String>> {
    let mut names = Vec::new();
    for item in wanted {
        match item {
            Wanted::Name(name) => names.push(name),
            Wanted::All(prefix, view) => {
                let view = features.get_feature_view(&view).await?;
                names.extend(view.features.iter().map(|f| format!("{prefix}:{}", f.name)));
            }
        }
    }
    Ok(names)
}
