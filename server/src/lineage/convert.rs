//! The lineage on the wire.

use mlplat_proto::lineage::v1 as pb;

use super::{
    entity::{dataset, event, run},
    graph::{Graph, Node, NodeId, Way},
    start::Start,
};
use crate::clock::Timestamp;

/// The graph of a walk; where it began at all versions of a thing, the thing itself comes first.
pub(super) fn graph(graph: Graph, start: Start, ways: &[Way]) -> pb::GetLineageResponse {
    let mut nodes: Vec<pb::Node> = graph.nodes.into_iter().map(Into::into).collect();
    let mut edges: Vec<pb::Edge> = graph
        .edges
        .into_iter()
        .map(|(from, to)| edge(from, to))
        .collect();
    if let Some(whole) = start.whole {
        let id = NodeId::Dataset(whole.id);
        let versions = || start.nodes.iter().copied().filter(|&version| version != id);
        for way in ways {
            edges.extend(versions().map(|version| match way {
                Way::Up => edge(version, id),
                Way::Down => edge(id, version),
            }));
        }
        // The version that is not known has the same id; it is this node then.
        nodes.retain(|node| node.id != text(id));
        nodes.insert(0, whole.into());
        let kept: std::collections::HashSet<&str> =
            nodes.iter().map(|node| node.id.as_str()).collect();
        edges.retain(|edge| kept.contains(edge.from.as_str()) && kept.contains(edge.to.as_str()));
    }
    pb::GetLineageResponse {
        nodes,
        edges,
        truncated: graph.truncated,
    }
}

fn edge(from: NodeId, to: NodeId) -> pb::Edge {
    pb::Edge {
        from: text(from),
        to: text(to),
    }
}

fn text(id: NodeId) -> String {
    match id {
        NodeId::Dataset(id) => format!("dataset:{id}"),
        NodeId::Run(id) => format!("run:{id}"),
    }
}

fn time(micros: i64) -> Option<prost_types::Timestamp> {
    Some(Timestamp(micros).to_proto())
}

impl From<Node> for pb::Node {
    fn from(node: Node) -> Self {
        match node {
            Node::Dataset(dataset) => dataset.into(),
            Node::Run(run) => run.into(),
        }
    }
}

impl From<dataset::Model> for pb::Node {
    fn from(row: dataset::Model) -> Self {
        Self {
            id: text(NodeId::Dataset(row.id)),
            kind: pb::NodeKind::Dataset.into(),
            namespace: row.namespace,
            name: row.name,
            version: row.version,
            run_id: String::new(),
            r#type: row.dataset_type,
            state: String::new(),
            first_seen_at: time(row.first_seen_at),
            last_seen_at: time(row.last_seen_at),
        }
    }
}

impl From<run::Model> for pb::Node {
    fn from(row: run::Model) -> Self {
        Self {
            id: text(NodeId::Run(row.id)),
            kind: pb::NodeKind::Run.into(),
            namespace: row.job_namespace,
            name: row.job_name,
            version: String::new(),
            run_id: row.id.to_string(),
            r#type: row.job_type,
            state: row.state,
            first_seen_at: time(row.first_seen_at),
            last_seen_at: time(row.last_seen_at),
        }
    }
}

impl From<event::Model> for pb::Event {
    fn from(row: event::Model) -> Self {
        Self {
            id: row.id.to_string(),
            event_time: time(row.event_time_at),
            recorded_at: time(row.recorded_at),
            event_type: row.event_type,
            run_id: row.run_id.to_string(),
            job_namespace: row.job_namespace,
            job_name: row.job_name,
            openlineage: row.event,
        }
    }
}
