//! [`Catalog`]: the definitions of one project at one moment, by kind and name.
//!
//! Invariant: what the server adds to a definition (types, keys, version) is in here, so whoever has a catalog needs nothing
//! else to plan a query.

use std::collections::BTreeMap;

use mlplat_proto::features::v1 as pb;
use prost::Message;

/// The definitions of a project.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::features) struct Catalog {
    pub(in crate::features) entities: BTreeMap<String, pb::Entity>,
    pub(in crate::features) sources: BTreeMap<String, pb::Source>,
    pub(in crate::features) views: BTreeMap<String, View>,
    pub(in crate::features) on_demand_views: BTreeMap<String, pb::OnDemandFeatureView>,
    pub(in crate::features) services: BTreeMap<String, pb::FeatureService>,
}

/// A feature view with what its source was found to be. Stored as protobuf, like the other definitions.
#[derive(Clone, PartialEq, Message)]
pub(in crate::features) struct View {
    /// The view as clients see it.
    #[prost(message, required, tag = "1")]
    pub(in crate::features) definition: pb::FeatureView,
    /// Arrow types of the join keys, in their order.
    #[prost(string, repeated, tag = "2")]
    pub(in crate::features) key_types: Vec<String>,
    /// Identifies where rows come from (source, keys, times): rows of two origins are never mixed online.
    #[prost(string, tag = "3")]
    pub(in crate::features) origin: String,
}

impl View {
    /// The version, for lineage.
    pub(in crate::features) fn version(&self) -> u32 {
        self.definition.info.as_ref().map_or(0, |info| info.version)
    }

    /// The feature of that name.
    pub(in crate::features) fn feature(&self, name: &str) -> Option<&pb::Feature> {
        self.definition
            .features
            .iter()
            .find(|feature| feature.name == name)
    }
}

/// What the five kinds of definitions have in common.
pub(in crate::features) trait Definition:
    Message + Default + Clone + PartialEq + 'static
{
    /// Its kind in the contract.
    const KIND: pb::DefinitionKind;
    /// Its kind for people.
    const RESOURCE: &'static str;

    /// Its name.
    fn name(&self) -> &str;
    /// Description, tags, owner, version.
    fn info_mut(&mut self) -> &mut Option<pb::DefinitionInfo>;
    /// All of its kind.
    fn of(catalog: &Catalog) -> &BTreeMap<String, Self>;
    /// All of its kind, to be changed.
    fn of_mut(catalog: &mut Catalog) -> &mut BTreeMap<String, Self>;

    /// The definition without what the server fills in with each version.
    fn unversioned(&self) -> Self {
        let mut plain = self.clone();
        let info = plain.info_mut().take().unwrap_or_default();
        *plain.info_mut() = Some(pb::DefinitionInfo {
            description: info.description,
            tags: info.tags,
            owner: info.owner,
            ..Default::default()
        });
        plain
    }
}

macro_rules! definition {
    ($type:ty, $kind:ident, $resource:literal, $list:ident $(, $inner:ident)?) => {
        impl Definition for $type {
            const KIND: pb::DefinitionKind = pb::DefinitionKind::$kind;
            const RESOURCE: &'static str = $resource;

            fn name(&self) -> &str {
                &self$(.$inner)?.name
            }

            fn info_mut(&mut self) -> &mut Option<pb::DefinitionInfo> {
                &mut self$(.$inner)?.info
            }

            fn of(catalog: &Catalog) -> &BTreeMap<String, Self> {
                &catalog.$list
            }

            fn of_mut(catalog: &mut Catalog) -> &mut BTreeMap<String, Self> {
                &mut catalog.$list
            }
        }
    };
}

definition!(pb::Entity, Entity, "entity", entities);
definition!(pb::Source, Source, "source", sources);
definition!(View, FeatureView, "feature view", views, definition);
definition!(
    pb::OnDemandFeatureView,
    OnDemandFeatureView,
    "on-demand feature view",
    on_demand_views
);
definition!(
    pb::FeatureService,
    FeatureService,
    "feature service",
    services
);
