//! The graph as a tree of text, from where the walk began.
//!
//! Invariant: every node is written out once; where it comes up again it only says so. Ends on every graph, cycles included,
//! and does not use the stack for depth.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use super::{Direction, Graph, Node};

pub(super) fn write(graph: &Graph, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(start) = graph.nodes.first() else {
        return f.write_str("(empty graph)");
    };
    match graph.direction {
        Direction::Upstream => write_one(graph, start, true, f)?,
        Direction::Downstream => write_one(graph, start, false, f)?,
        Direction::Both => {
            f.write_str("upstream of ")?;
            write_one(graph, start, true, f)?;
            f.write_str("\ndownstream of ")?;
            write_one(graph, start, false, f)?;
        }
    }
    if graph.truncated {
        f.write_str("\n… and more: the graph was cut short")
    } else {
        Ok(())
    }
}

/// A node that waits to be written: the line before its branch, and whether it is the last of its siblings.
struct Pending<'a> {
    node: &'a Node,
    indent: String,
    last: bool,
}

fn write_one(
    graph: &Graph,
    start: &Node,
    upstream: bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let nodes: HashMap<&str, &Node> = graph
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let mut next: HashMap<&str, Vec<&Node>> = HashMap::new();
    for edge in &graph.edges {
        let (at, to) = if upstream {
            (&edge.to, &edge.from)
        } else {
            (&edge.from, &edge.to)
        };
        if let Some(&node) = nodes.get(to.as_str()) {
            next.entry(at).or_default().push(node);
        }
    }
    let mut written: HashSet<&str> = HashSet::from([start.id.as_str()]);
    let mut waiting = Vec::new();
    write!(f, "{start}")?;
    push_children(&mut waiting, &next, start, "");
    while let Some(Pending { node, indent, last }) = waiting.pop() {
        write!(f, "\n{indent}{} {node}", if last { "└─" } else { "├─" })?;
        if written.insert(&node.id) {
            let indent = format!("{indent}{}", if last { "   " } else { "│  " });
            push_children(&mut waiting, &next, node, &indent);
        } else if next.contains_key(node.id.as_str()) {
            f.write_str(" (see above)")?;
        }
    }
    Ok(())
}

/// Puts the children on the stack so that the first comes off first.
fn push_children<'a>(
    waiting: &mut Vec<Pending<'a>>,
    next: &HashMap<&str, Vec<&'a Node>>,
    node: &Node,
    indent: &str,
) {
    let children = next.get(node.id.as_str()).map_or(&[][..], Vec::as_slice);
    for (at, child) in children.iter().enumerate().rev() {
        waiting.push(Pending {
            node: child,
            indent: indent.to_owned(),
            last: at + 1 == children.len(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::samples::*;
    use super::*;

    #[test]
    fn a_training_reads_from_the_model_to_the_files() {
        let expected = "\
model arrival-delay (v1)
└─ run experiments/delays (COMPLETE deadbeef)
   └─ training set delays-2013
      └─ run historical (COMPLETE deadbeef)
         ├─ feature view weather (v1)
         │  └─ file /data/weather.parquet (9f86d081)
         ├─ feature view busy (v2)
         │  └─ file /data/flights.parquet
         └─ file /data/flights.parquet";
        assert_eq!(training().to_string(), expected);
    }

    #[test]
    fn cycles_end() {
        let graph = Graph {
            nodes: vec![dataset("TABLE", "a", ""), run("b", "")],
            edges: vec![edge("a", "b"), edge("b", "a")],
            direction: Direction::Both,
            truncated: true,
        };
        let expected = "\
upstream of table a
└─ run b (deadbeef)
   └─ table a (see above)
downstream of table a
└─ run b (deadbeef)
   └─ table a (see above)
… and more: the graph was cut short";
        assert_eq!(graph.to_string(), expected);
    }

    #[test]
    fn long_chains_do_not_use_the_stack() {
        let nodes = (0..20_000)
            .map(|n| dataset("", &n.to_string(), ""))
            .collect();
        let edges = (1..200)
            .map(|n| edge(&n.to_string(), &(n - 1).to_string()))
            .collect();
        let graph = Graph {
            nodes,
            edges,
            direction: Direction::Upstream,
            truncated: false,
        };
        assert_eq!(graph.to_string().lines().count(), 200);
    }
}
