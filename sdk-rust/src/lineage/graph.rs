//! The lineage graph as data: nodes, edges, and ways through it.
//!
//! Invariant: edges point the way the data went. Ids mean something only within one graph.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    time::SystemTime,
};

use mlplat_proto::lineage::v1 as pb;

use super::{Direction, svg, tree};
use crate::convert::filled_time;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A dataset, in one version where that is known.
    Dataset,
    /// One run of a job.
    Run,
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Identifies the node in this graph.
    pub id: String,
    /// Dataset or run.
    pub kind: NodeKind,
    /// OpenLineage namespace of the dataset or job.
    pub namespace: String,
    /// OpenLineage name of the dataset or job.
    pub name: String,
    /// Version of a dataset; empty where it is not known.
    pub version: String,
    /// OpenLineage runId of a run.
    pub run_id: String,
    /// `datasetType` of a dataset (FILE, FEATURE_VIEW, TRAINING_SET, MODEL, …), or `jobType` of the job.
    pub node_type: String,
    /// State of a run as its last event says: START, RUNNING, COMPLETE, FAIL, ABORT.
    pub state: String,
    /// When it was first seen.
    pub first_seen_at: SystemTime,
    /// When it was last seen.
    pub last_seen_at: SystemTime,
}

impl Node {
    /// The type in plain words: `feature view`, `training set`, `run`, …
    pub fn type_label(&self) -> String {
        match (self.kind, self.node_type.is_empty()) {
            (NodeKind::Run, _) => "run".to_owned(),
            (NodeKind::Dataset, true) => "dataset".to_owned(),
            (NodeKind::Dataset, false) => self.node_type.replace('_', " ").to_lowercase(),
        }
    }

    /// The name without what its type says already: the directories of a file, the `feature_views/` of a feature view.
    pub(super) fn short_name(&self) -> &str {
        let is_file = self.node_type == "FILE"
            || self.namespace == "file"
            || self.namespace.starts_with("s3:");
        let short = match self.kind {
            NodeKind::Run => self.name.strip_prefix("experiments/"),
            NodeKind::Dataset if is_file || self.node_type == "ARTIFACT" => {
                self.name.rsplit('/').find(|part| !part.is_empty())
            }
            NodeKind::Dataset if self.namespace.starts_with("mlplat:") => {
                self.name.split_once('/').map(|(_, name)| name)
            }
            NodeKind::Dataset => None,
        };
        short.unwrap_or(&self.name)
    }

    /// What tells this version or run from others: `v3`, the beginning of a digest, the end of a run id, a state.
    pub(super) fn detail(&self) -> String {
        let short = |text: &str| {
            if text.chars().count() > 12 {
                text.chars().take(8).collect()
            } else {
                text.to_owned()
            }
        };
        match self.kind {
            NodeKind::Dataset if self.version.is_empty() => String::new(),
            NodeKind::Dataset
                if self.version.bytes().all(|b| b.is_ascii_digit()) && self.version.len() < 8 =>
            {
                format!("v{}", self.version)
            }
            NodeKind::Dataset => short(&self.version),
            // The random end of a UUIDv7; its beginning is the time, much the same for runs of one day.
            NodeKind::Run => {
                let tail = self.run_id.len().saturating_sub(8);
                let id = self.run_id.get(tail..).unwrap_or_default();
                [self.state.as_str(), id]
                    .iter()
                    .filter(|t| !t.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join(" ")
            }
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.type_label(), self.name)?;
        let detail = self.detail();
        if detail.is_empty() {
            Ok(())
        } else {
            write!(f, " ({detail})")
        }
    }
}

/// An edge of the graph; it points the way the data went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Edge {
    /// Id of the node that was read or that wrote.
    pub from: String,
    /// Id of the node that read or was written.
    pub to: String,
}

/// A part of the lineage graph. Displays as a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Graph {
    /// The nodes; the first one is where the walk began, then those nearest to it.
    pub nodes: Vec<Node>,
    /// The edges between them.
    pub edges: Vec<Edge>,
    /// Which way was walked.
    pub direction: Direction,
    /// True when a limit cut the graph short.
    pub truncated: bool,
}

impl Graph {
    /// The node of this id.
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Of the nodes whose name contains this text the one nearest to the beginning.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name.contains(name))
    }

    /// The graph as a self-contained SVG picture, data flowing from left to right: datasets as rectangles, runs as pills.
    pub fn to_svg(&self) -> String {
        svg::draw(self)
    }

    /// A shortest way along the data from one node to another, both ends included; none where there is no way.
    pub fn path(&self, from: &str, to: &str) -> Option<Vec<&Node>> {
        let mut next: HashMap<&str, Vec<&str>> = HashMap::new();
        for edge in &self.edges {
            next.entry(&edge.from).or_default().push(&edge.to);
        }
        let (mut seen, mut came_from) = (HashSet::from([from]), HashMap::new());
        let mut waiting = VecDeque::from([from]);
        while let Some(at) = waiting.pop_front() {
            if at == to {
                let ids = std::iter::successors(Some(at), |id| came_from.get(id).copied());
                let mut path = ids.map(|id| self.node(id)).collect::<Option<Vec<_>>>()?;
                path.reverse();
                return Some(path);
            }
            for &id in next.get(at).into_iter().flatten() {
                if seen.insert(id) {
                    came_from.insert(id, at);
                    waiting.push_back(id);
                }
            }
        }
        None
    }

    /// A shortest way along the data that leads through nodes of these names, in this order; empty where there is none. Of a
    /// name any node counts that contains it.
    pub fn path_through(&self, names: &[impl AsRef<str>]) -> Vec<&Node> {
        let Some((first, rest)) = names.split_first() else {
            return Vec::new();
        };
        // The best way so far to each node of the name before.
        let mut ways: Vec<Vec<&Node>> = self
            .named(first.as_ref())
            .into_iter()
            .map(|node| vec![node])
            .collect();
        for name in rest {
            let longer = self.named(name.as_ref()).into_iter().filter_map(|node| {
                ways.iter()
                    .filter_map(|way| self.longer(way, node))
                    .min_by_key(Vec::len)
            });
            ways = longer.collect();
        }
        ways.into_iter().min_by_key(Vec::len).unwrap_or_default()
    }

    fn named(&self, name: &str) -> Vec<&Node> {
        self.nodes
            .iter()
            .filter(|node| node.name.contains(name))
            .collect()
    }

    /// The way and on from its end to `node`.
    fn longer<'a>(&'a self, way: &[&'a Node], node: &Node) -> Option<Vec<&'a Node>> {
        let rest = self.path(&way.last()?.id, &node.id)?;
        Some(
            way.iter()
                .copied()
                .chain(rest.into_iter().skip(1))
                .collect(),
        )
    }

    /// As [`Graph::path`], as one line of text: `file weather.parquet -> feature view weather (v1) -> …`.
    pub fn path_text(&self, from: &str, to: &str) -> Option<String> {
        let names: Vec<String> = self
            .path(from, to)?
            .into_iter()
            .map(ToString::to_string)
            .collect();
        Some(names.join(" -> "))
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tree::write(self, f)
    }
}

impl From<pb::Node> for Node {
    fn from(n: pb::Node) -> Self {
        let kind = match n.kind() {
            pb::NodeKind::Run => NodeKind::Run,
            pb::NodeKind::Dataset | pb::NodeKind::Unspecified => NodeKind::Dataset,
        };
        Self {
            kind,
            id: n.id,
            namespace: n.namespace,
            name: n.name,
            version: n.version,
            run_id: n.run_id,
            node_type: n.r#type,
            state: n.state,
            first_seen_at: filled_time(n.first_seen_at),
            last_seen_at: filled_time(n.last_seen_at),
        }
    }
}

#[cfg(test)]
pub(super) mod samples {
    use std::time::UNIX_EPOCH;

    use super::*;

    pub(in crate::lineage) fn dataset(node_type: &str, name: &str, version: &str) -> Node {
        Node {
            id: name.to_owned(),
            kind: NodeKind::Dataset,
            namespace: String::new(),
            name: name.to_owned(),
            version: version.to_owned(),
            run_id: String::new(),
            node_type: node_type.to_owned(),
            state: String::new(),
            first_seen_at: UNIX_EPOCH,
            last_seen_at: UNIX_EPOCH,
        }
    }

    pub(in crate::lineage) fn run(name: &str, state: &str) -> Node {
        let run_id = "01941f29-7c00-7000-8000-0000deadbeef".to_owned();
        Node {
            kind: NodeKind::Run,
            run_id,
            state: state.to_owned(),
            ..dataset("", name, "")
        }
    }

    pub(in crate::lineage) fn edge(from: &str, to: &str) -> Edge {
        Edge {
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }

    /// Two sources, two views, one training set, one model; the view `busy` is derived from `flights`.
    pub(in crate::lineage) fn training() -> Graph {
        Graph {
            nodes: vec![
                dataset("MODEL", "arrival-delay", "1"),
                run("experiments/delays", "COMPLETE"),
                dataset("TRAINING_SET", "delays-2013", ""),
                run("historical", "COMPLETE"),
                dataset("FEATURE_VIEW", "weather", "1"),
                dataset("FEATURE_VIEW", "busy", "2"),
                dataset("FILE", "/data/weather.parquet", "9f86d081884c7d65"),
                dataset("FILE", "/data/flights.parquet", ""),
            ],
            edges: vec![
                edge("experiments/delays", "arrival-delay"),
                edge("delays-2013", "experiments/delays"),
                edge("historical", "delays-2013"),
                edge("weather", "historical"),
                edge("busy", "historical"),
                edge("/data/weather.parquet", "weather"),
                edge("/data/flights.parquet", "busy"),
                edge("/data/flights.parquet", "historical"),
            ],
            direction: Direction::Upstream,
            truncated: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, samples::*};

    #[test]
    fn nodes_say_what_they_are() {
        let graph = training();
        assert_eq!(graph.nodes[0].to_string(), "model arrival-delay (v1)");
        assert_eq!(
            graph.nodes[1].to_string(),
            "run experiments/delays (COMPLETE deadbeef)"
        );
        assert_eq!(
            graph.nodes[6].to_string(),
            "file /data/weather.parquet (9f86d081)"
        );
        assert_eq!(graph.nodes[1].short_name(), "delays");
        assert_eq!(graph.nodes[6].short_name(), "weather.parquet");
        let view = Node {
            namespace: "mlplat://local/default".to_owned(),
            ..dataset("FEATURE_VIEW", "feature_views/weather", "1")
        };
        assert_eq!(view.short_name(), "weather");
        assert_eq!(graph.find("busy").unwrap().type_label(), "feature view");
    }

    #[test]
    fn the_shortest_way_along_the_data_is_found() {
        let graph = training();
        let text = graph
            .path_text("/data/flights.parquet", "arrival-delay")
            .unwrap();
        assert_eq!(
            text,
            "file /data/flights.parquet -> run historical (COMPLETE deadbeef) -> training set delays-2013 -> \
             run experiments/delays (COMPLETE deadbeef) -> model arrival-delay (v1)"
        );
        assert_eq!(
            graph.path("arrival-delay", "weather"),
            None,
            "data does not flow back"
        );
        assert_eq!(graph.path("weather", "weather").unwrap().len(), 1);
    }

    #[test]
    fn a_way_through_named_nodes_may_be_longer() {
        let graph = training();
        let names =
            |way: Vec<&super::Node>| way.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        let short = graph.path_through(&["flights.parquet", "arrival-delay"]);
        let through = graph.path_through(&["flights.parquet", "busy", "arrival-delay"]);
        assert_eq!(through.len(), short.len() + 1);
        assert!(names(through).contains(&"busy".to_owned()));
        assert!(
            graph
                .path_through(&["arrival-delay", "flights.parquet"])
                .is_empty()
        );
        assert!(graph.path_through(&["nothing"]).is_empty());
        assert!(graph.path_through(&[] as &[&str]).is_empty());
    }
}
