//! Definitions as plain data with builders: entities, sources, views, services.
//!
//! Invariant: a definition is only described here, and validated by the server against the real data. What the server
//! fills in (`info.version`, types, join keys) is not sent back.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

/// What a definition has in common with all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DefinitionInfo {
    /// What it is for.
    pub description: String,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Who answers for it.
    pub owner: String,
    /// Version, counted from 1 with every change; 0 for what was not read from a server.
    pub version: u32,
    /// When this version was applied.
    pub applied_at: Option<SystemTime>,
    /// Who applied this version.
    pub applied_by: String,
}

/// The builder methods that every definition has.
macro_rules! described {
    ($type:ty) => {
        impl $type {
            /// What it is for.
            pub fn description(mut self, text: impl Into<String>) -> Self {
                self.info.description = text.into();
                self
            }

            /// Who answers for it.
            pub fn owner(mut self, owner: impl Into<String>) -> Self {
                self.info.owner = owner.into();
                self
            }

            /// Adds a label.
            pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
                self.info.tags.insert(key.into(), value.into());
                self
            }
        }
    };
}

fn strings<S: Into<String>>(items: impl IntoIterator<Item = S>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

/// A thing that features describe, identified by one or more key columns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Entity {
    /// Name, unique among the entities of the project.
    pub name: String,
    /// Key columns.
    pub join_keys: Vec<String>,
    /// Description, labels, owner, version.
    pub info: DefinitionInfo,
}

impl Entity {
    /// An entity with its key columns.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        join_keys: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            name: name.into(),
            join_keys: strings(join_keys),
            info: DefinitionInfo::default(),
        }
    }
}

described!(Entity);

/// Makes a [`Source`] of Parquet files that exist already.
#[derive(Debug)]
pub struct ParquetSource;

impl ParquetSource {
    /// Files by an absolute path or glob of the server's file system, or `s3://bucket/key`; the source is named after the
    /// file.
    #[expect(clippy::new_ret_no_self, reason = "it reads as what it makes")]
    pub fn new(uri: impl Into<String>) -> Source {
        let uri = uri.into();
        let stem = Path::new(&uri)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let name = stem.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        Source::new(name, SourceLocation::Parquet { uri })
    }
}

/// Makes a [`Source`] of a SQL query.
#[derive(Debug)]
pub struct SqlSource;

impl SqlSource {
    /// One SELECT statement over the sources and views of the project by name.
    #[expect(clippy::new_ret_no_self, reason = "it reads as what it makes")]
    pub fn new(name: impl Into<String>, query: impl Into<String>) -> Source {
        Source::new(
            name,
            SourceLocation::Sql {
                query: query.into(),
            },
        )
    }
}

/// Where the rows of a source are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceLocation {
    /// Parquet files.
    Parquet {
        /// Path, glob or `s3://` address.
        uri: String,
    },
    /// A query over other sources and views.
    Sql {
        /// One SELECT statement.
        query: String,
    },
}

/// Where the rows of a feature view come from; made by [`ParquetSource`] or [`SqlSource`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Source {
    /// Name, unique among the sources of the project.
    pub name: String,
    /// Where its rows are.
    pub location: SourceLocation,
    /// Column with the event time; none: the rows are valid always.
    pub timestamp_column: Option<String>,
    /// Column with the time the row was written.
    pub created_column: Option<String>,
    /// Renames columns: name in the source -> name from here on.
    pub field_mapping: BTreeMap<String, String>,
    /// Description, labels, owner, version.
    pub info: DefinitionInfo,
}

impl Source {
    /// A source without times; see [`ParquetSource`] and [`SqlSource`].
    pub fn new(name: impl Into<String>, location: SourceLocation) -> Self {
        Self {
            name: name.into(),
            location,
            timestamp_column: None,
            created_column: None,
            field_mapping: BTreeMap::new(),
            info: DefinitionInfo::default(),
        }
    }

    /// Its name, where the file's name is not a good one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The column with the event time.
    pub fn timestamp(mut self, column: impl Into<String>) -> Self {
        self.timestamp_column = Some(column.into());
        self
    }

    /// The column with the time the row was written, which decides among rows of one event time.
    pub fn created(mut self, column: impl Into<String>) -> Self {
        self.created_column = Some(column.into());
        self
    }

    /// Renames a column before everything else.
    pub fn map_field(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.field_mapping.insert(from.into(), to.into());
        self
    }
}

described!(Source);

/// One column of a feature view, or one column that a request must have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Feature {
    /// Name of the feature: a column of the source.
    pub name: String,
    /// Arrow type such as `Float64`; empty: as the source has it.
    pub data_type: String,
    /// What it means.
    pub description: String,
}

impl Feature {
    /// A feature whose type is that of the source.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            data_type: String::new(),
            description: String::new(),
        }
    }

    /// The Arrow type it must have, e.g. `Int64`, `Utf8`, `Timestamp(µs)`.
    pub fn data_type(mut self, data_type: impl Into<String>) -> Self {
        self.data_type = data_type.into();
        self
    }

    /// What it means.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }
}

impl From<&str> for Feature {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Feature {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// Features of an entity over time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct FeatureView {
    /// Name, unique among all views of the project.
    pub name: String,
    /// Names of its entities; none: its one row applies to all.
    pub entities: Vec<String>,
    /// Name of its source.
    pub source: String,
    /// How long a row counts after its event time; none: always.
    pub ttl: Option<Duration>,
    /// Its features; empty: all columns of the source but keys and timestamps.
    pub features: Vec<Feature>,
    /// Key columns, from its entities; filled by the server.
    pub join_keys: Vec<String>,
    /// False when it must not be materialized.
    pub online: bool,
    /// Description, labels, owner, version.
    pub info: DefinitionInfo,
}

impl FeatureView {
    /// A view of all features that the source has.
    pub fn new(name: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            entities: Vec::new(),
            source: source.into(),
            ttl: None,
            features: Vec::new(),
            join_keys: Vec::new(),
            online: true,
            info: DefinitionInfo::default(),
        }
    }

    /// The entities by name.
    pub fn entities<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.entities = strings(names);
        self
    }

    /// How long a row counts after its event time, both ends inclusive.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Only these features.
    pub fn features<F: Into<Feature>>(mut self, features: impl IntoIterator<Item = F>) -> Self {
        self.features = features.into_iter().map(Into::into).collect();
        self
    }

    /// Whether it may be materialized; default true.
    pub fn online(mut self, online: bool) -> Self {
        self.online = online;
        self
    }
}

described!(FeatureView);

/// One computed feature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnDemandFeature {
    /// Name of the feature.
    pub name: String,
    /// A SQL expression over inputs and request columns, of one row.
    pub expression: String,
    /// Arrow type of the result; filled by the server.
    pub data_type: String,
}

/// Features computed by SQL at the time of the request, the same way for training and serving.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct OnDemandFeatureView {
    /// Name, unique among all views of the project.
    pub name: String,
    /// Features it reads, as `view:feature`.
    pub inputs: Vec<String>,
    /// Columns that the request must have, with their types.
    pub request_columns: Vec<Feature>,
    /// The features with their expressions.
    pub features: Vec<OnDemandFeature>,
    /// Description, labels, owner, version.
    pub info: DefinitionInfo,
}

impl OnDemandFeatureView {
    /// A view that reads these features, as `view:feature`.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        inputs: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            name: name.into(),
            inputs: strings(inputs),
            request_columns: Vec::new(),
            features: Vec::new(),
            info: DefinitionInfo::default(),
        }
    }

    /// Adds a column that the request must have, with its Arrow type.
    pub fn request_column(mut self, name: impl Into<String>, data_type: impl Into<String>) -> Self {
        self.request_columns
            .push(Feature::new(name).data_type(data_type));
        self
    }

    /// Adds a feature with its expression.
    pub fn feature(mut self, name: impl Into<String>, expression: impl Into<String>) -> Self {
        let (name, expression) = (name.into(), expression.into());
        self.features.push(OnDemandFeature {
            name,
            expression,
            data_type: String::new(),
        });
        self
    }
}

described!(OnDemandFeatureView);

/// A named list of features, as a model uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct FeatureService {
    /// Name, unique among the feature services of the project.
    pub name: String,
    /// The features, as `view:feature`.
    pub features: Vec<String>,
    /// Description, labels, owner, version.
    pub info: DefinitionInfo,
}

impl FeatureService {
    /// A service of these features, as `view:feature`.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        features: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            name: name.into(),
            features: strings(features),
            info: DefinitionInfo::default(),
        }
    }
}

described!(FeatureService);

/// Definitions to apply together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Definitions {
    /// Entities.
    pub entities: Vec<Entity>,
    /// Sources.
    pub sources: Vec<Source>,
    /// Feature views.
    pub feature_views: Vec<FeatureView>,
    /// On-demand feature views.
    pub on_demand_feature_views: Vec<OnDemandFeatureView>,
    /// Feature services.
    pub feature_services: Vec<FeatureService>,
}

/// Adds one definition of any sort.
macro_rules! collect {
    ($($type:ty => $list:ident),+ $(,)?) => {
        $(impl From<$type> for Definitions {
            fn from(definition: $type) -> Self {
                Self { $list: vec![definition], ..Self::default() }
            }
        })+
    };
}

collect! {
    Entity => entities, Source => sources, FeatureView => feature_views,
    OnDemandFeatureView => on_demand_feature_views, FeatureService => feature_services,
}

impl Definitions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a definition, or all of another list.
    pub fn with(mut self, more: impl Into<Definitions>) -> Self {
        let more = more.into();
        self.entities.extend(more.entities);
        self.sources.extend(more.sources);
        self.feature_views.extend(more.feature_views);
        self.on_demand_feature_views
            .extend(more.on_demand_feature_views);
        self.feature_services.extend(more.feature_services);
        self
    }
}
