//! Leaves out what a graph says twice: a retrieval reads files only by way of feature views, and its event names both.
//!
//! Invariant: an edge from a file (or a query over files) to a run goes only where the same file is there through a feature
//! view that the run reads as well; a file that has changed since the view was applied is another version, and keeps its
//! edge. Nothing is taken from what is stored, and every node stays. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::graph::{Node, NodeId, Way};

type Edges = BTreeSet<(NodeId, NodeId)>;

/// What a node is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Files, or a query over them.
    Raw,
    View,
    /// The definition of a view.
    Apply,
    /// What reads files by way of views: retrieval and materialization.
    Reader,
    Other,
}

fn part(node: &Node) -> Part {
    match node {
        Node::Dataset(dataset) => match dataset.dataset_type.as_str() {
            "FILE" | "SOURCE" => Part::Raw,
            "FEATURE_VIEW" => Part::View,
            _ => Part::Other,
        },
        Node::Run(run) => match run.job_type.as_str() {
            "APPLY" => Part::Apply,
            "HISTORICAL_FEATURES" | "MATERIALIZE" => Part::Reader,
            _ => Part::Other,
        },
    }
}

/// Takes the detours out, and puts the nodes into the order of their distance again.
pub(super) fn leave_out(nodes: &mut [Node], edges: &mut Edges, starts: &[NodeId], ways: &[Way]) {
    let parts: HashMap<NodeId, Part> = nodes.iter().map(|node| (node.id(), part(node))).collect();
    let is = |id: NodeId, wanted: Part| parts.get(&id) == Some(&wanted);
    let mut inputs: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for &(from, to) in edges.iter() {
        inputs.entry(to).or_default().push(from);
    }
    let mut raw_of_view: HashMap<NodeId, HashSet<NodeId>> = HashMap::new();
    let mut detours = Vec::new();
    for (&run, read) in &inputs {
        if !is(run, Part::Reader) && !is(run, Part::Apply) {
            continue;
        }
        for &view in read.iter().filter(|&&id| is(id, Part::View)) {
            let raw = raw_of_view
                .entry(view)
                .or_insert_with(|| raw_below(view, &inputs, &parts));
            detours.extend(
                read.iter()
                    .filter(|id| raw.contains(id))
                    .map(|&id| (id, run)),
            );
        }
    }
    if detours.is_empty() {
        return;
    }
    for detour in detours {
        edges.remove(&detour);
    }
    let distances = distances(edges, starts, ways);
    nodes.sort_by_key(|node| distances.get(&node.id()).copied().unwrap_or(usize::MAX));
}

/// The files and queries that a view was made from, through other views too.
fn raw_below(
    view: NodeId,
    inputs: &BTreeMap<NodeId, Vec<NodeId>>,
    parts: &HashMap<NodeId, Part>,
) -> HashSet<NodeId> {
    let mut raw = HashSet::new();
    let mut been = HashSet::from([view]);
    let mut waiting = vec![view];
    while let Some(at) = waiting.pop() {
        for &before in inputs.get(&at).into_iter().flatten() {
            match parts.get(&before) {
                Some(Part::Raw) => {
                    raw.insert(before);
                }
                Some(Part::View | Part::Apply) if been.insert(before) => waiting.push(before),
                _ => {}
            }
        }
    }
    raw
}

/// How many edges each node is away from the nearest beginning, by any of the ways.
fn distances(edges: &Edges, starts: &[NodeId], ways: &[Way]) -> HashMap<NodeId, usize> {
    let mut nearest: HashMap<NodeId, usize> = HashMap::new();
    for way in ways {
        let mut next: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        for &(from, to) in edges {
            let (at, then) = if *way == Way::Up {
                (to, from)
            } else {
                (from, to)
            };
            next.entry(at).or_default().push(then);
        }
        let mut been: HashSet<NodeId> = starts.iter().copied().collect();
        let mut waiting: VecDeque<(NodeId, usize)> =
            starts.iter().map(|&start| (start, 0)).collect();
        while let Some((at, distance)) = waiting.pop_front() {
            let known = nearest.entry(at).or_insert(distance);
            *known = distance.min(*known);
            for &then in next.get(&at).into_iter().flatten() {
                if been.insert(then) {
                    waiting.push_back((then, distance + 1));
                }
            }
        }
    }
    nearest
}
