//! Walks through the graph of dataset versions and runs.
//!
//! Invariant: a walk goes one way along the data (up- and downstream together are two walks, never a zigzag), ends on
//! every graph, and takes a few queries per level, however wide the level is. That one run caused another is no data and
//! not followed.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::anyhow;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use uuid::Uuid;

use super::{
    detours,
    entity::{dataset, edge, run},
};
use crate::{
    auth::Scope,
    error::{Error, Result},
};

/// Ids in one IN list.
const CHUNK: usize = 500;
/// Most edges that one query brings; what is beyond is cut off and said to be.
const MAX_EDGES: u64 = 20_000;

/// A node, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum NodeId {
    Dataset(Uuid),
    Run(Uuid),
}

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) depth: u32,
    pub(super) max_nodes: usize,
}

/// What is known of a node.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Dataset(dataset::Model),
    Run(run::Model),
}

impl Node {
    pub(super) fn id(&self) -> NodeId {
        match self {
            Self::Dataset(dataset) => NodeId::Dataset(dataset.id),
            Self::Run(run) => NodeId::Run(run.id),
        }
    }
}

/// A part of the graph; nodes nearest to the beginning first.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: BTreeSet<(NodeId, NodeId)>,
    pub(super) truncated: bool,
}

/// What was found so far.
struct Found {
    order: Vec<NodeId>,
    nodes: HashSet<NodeId>,
    edges: BTreeSet<(NodeId, NodeId)>,
    truncated: bool,
    max_nodes: usize,
}

impl Found {
    /// Takes a node in; false when there is no room for it.
    fn take(&mut self, node: NodeId) -> bool {
        if self.nodes.contains(&node) {
            return true;
        }
        if self.order.len() >= self.max_nodes {
            self.truncated = true;
            return false;
        }
        self.nodes.insert(node);
        self.order.push(node);
        true
    }
}

/// One walk: where it stands and where it has been.
struct Walk {
    way: Way,
    frontier: Vec<NodeId>,
    been: HashSet<NodeId>,
}

/// The graph from these nodes these ways.
pub(super) async fn walk(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    starts: &[NodeId],
    ways: &[Way],
    limits: Limits,
) -> Result<Graph> {
    let mut found = Found {
        order: Vec::new(),
        nodes: HashSet::new(),
        edges: BTreeSet::new(),
        truncated: false,
        max_nodes: limits.max_nodes,
    };
    let frontier: Vec<NodeId> = starts
        .iter()
        .copied()
        .filter(|&start| found.take(start))
        .collect();
    let mut walks: Vec<Walk> = ways
        .iter()
        .map(|&way| Walk {
            way,
            frontier: frontier.clone(),
            been: frontier.iter().copied().collect(),
        })
        .collect();
    for level in 0..=limits.depth {
        for walk in &mut walks {
            step(conn, scope, walk, &mut found, level == limits.depth).await?;
        }
    }
    let mut nodes = load(conn, scope, &found.order).await?;
    detours::leave_out(&mut nodes, &mut found.edges, starts, ways);
    Ok(Graph {
        nodes,
        edges: found.edges,
        truncated: found.truncated,
    })
}

/// One level on. At the end (`last`) only edges between nodes that are there are taken, to see whether there is more.
async fn step(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    walk: &mut Walk,
    found: &mut Found,
    last: bool,
) -> Result<()> {
    let frontier = std::mem::take(&mut walk.frontier);
    let (edges, complete) = edges_at(conn, scope, &frontier, walk.way).await?;
    found.truncated |= !complete;
    for (from, to) in edges {
        let next = if walk.way == Way::Up { from } else { to };
        if last && !found.nodes.contains(&next) {
            found.truncated = true;
        } else if found.take(next) {
            found.edges.insert((from, to));
            if walk.been.insert(next) {
                walk.frontier.push(next);
            }
        }
    }
    Ok(())
}

/// The edges that lead on from these nodes, and whether these are all.
async fn edges_at(
    conn: &impl ConnectionTrait,
    scope: &Scope,
    nodes: &[NodeId],
    way: Way,
) -> Result<(Vec<(NodeId, NodeId)>, bool)> {
    let (datasets, runs) = by_kind(nodes);
    // Upstream of a dataset is who wrote it, of a run what it read; downstream the other way round.
    let written_from_datasets = i16::from(way == Way::Up);
    let mut complete = true;
    let mut edges = Vec::new();
    for (column, written, ids) in [
        (edge::Column::DatasetId, written_from_datasets, datasets),
        (edge::Column::RunId, 1 - written_from_datasets, runs),
    ] {
        for ids in ids.chunks(CHUNK) {
            let rows = edge::Entity::find()
                .filter(edge::Column::ProjectId.eq(scope.project_id()))
                .filter(edge::Column::Written.eq(written))
                .filter(column.is_in(ids.iter().copied()))
                .order_by_desc(edge::Column::FirstSeenAt)
                .order_by_asc(edge::Column::RunId)
                .order_by_asc(edge::Column::DatasetId)
                .limit(MAX_EDGES)
                .all(conn)
                .await?;
            complete &= (rows.len() as u64) < MAX_EDGES;
            edges.extend(rows.into_iter().map(|row| {
                let (run, dataset) = (NodeId::Run(row.run_id), NodeId::Dataset(row.dataset_id));
                if row.written == 1 {
                    (run, dataset)
                } else {
                    (dataset, run)
                }
            }));
        }
    }
    Ok((edges, complete))
}

fn by_kind(nodes: &[NodeId]) -> (Vec<Uuid>, Vec<Uuid>) {
    let (mut datasets, mut runs) = (Vec::new(), Vec::new());
    for node in nodes {
        match node {
            NodeId::Dataset(id) => datasets.push(*id),
            NodeId::Run(id) => runs.push(*id),
        }
    }
    (datasets, runs)
}

/// What is known of these nodes, in their order.
async fn load(conn: &impl ConnectionTrait, scope: &Scope, order: &[NodeId]) -> Result<Vec<Node>> {
    let (datasets, runs) = by_kind(order);
    let mut known: HashMap<NodeId, Node> = HashMap::new();
    for ids in datasets.chunks(CHUNK) {
        let rows = dataset::Entity::find()
            .filter(dataset::Column::ProjectId.eq(scope.project_id()))
            .filter(dataset::Column::Id.is_in(ids.iter().copied()))
            .all(conn)
            .await?;
        known.extend(
            rows.into_iter()
                .map(|row| (NodeId::Dataset(row.id), Node::Dataset(row))),
        );
    }
    for ids in runs.chunks(CHUNK) {
        let rows = run::Entity::find()
            .filter(run::Column::ProjectId.eq(scope.project_id()))
            .filter(run::Column::Id.is_in(ids.iter().copied()))
            .all(conn)
            .await?;
        known.extend(
            rows.into_iter()
                .map(|row| (NodeId::Run(row.id), Node::Run(row))),
        );
    }
    order
        .iter()
        .map(|id| {
            known.remove(id).ok_or_else(|| {
                Error::internal(anyhow!("the lineage has an edge to nowhere: {id:?}"))
            })
        })
        .collect()
}
