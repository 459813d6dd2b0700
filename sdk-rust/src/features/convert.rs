//! Definitions to and from the contracts.
//!
//! Invariant: what only the server may fill in (versions, types of results, join keys) is read but never sent.

use mlplat_proto::features::v1::{self as pb, source::Location};

use super::definitions::{
    DefinitionInfo, Entity, Feature, FeatureService, FeatureView, OnDemandFeature,
    OnDemandFeatureView, Source, SourceLocation,
};
use crate::{
    convert::{duration, std_duration, system_time},
    error::Result,
};

impl From<DefinitionInfo> for pb::DefinitionInfo {
    fn from(i: DefinitionInfo) -> Self {
        Self {
            description: i.description,
            tags: i.tags.into_iter().collect(),
            owner: i.owner,
            ..Self::default()
        }
    }
}

impl From<Option<pb::DefinitionInfo>> for DefinitionInfo {
    fn from(info: Option<pb::DefinitionInfo>) -> Self {
        let i = info.unwrap_or_default();
        Self {
            description: i.description,
            tags: i.tags.into_iter().collect(),
            owner: i.owner,
            version: i.version,
            applied_at: i.applied_at.map(system_time),
            applied_by: i.applied_by,
        }
    }
}

impl From<Entity> for pb::Entity {
    fn from(e: Entity) -> Self {
        Self {
            name: e.name,
            join_keys: e.join_keys,
            info: Some(e.info.into()),
        }
    }
}

impl From<pb::Entity> for Entity {
    fn from(e: pb::Entity) -> Self {
        Self {
            name: e.name,
            join_keys: e.join_keys,
            info: e.info.into(),
        }
    }
}

impl From<Source> for pb::Source {
    fn from(s: Source) -> Self {
        let location = match s.location {
            SourceLocation::Parquet { uri } => Location::Parquet(pb::ParquetSource { uri }),
            SourceLocation::Sql { query } => Location::Sql(pb::SqlSource { query }),
        };
        Self {
            name: s.name,
            location: Some(location),
            timestamp_column: s.timestamp_column.unwrap_or_default(),
            created_column: s.created_column.unwrap_or_default(),
            field_mapping: s.field_mapping.into_iter().collect(),
            info: Some(s.info.into()),
        }
    }
}

impl From<pb::Source> for Source {
    fn from(s: pb::Source) -> Self {
        let filled = |text: String| (!text.is_empty()).then_some(text);
        let location = match s.location {
            Some(Location::Sql(sql)) => SourceLocation::Sql { query: sql.query },
            Some(Location::Parquet(files)) => SourceLocation::Parquet { uri: files.uri },
            None => SourceLocation::Parquet { uri: String::new() },
        };
        Self {
            name: s.name,
            location,
            timestamp_column: filled(s.timestamp_column),
            created_column: filled(s.created_column),
            field_mapping: s.field_mapping.into_iter().collect(),
            info: s.info.into(),
        }
    }
}

impl From<Feature> for pb::Feature {
    fn from(f: Feature) -> Self {
        Self {
            name: f.name,
            data_type: f.data_type,
            description: f.description,
        }
    }
}

impl From<pb::Feature> for Feature {
    fn from(f: pb::Feature) -> Self {
        Self {
            name: f.name,
            data_type: f.data_type,
            description: f.description,
        }
    }
}

impl FeatureView {
    pub(super) fn into_proto(self) -> Result<pb::FeatureView> {
        Ok(pb::FeatureView {
            name: self.name,
            entities: self.entities,
            source: self.source,
            ttl: self.ttl.map(duration).transpose()?,
            features: self.features.into_iter().map(Into::into).collect(),
            join_keys: Vec::new(),
            online: self.online,
            info: Some(self.info.into()),
        })
    }
}

impl From<pb::FeatureView> for FeatureView {
    fn from(v: pb::FeatureView) -> Self {
        Self {
            name: v.name,
            entities: v.entities,
            source: v.source,
            ttl: v.ttl.map(std_duration),
            features: v.features.into_iter().map(Into::into).collect(),
            join_keys: v.join_keys,
            online: v.online,
            info: v.info.into(),
        }
    }
}

impl From<OnDemandFeatureView> for pb::OnDemandFeatureView {
    fn from(v: OnDemandFeatureView) -> Self {
        let feature = |f: OnDemandFeature| pb::OnDemandFeature {
            name: f.name,
            expression: f.expression,
            data_type: String::new(),
        };
        Self {
            name: v.name,
            inputs: v.inputs,
            request_columns: v.request_columns.into_iter().map(Into::into).collect(),
            features: v.features.into_iter().map(feature).collect(),
            info: Some(v.info.into()),
        }
    }
}

impl From<pb::OnDemandFeatureView> for OnDemandFeatureView {
    fn from(v: pb::OnDemandFeatureView) -> Self {
        let feature = |f: pb::OnDemandFeature| OnDemandFeature {
            name: f.name,
            expression: f.expression,
            data_type: f.data_type,
        };
        Self {
            name: v.name,
            inputs: v.inputs,
            request_columns: v.request_columns.into_iter().map(Into::into).collect(),
            features: v.features.into_iter().map(feature).collect(),
            info: v.info.into(),
        }
    }
}

impl From<FeatureService> for pb::FeatureService {
    fn from(s: FeatureService) -> Self {
        Self {
            name: s.name,
            features: s.features,
            info: Some(s.info.into()),
        }
    }
}

impl From<pb::FeatureService> for FeatureService {
    fn from(s: pb::FeatureService) -> Self {
        Self {
            name: s.name,
            features: s.features,
            info: s.info.into(),
        }
    }
}
