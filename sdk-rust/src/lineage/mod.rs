//! Lineage: where things came from and what was made from them.
//!
//! Invariant: the graph is what the server knows; the client only draws it (`tree.rs` as text, `svg.rs` as a picture) and
//! finds paths in it (`graph.rs`).

mod graph;
mod layout;
mod svg;
mod tree;

use std::time::SystemTime;

use mlplat_proto::lineage::v1::{
    self as pb, lineage_service_client::LineageServiceClient, node_ref::Node as Start,
};
use tonic::transport::Channel;

pub use graph::{Edge, Graph, Node, NodeKind};

use crate::{
    call::{MAX_MESSAGE_BYTES, rpc},
    catalogue::ModelVersion,
    client::Client,
    convert::filled_time,
    error::Result,
    page::Paged,
    tracking::{ActiveRun, Run, checked_run_id},
};

/// Calls about lineage; from [`Client::lineage`].
#[derive(Debug, Clone)]
pub struct Lineage {
    client: Client,
}

/// Which way to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To what the node was made from.
    Upstream,
    /// To what was made from the node.
    Downstream,
    /// Both ways.
    Both,
}

/// Where a walk begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeRef {
    /// A dataset by its OpenLineage name; without a version all of them.
    Dataset {
        /// OpenLineage namespace.
        namespace: String,
        /// OpenLineage name.
        name: String,
        /// Version; empty: all.
        version: String,
    },
    /// A run, by its id.
    Run(String),
    /// A version of a model.
    ModelVersion {
        /// Name of the model.
        model: String,
        /// Number of the version.
        version: u32,
    },
    /// A feature view, by name.
    FeatureView(String),
    /// A source, by name.
    Source(String),
    /// A training set, by name.
    TrainingSet(String),
}

impl NodeRef {
    /// A version of a model.
    pub fn model_version(model: impl Into<String>, version: u32) -> Self {
        Self::ModelVersion {
            model: model.into(),
            version,
        }
    }

    /// A dataset by its OpenLineage name, in all versions.
    pub fn dataset(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Dataset {
            namespace: namespace.into(),
            name: name.into(),
            version: String::new(),
        }
    }

    fn into_proto(self) -> Result<pb::NodeRef> {
        let node = match self {
            Self::Dataset {
                namespace,
                name,
                version,
            } => Start::Dataset(pb::DatasetRef {
                namespace,
                name,
                version,
            }),
            Self::Run(id) => Start::RunId(checked_run_id(&id)?),
            Self::ModelVersion { model, version } => {
                Start::ModelVersion(pb::ModelVersionRef { model, version })
            }
            Self::FeatureView(name) => Start::FeatureView(name),
            Self::Source(name) => Start::Source(name),
            Self::TrainingSet(name) => Start::TrainingSet(name),
        };
        Ok(pb::NodeRef { node: Some(node) })
    }
}

impl From<&ModelVersion> for NodeRef {
    fn from(version: &ModelVersion) -> Self {
        Self::model_version(&version.model, version.version)
    }
}

impl From<&Run> for NodeRef {
    fn from(run: &Run) -> Self {
        Self::Run(run.id.clone())
    }
}

impl From<&ActiveRun> for NodeRef {
    fn from(run: &ActiveRun) -> Self {
        Self::Run(run.id().to_owned())
    }
}

/// An OpenLineage event as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// UUIDv7 of the record.
    pub id: String,
    /// When it happened, as the event says.
    pub event_time: SystemTime,
    /// When it was recorded.
    pub recorded_at: SystemTime,
    /// START, RUNNING, COMPLETE, ABORT, FAIL or OTHER.
    pub event_type: String,
    /// OpenLineage runId.
    pub run_id: String,
    /// Namespace of the job.
    pub job_namespace: String,
    /// Name of the job.
    pub job_name: String,
    /// The whole OpenLineage event, its JSON text verbatim.
    pub openlineage: String,
}

impl From<pb::Event> for Event {
    fn from(e: pb::Event) -> Self {
        Self {
            id: e.id,
            event_time: filled_time(e.event_time),
            recorded_at: filled_time(e.recorded_at),
            event_type: e.event_type,
            run_id: e.run_id,
            job_namespace: e.job_namespace,
            job_name: e.job_name,
            openlineage: e.openlineage,
        }
    }
}

/// How far a walk goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphLimits {
    /// Most edges from the beginning; 0 means 50, at most 200.
    pub depth: u32,
    /// Most nodes; 0 means 1000, at most 10,000.
    pub max_nodes: u32,
}

impl GraphLimits {
    /// At most so many edges from the beginning.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// At most so many nodes.
    #[must_use]
    pub fn max_nodes(mut self, max_nodes: u32) -> Self {
        self.max_nodes = max_nodes;
        self
    }
}

fn lineage(channel: Channel) -> LineageServiceClient<Channel> {
    LineageServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Lineage {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// What a thing was made from: `upstream(&version)`, `upstream(&run)`, `upstream(NodeRef::FeatureView(…))`.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when the lineage does not know it.
    pub async fn upstream(&self, node: impl Into<NodeRef>) -> Result<Graph> {
        self.graph(node, Direction::Upstream, GraphLimits::default())
            .await
    }

    /// What was made from a thing.
    ///
    /// # Errors
    /// As [`Lineage::upstream`].
    pub async fn downstream(&self, node: impl Into<NodeRef>) -> Result<Graph> {
        self.graph(node, Direction::Downstream, GraphLimits::default())
            .await
    }

    /// The graph around a thing.
    ///
    /// # Errors
    /// As [`Lineage::upstream`].
    pub async fn graph(
        &self,
        node: impl Into<NodeRef>,
        direction: Direction,
        limits: GraphLimits,
    ) -> Result<Graph> {
        let request = pb::GetLineageRequest {
            project: self.client.project().to_owned(),
            node: Some(node.into().into_proto()?),
            direction: match direction {
                Direction::Upstream => pb::Direction::Upstream,
                Direction::Downstream => pb::Direction::Downstream,
                Direction::Both => pb::Direction::Both,
            }
            .into(),
            depth: limits.depth,
            max_nodes: limits.max_nodes,
        };
        let answer = rpc!(self.client, Repeatable, lineage.get_lineage, request)?;
        Ok(Graph {
            nodes: answer.nodes.into_iter().map(Node::from).collect(),
            edges: answer
                .edges
                .into_iter()
                .map(|edge| Edge {
                    from: edge.from,
                    to: edge.to,
                })
                .collect(),
            direction,
            truncated: answer.truncated,
        })
    }

    /// The events of the project, newest first; of one run where one is given.
    pub fn events(&self, run_id: Option<&str>) -> Paged<Event> {
        let (client, run_id) = (self.client.clone(), run_id.unwrap_or_default().to_owned());
        Paged::new(move |page_token| {
            let (client, run_id) = (client.clone(), run_id.clone());
            async move {
                let project = client.project().to_owned();
                let request = pb::ListEventsRequest {
                    project,
                    run_id,
                    page_size: 0,
                    page_token,
                };
                let answer = rpc!(client, Repeatable, lineage.list_events, request)?;
                Ok((
                    answer.events.into_iter().map(Event::from).collect(),
                    answer.next_page_token,
                ))
            }
        })
    }
}
