//! Where the nodes of a graph go: layers from left to right along the data, rows that keep edges short and few crossing.
//!
//! Invariant: every edge that is not part of a cycle goes to a layer further right; boxes of one layer do not overlap. Works
//! on numbers only and knows nothing of lineage or drawing.
//!
//! The method is the usual one for layered drawings: longest-path layers, an invisible point in every layer that a long
//! edge passes, orders by barycentre, then rows moved towards the middle of their neighbours.

use std::collections::HashSet;

/// Most sweeps for orders and for rows; more do not change what one sees.
const SWEEPS: usize = 12;

/// A placed graph. Units are those of the sizes given.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// Layer of each node, from 0.
    pub(super) layer: Vec<usize>,
    /// Vertical middle of each node.
    pub(super) y: Vec<f64>,
    /// For each edge the points between its ends that it passes, as (layer, y).
    pub(super) bends: Vec<Vec<(usize, f64)>>,
    /// Number of layers.
    pub(super) layers: usize,
    /// Height of all of it.
    pub(super) height: f64,
}

/// One thing that takes a place in a layer: a node, or a point of a long edge.
struct Slot {
    layer: usize,
    height: f64,
    left: Vec<usize>,
    right: Vec<usize>,
}

/// Places `nodes` boxes of `height` with `gap` between them.
pub(super) fn place(nodes: usize, edges: &[(usize, usize)], height: f64, gap: f64) -> Layout {
    let layer = layers(nodes, edges);
    let mut slots: Vec<Slot> = (0..nodes)
        .map(|n| Slot {
            layer: layer[n],
            height,
            left: Vec::new(),
            right: Vec::new(),
        })
        .collect();
    let mut bend_slots = Vec::with_capacity(edges.len());
    for &(from, to) in edges {
        bend_slots.push(thread(&mut slots, from, to, height * 0.4));
    }
    let count = layer.iter().max().map_or(0, |max| max + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (at, slot) in slots.iter().enumerate() {
        rows[slot.layer].push(at);
    }
    order(&mut rows, &slots);
    let y = straighten(&rows, &slots, gap);
    let bends = bend_slots
        .into_iter()
        .map(|at| at.into_iter().map(|s| (slots[s].layer, y[s])).collect())
        .collect();
    let bottom = slots
        .iter()
        .zip(&y)
        .map(|(slot, y)| y + slot.height / 2.0)
        .fold(0.0, f64::max);
    Layout {
        layer,
        y: y[..nodes].to_vec(),
        bends,
        layers: count,
        height: bottom,
    }
}

/// Layer of each node: one more than the furthest node it comes from; edges that close a cycle do not count.
fn layers(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let back = back_edges(nodes, edges);
    let forward: Vec<(usize, usize)> = edges
        .iter()
        .enumerate()
        .filter(|(at, _)| !back.contains(at))
        .map(|(_, edge)| *edge)
        .collect();
    let (mut incoming, mut out) = (vec![0; nodes], vec![Vec::new(); nodes]);
    for &(from, to) in &forward {
        incoming[to] += 1;
        out[from].push(to);
    }
    let mut layer = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|&n| incoming[n] == 0).collect();
    let mut sorted = Vec::with_capacity(nodes);
    while let Some(node) = ready.pop() {
        sorted.push(node);
        for &to in &out[node] {
            layer[to] = layer[to].max(layer[node] + 1);
            incoming[to] -= 1;
            if incoming[to] == 0 {
                ready.push(to);
            }
        }
    }
    // Sources move right, next to what reads them, so that edges are short.
    for &node in sorted.iter().rev() {
        if let Some(nearest) = out[node].iter().map(|&to| layer[to]).min() {
            layer[node] = layer[node].max(nearest - 1);
        }
    }
    layer
}

/// Indices of the edges that lead back to a node on the way to their start, found depth first without recursion.
fn back_edges(nodes: usize, edges: &[(usize, usize)]) -> HashSet<usize> {
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    for (at, &(from, _)) in edges.iter().enumerate() {
        out[from].push(at);
    }
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        OnTheWay,
        Done,
    }
    let (mut state, mut back) = (vec![State::New; nodes], HashSet::new());
    for root in 0..nodes {
        if state[root] != State::New {
            continue;
        }
        state[root] = State::OnTheWay;
        let mut way = vec![(root, 0)];
        while let Some((node, next)) = way.last_mut() {
            let Some(&edge) = out[*node].get(*next) else {
                state[*node] = State::Done;
                way.pop();
                continue;
            };
            *next += 1;
            let to = edges[edge].1;
            match state[to] {
                State::OnTheWay => {
                    back.insert(edge);
                }
                State::New => {
                    state[to] = State::OnTheWay;
                    way.push((to, 0));
                }
                State::Done => {}
            }
        }
    }
    back
}

/// Links the ends of an edge through a slot in every layer between them, and returns these slots from start to end.
fn thread(slots: &mut Vec<Slot>, from: usize, to: usize, height: f64) -> Vec<usize> {
    let (start, end) = (slots[from].layer, slots[to].layer);
    let mut between = Vec::new();
    let mut previous = from;
    // Empty for an edge that closes a cycle; it is drawn as a plain curve.
    for layer in start + 1..end {
        slots.push(Slot {
            layer,
            height,
            left: vec![previous],
            right: Vec::new(),
        });
        let new = slots.len() - 1;
        slots[previous].right.push(new);
        between.push(new);
        previous = new;
    }
    if end > start {
        slots[previous].right.push(to);
        slots[to].left.push(previous);
    }
    between
}

/// Orders each layer by the mean position of the neighbours on one side, sweeping from left to right and back, and keeps the
/// order with the fewest crossings.
fn order(rows: &mut Vec<Vec<usize>>, slots: &[Slot]) {
    let mut best = (crossings(rows, slots), rows.clone());
    for sweep in 0..SWEEPS {
        let rightwards = sweep % 2 == 0;
        let layers: Vec<usize> = if rightwards {
            (0..rows.len()).collect()
        } else {
            (0..rows.len()).rev().collect()
        };
        let mut position = vec![0.0; slots.len()];
        for layer in layers {
            let mut keyed: Vec<(f64, usize)> = rows[layer]
                .iter()
                .enumerate()
                .map(|(at, &slot)| {
                    let sides = if rightwards {
                        &slots[slot].left
                    } else {
                        &slots[slot].right
                    };
                    (
                        mean(sides.iter().map(|&n| position[n])).unwrap_or(at as f64),
                        slot,
                    )
                })
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (at, (_, slot)) in keyed.into_iter().enumerate() {
                rows[layer][at] = slot;
                position[slot] = at as f64;
            }
        }
        let count = crossings(rows, slots);
        if count < best.0 {
            best = (count, rows.clone());
        }
    }
    *rows = best.1;
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Pairs of edges between neighbouring layers that cross.
fn crossings(rows: &[Vec<usize>], slots: &[Slot]) -> usize {
    let mut position = vec![0; slots.len()];
    for row in rows {
        for (at, &slot) in row.iter().enumerate() {
            position[slot] = at;
        }
    }
    let mut count = 0;
    for row in rows {
        let mut ends: Vec<usize> = Vec::new();
        for &slot in row {
            let mut here: Vec<usize> = slots[slot].right.iter().map(|&n| position[n]).collect();
            here.sort_unstable();
            count += here
                .iter()
                .map(|end| ends.len() - ends.partition_point(|e| e <= end))
                .sum::<usize>();
            ends.extend(here);
            ends.sort_unstable();
        }
    }
    count
}

/// The vertical middle of each slot: as near to the middle of its neighbours as order and gaps allow.
fn straighten(rows: &[Vec<usize>], slots: &[Slot], gap: f64) -> Vec<f64> {
    let mut y = vec![0.0; slots.len()];
    for row in rows {
        let wanted = vec![0.0; row.len()];
        settle(row, slots, gap, &wanted, &mut y);
    }
    for sweep in 0..SWEEPS {
        let layers: Vec<usize> = if sweep % 2 == 0 {
            (0..rows.len()).collect()
        } else {
            (0..rows.len()).rev().collect()
        };
        for layer in layers {
            let wanted: Vec<f64> = rows[layer]
                .iter()
                .map(|&slot| {
                    let near = slots[slot].left.iter().chain(&slots[slot].right);
                    mean(near.map(|&n| y[n])).unwrap_or(y[slot])
                })
                .collect();
            settle(&rows[layer], slots, gap, &wanted, &mut y);
        }
    }
    let top = slots
        .iter()
        .zip(&y)
        .map(|(slot, y)| y - slot.height / 2.0)
        .fold(f64::INFINITY, f64::min);
    y.iter().map(|y| y - top).collect()
}

/// Puts the slots of one layer where they want to be; those that would overlap form a block around their common middle.
fn settle(row: &[usize], slots: &[Slot], gap: f64, wanted: &[f64], y: &mut [f64]) {
    // A block: its first slot, and the sum and number of the tops that its members want for it.
    let mut blocks: Vec<(usize, f64, f64)> = Vec::new();
    let offsets: Vec<f64> = row
        .iter()
        .scan(0.0, |used, &slot| {
            let offset = *used + slots[slot].height / 2.0;
            *used += slots[slot].height + gap;
            Some(offset)
        })
        .collect();
    for at in 0..row.len() {
        blocks.push((at, wanted[at] - offsets[at], 1.0));
        while let [.., before, last] = blocks.as_slice() {
            if before.1 / before.2 < last.1 / last.2 {
                break;
            }
            let merged = (before.0, before.1 + last.1, before.2 + last.2);
            blocks.truncate(blocks.len() - 2);
            blocks.push(merged);
        }
    }
    for (at, &(first, sum, count)) in blocks.iter().enumerate() {
        let end = blocks.get(at + 1).map_or(row.len(), |next| next.0);
        for member in first..end {
            y[row[member]] = sum / count + offsets[member];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two boxes of a layer overlap, and every edge goes right.
    fn check(layout: &Layout, edges: &[(usize, usize)], height: f64, gap: f64) {
        for a in 0..layout.y.len() {
            for b in 0..a {
                let apart = (layout.y[a] - layout.y[b]).abs() >= height + gap - 1e-6;
                assert!(
                    layout.layer[a] != layout.layer[b] || apart,
                    "{a} and {b} overlap: {layout:?}"
                );
            }
        }
        for &(from, to) in edges {
            assert!(layout.layer[from] < layout.layer[to]);
        }
        assert!(
            layout
                .y
                .iter()
                .all(|y| *y >= height / 2.0 - 1e-6 && *y <= layout.height)
        );
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let edges = [(0, 1), (1, 2)];
        let layout = place(3, &edges, 40.0, 10.0);
        check(&layout, &edges, 40.0, 10.0);
        assert_eq!(layout.layer, [0, 1, 2]);
        assert!(layout.y.iter().all(|y| (y - 20.0).abs() < 1e-6));
    }

    #[test]
    fn long_edges_pass_beside_the_boxes() {
        let edges = [(0, 1), (1, 2), (0, 2)];
        let layout = place(3, &edges, 40.0, 10.0);
        check(&layout, &edges, 40.0, 10.0);
        let (layer, y) = layout.bends[2][0];
        assert_eq!(layer, 1);
        assert!((y - layout.y[1]).abs() >= 20.0);
    }

    #[test]
    fn crossings_are_undone() {
        // Written crosswise: 0 -> 3, 1 -> 2.
        let edges = [(0, 3), (1, 2)];
        let layout = place(4, &edges, 40.0, 10.0);
        check(&layout, &edges, 40.0, 10.0);
        assert_eq!((layout.y[0] < layout.y[1]), (layout.y[3] < layout.y[2]));
    }

    #[test]
    fn sources_stand_next_to_their_readers() {
        let edges = [(0, 1), (1, 2), (3, 2)];
        assert_eq!(place(4, &edges, 40.0, 10.0).layer, [0, 1, 2, 1]);
    }

    #[test]
    fn any_graph_is_placed() {
        assert_eq!(place(0, &[], 40.0, 10.0).layers, 0);
        place(2, &[(0, 1), (1, 0), (0, 0)], 40.0, 10.0);
        let edges: Vec<(usize, usize)> = (0..400).map(|n| (n / 3, n + 1)).collect();
        check(&place(401, &edges, 40.0, 10.0), &edges, 40.0, 10.0);
    }
}
