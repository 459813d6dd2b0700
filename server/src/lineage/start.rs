//! Where a walk begins: from what a caller calls a thing to the nodes that it is in the graph.
//!
//! Invariant: a name without a version stands for all versions that are known of it.

use mlplat_proto::lineage::v1::{NodeRef, node_ref::Node as Ref};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::{
    entity::{dataset, run, symlink},
    graph::NodeId,
    naming::{Dataset, Names},
    store::{dataset_id, name_id},
};
use crate::{
    auth::Scope,
    error::{Error, Result},
    request::{self, Violations},
};

/// What a caller asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    Run(Uuid),
    /// One version of a dataset. `label` is what the caller calls it, and `resource` the sort of thing.
    Version {
        namespace: String,
        name: String,
        version: String,
        resource: &'static str,
        label: String,
    },
    /// A dataset in all versions.
    Name {
        namespace: String,
        name: String,
        resource: &'static str,
        label: String,
    },
}

impl Wanted {
    /// Reads the reference of a request.
    pub(super) fn parse(
        violations: &mut Violations,
        node: Option<NodeRef>,
        names: &Names,
    ) -> Option<Self> {
        let Some(node) = node.and_then(|node| node.node) else {
            violations.add("node", "must say where to begin");
            return None;
        };
        let mut named =
            |field: &str, name: &str| violations.parse(field, request::name(name, usize::MAX));
        let all = |dataset: Dataset, resource, label| {
            Some(Self::Name {
                namespace: dataset.namespace,
                name: dataset.name,
                resource,
                label,
            })
        };
        match node {
            Ref::RunId(id) => violations
                .parse("node.run_id", request::uuid(&id))
                .map(Self::Run),
            Ref::Dataset(d) => {
                let namespace = named("node.dataset.namespace", &d.namespace)?;
                let name = named("node.dataset.name", &d.name)?;
                let label = format!("{namespace} {name} {}", d.version)
                    .trim_end()
                    .to_owned();
                Some(if d.version.is_empty() {
                    Self::Name {
                        namespace,
                        name,
                        resource: "dataset",
                        label,
                    }
                } else {
                    Self::Version {
                        namespace,
                        name,
                        version: d.version,
                        resource: "dataset",
                        label,
                    }
                })
            }
            Ref::ModelVersion(m) => {
                let model = named("node.model_version.model", &m.model)?;
                if m.version == 0 {
                    violations.add("node.model_version.version", "versions are counted from 1");
                    return None;
                }
                let Dataset {
                    namespace,
                    name,
                    version,
                    ..
                } = names.model_version(&model, m.version);
                let label = format!("{model} {}", m.version);
                Some(Self::Version {
                    namespace,
                    name,
                    version,
                    resource: "model version",
                    label,
                })
            }
            Ref::FeatureView(view) => {
                let view = named("node.feature_view", &view)?;
                all(names.feature_view_name(&view), "feature view", view)
            }
            Ref::Source(source) => {
                let source = named("node.source", &source)?;
                all(names.source_name(&source), "source", source)
            }
            Ref::TrainingSet(set) => {
                let set = named("node.training_set", &set)?;
                all(names.training_set(&set), "training set", set)
            }
        }
    }
}

/// The nodes where a walk begins.
#[derive(Debug)]
pub(super) struct Start {
    /// At least one.
    pub(super) nodes: Vec<NodeId>,
    /// Stands for all of `nodes` where these are several versions of one thing.
    pub(super) whole: Option<dataset::Model>,
}

/// Finds the nodes; NOT_FOUND where the lineage does not know the thing.
pub(super) async fn find(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    wanted: Wanted,
    max_nodes: usize,
) -> Result<Start> {
    let (namespace, name, resource, label) = match wanted {
        Wanted::Run(id) => {
            let known = run::Entity::find_by_id((scope.project_id(), id))
                .count(conn)
                .await?
                > 0;
            return if known {
                Ok(one(NodeId::Run(id)))
            } else {
                Err(Error::not_found("run", id))
            };
        }
        Wanted::Version {
            namespace,
            name,
            version,
            resource,
            label,
        } => {
            let id = dataset_id(&namespace, &name, &version);
            let known = dataset::Entity::find_by_id((scope.project_id(), id))
                .count(conn)
                .await?
                > 0;
            return if known {
                Ok(one(NodeId::Dataset(id)))
            } else {
                Err(Error::not_found(resource, label))
            };
        }
        Wanted::Name {
            namespace,
            name,
            resource,
            label,
        } => (namespace, name, resource, label),
    };
    let versions = versions(conn, scope, name_id(&namespace, &name), max_nodes).await?;
    let nodes: Vec<NodeId> = versions
        .iter()
        .map(|version| NodeId::Dataset(version.id))
        .collect();
    let whole = match versions.as_slice() {
        [] => return Err(Error::not_found(resource, label)),
        [_] => None,
        [newest, ..] => Some(dataset::Model {
            id: dataset_id(&namespace, &name, ""),
            name_id: name_id(&namespace, &name),
            namespace,
            name,
            version: String::new(),
            dataset_type: newest.dataset_type.clone(),
            first_seen_at: versions
                .iter()
                .map(|v| v.first_seen_at)
                .min()
                .unwrap_or_default(),
            last_seen_at: versions
                .iter()
                .map(|v| v.last_seen_at)
                .max()
                .unwrap_or_default(),
            project_id: scope.project_id(),
        }),
    };
    Ok(Start { nodes, whole })
}

fn one(node: NodeId) -> Start {
    Start {
        nodes: vec![node],
        whole: None,
    }
}

/// The versions of a dataset under its own or another name, the newest first.
async fn versions(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    name_id: Uuid,
    max_nodes: usize,
) -> Result<Vec<dataset::Model>> {
    let mut name_ids: Vec<Uuid> = symlink::Entity::find()
        .filter(symlink::Column::ProjectId.eq(scope.project_id()))
        .filter(symlink::Column::SymlinkId.eq(name_id))
        .select_only()
        .column(symlink::Column::NameId)
        .limit(max_nodes as u64)
        .into_tuple()
        .all(conn)
        .await?;
    name_ids.push(name_id);
    Ok(dataset::Entity::find()
        .filter(dataset::Column::ProjectId.eq(scope.project_id()))
        .filter(dataset::Column::NameId.is_in(name_ids))
        .order_by_desc(dataset::Column::LastSeenAt)
        .order_by_desc(dataset::Column::FirstSeenAt)
        .order_by_asc(dataset::Column::Id)
        .limit(max_nodes as u64)
        .all(conn)
        .await?)
}

#[cfg(test)]
mod tests {
    use mlplat_proto::lineage::v1::{DatasetRef, ModelVersionRef};

    use super::*;

    fn parse(node: Ref) -> (Option<Wanted>, bool) {
        let mut violations = Violations::new();
        let names = Names::new("laptop", "default");
        let wanted = Wanted::parse(&mut violations, Some(NodeRef { node: Some(node) }), &names);
        (wanted, violations.is_empty())
    }

    #[test]
    fn a_model_version_is_a_dataset() {
        let (wanted, fine) = parse(Ref::ModelVersion(ModelVersionRef {
            model: "delay".to_owned(),
            version: 2,
        }));
        let Some(Wanted::Version {
            namespace,
            name,
            version,
            ..
        }) = wanted
        else {
            panic!("{wanted:?}")
        };
        assert_eq!(
            (namespace.as_str(), name.as_str(), version.as_str()),
            ("mlplat://laptop/default", "models/delay", "2")
        );
        assert!(fine);
    }

    #[test]
    fn a_name_without_version_stands_for_all() {
        let whole = DatasetRef {
            namespace: "file".to_owned(),
            name: "/w.parquet".to_owned(),
            version: String::new(),
        };
        assert!(matches!(
            parse(Ref::Dataset(whole)).0,
            Some(Wanted::Name { .. })
        ));
        assert!(matches!(
            parse(Ref::FeatureView("weather".to_owned())).0,
            Some(Wanted::Name { .. })
        ));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            Ref::RunId("x".to_owned()),
            Ref::FeatureView(String::new()),
            Ref::Dataset(DatasetRef::default()),
            Ref::ModelVersion(ModelVersionRef {
                model: "delay".to_owned(),
                version: 0,
            }),
        ] {
            assert_eq!(parse(bad), (None, false));
        }
        let mut violations = Violations::new();
        assert_eq!(
            Wanted::parse(&mut violations, None, &Names::new("a", "b")),
            None
        );
        assert!(!violations.is_empty());
    }
}
