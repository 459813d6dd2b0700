//! The graph as a picture: one SVG file that needs nothing else, light or dark as the viewer is.
//!
//! Invariant: all text from outside is escaped, and no text is wider than its box; the full names are in tooltips.

use std::{collections::HashMap, fmt::Write as _};

use super::{Graph, Node, NodeKind, layout};

const BOX_WIDTH: f64 = 190.0;
const BOX_HEIGHT: f64 = 50.0;
const GAP_X: f64 = 56.0;
const GAP_Y: f64 = 18.0;
const MARGIN: f64 = 16.0;
/// Characters that fit into a box at the size of names, and at that of labels.
const NAME_CHARS: usize = 23;
const LABEL_CHARS: usize = 30;

const STYLE: &str = "\
.m{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}\
.m .n{font-size:13px;font-weight:600;fill:#1f2328}.m .l{font-size:10.5px;fill:#59636e}\
.m .e{fill:none;stroke:#8c959f;stroke-width:1.5}.m .h{fill:#8c959f}\
.m .b{stroke-width:1.5;fill:#fff}\
.m .file .b{stroke:#8c959f;fill:#f6f8fa}.m .view .b{stroke:#1a7f37;fill:#eefbf1}\
.m .set .b{stroke:#0969da;fill:#eef6ff}.m .model .b{stroke:#8250df;fill:#f8f1ff}\
.m .run .b{stroke:#bc4c00;fill:#fff5ec}.m .fail .b{stroke:#cf222e;fill:#fff0ee}\
.m .start .b{stroke-width:3}\
@media(prefers-color-scheme:dark){.m .n{fill:#f0f6fc}.m .l{fill:#9198a1}.m .e{stroke:#6e7681}.m .h{fill:#6e7681}\
.m .file .b{fill:#161b22}.m .view .b{fill:#0f2417}.m .set .b{fill:#0c2140}.m .model .b{fill:#231a3d}\
.m .run .b{fill:#2b1a0c}.m .fail .b{fill:#2d1214}}";

/// Draws the graph, data from left to right.
pub(super) fn draw(graph: &Graph) -> String {
    let index: HashMap<&str, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(at, node)| (node.id.as_str(), at))
        .collect();
    let ends = |edge: &super::Edge| {
        Some((
            *index.get(edge.from.as_str())?,
            *index.get(edge.to.as_str())?,
        ))
    };
    let edges: Vec<(usize, usize)> = graph.edges.iter().filter_map(ends).collect();
    let layout = layout::place(graph.nodes.len(), &edges, BOX_HEIGHT, GAP_Y);
    let columns = layout.layers.max(1) as f64;
    let width = 2.0 * MARGIN + columns * BOX_WIDTH + (columns - 1.0) * GAP_X;
    let note_height = if graph.truncated { 20.0 } else { 0.0 };
    let height = 2.0 * MARGIN + layout.height.max(BOX_HEIGHT) + note_height;

    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" class=\"m\"><title>{}</title><style>{STYLE}</style>",
        escaped(&title(graph))
    );
    svg.push_str(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path class=\"h\" d=\"M0 0.5 8 4 0 7.5z\"/></marker></defs>",
    );
    for (&(from, to), bends) in edges.iter().zip(&layout.bends) {
        draw_edge(
            &mut svg,
            (layout.layer[from], layout.y[from]),
            (layout.layer[to], layout.y[to]),
            bends,
        );
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        draw_node(
            &mut svg,
            node,
            left(layout.layer[at]),
            MARGIN + layout.y[at] - BOX_HEIGHT / 2.0,
            at == 0,
        );
    }
    if graph.truncated {
        let y = height - MARGIN / 2.0;
        let _ = write!(
            svg,
            "<text class=\"l\" x=\"{MARGIN}\" y=\"{y:.1}\">… and more: the graph was cut short</text>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn left(layer: usize) -> f64 {
    MARGIN + layer as f64 * (BOX_WIDTH + GAP_X)
}

fn title(graph: &Graph) -> String {
    graph.nodes.first().map_or_else(
        || "Empty lineage graph".to_owned(),
        |node| format!("Lineage of {node}"),
    )
}

/// A curve from the right side of one box to the left side of another, straight where it passes other layers.
fn draw_edge(svg: &mut String, from: (usize, f64), to: (usize, f64), bends: &[(usize, f64)]) {
    let (mut x, mut y) = (left(from.0) + BOX_WIDTH, MARGIN + from.1);
    let _ = write!(
        svg,
        "<path class=\"e\" marker-end=\"url(#arrow)\" d=\"M{x:.1} {y:.1}"
    );
    let end = (left(to.0), MARGIN + to.1, false);
    let passed = bends
        .iter()
        .map(|&(layer, y)| (left(layer), MARGIN + y, true));
    for (next_x, next_y, passes) in passed.chain([end]) {
        let bow = ((next_x - x) / 2.0).abs().max(24.0);
        let _ = write!(
            svg,
            "C{:.1} {y:.1} {:.1} {next_y:.1} {next_x:.1} {next_y:.1}",
            x + bow,
            next_x - bow
        );
        (x, y) = (next_x, next_y);
        if passes {
            x += BOX_WIDTH;
            let _ = write!(svg, "H{x:.1}");
        }
    }
    svg.push_str("\"/>");
}

fn draw_node(svg: &mut String, node: &Node, x: f64, y: f64, is_start: bool) {
    // Runs are pills, datasets are boxes.
    let radius = if node.kind == NodeKind::Run {
        BOX_HEIGHT / 2.0
    } else {
        6.0
    };
    let start = if is_start { " start" } else { "" };
    let middle = x + BOX_WIDTH / 2.0;
    let detail = node.detail();
    let label = if detail.is_empty() {
        node.type_label()
    } else {
        format!("{} · {detail}", node.type_label())
    };
    let _ = write!(
        svg,
        "<g class=\"{}{start}\"><title>{}</title><rect class=\"b\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{BOX_WIDTH}\" \
         height=\"{BOX_HEIGHT}\" rx=\"{radius}\"/><text class=\"n\" x=\"{middle:.1}\" y=\"{:.1}\" \
         text-anchor=\"middle\">{}</text><text class=\"l\" x=\"{middle:.1}\" y=\"{:.1}\" \
         text-anchor=\"middle\">{}</text></g>",
        class_of(node),
        escaped(&tooltip(node)),
        y + 22.0,
        escaped(&shortened(node.short_name(), NAME_CHARS)),
        y + 38.0,
        escaped(&shortened(&label, LABEL_CHARS)),
    );
}

fn class_of(node: &Node) -> &'static str {
    match (node.kind, node.node_type.as_str()) {
        (NodeKind::Run, _) if matches!(node.state.as_str(), "FAIL" | "ABORT") => "run fail",
        (NodeKind::Run, _) => "run",
        (NodeKind::Dataset, kind) if kind.contains("VIEW") => "view",
        (NodeKind::Dataset, kind) if kind.contains("MODEL") => "model",
        (NodeKind::Dataset, kind) if kind.contains("SET") => "set",
        (NodeKind::Dataset, _) => "file",
    }
}

fn tooltip(node: &Node) -> String {
    let mut lines = vec![format!("{} {}", node.type_label(), node.name)];
    let facts = [
        ("namespace", &node.namespace),
        ("version", &node.version),
        ("run", &node.run_id),
        ("state", &node.state),
    ];
    lines.extend(
        facts
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name} {value}")),
    );
    lines.join("\n")
}

/// At most `limit` characters; what is left out is taken from the middle, as both ends tell names apart.
fn shortened(text: &str, limit: usize) -> String {
    let count = text.chars().count();
    if count <= limit {
        return text.to_owned();
    }
    let (head, tail) = ((limit - 1).div_ceil(2), (limit - 1) / 2);
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{begin}…{end}")
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push('\n'),
            // XML has no way to write other control characters.
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::graph::samples::*;
    use super::*;

    #[test]
    fn a_training_becomes_a_picture() {
        let svg = training().to_svg();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<g class=").count(), 8);
        assert_eq!(svg.matches("marker-end").count(), 8);
        assert!(svg.contains("<g class=\"model start\">"));
        assert!(svg.contains(">weather.parquet<"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn names_cannot_break_out() {
        let mut graph = training();
        graph.nodes[0].name = "</svg><script>alert(\"1\")&\u{1}".into();
        let svg = graph.to_svg();
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert!(!svg.contains("<script"));
        assert!(!svg.contains('\u{1}'));
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shortened("abcdefghij", 5), "ab…ij");
        assert_eq!(shortened("ääääääääää", 4), "ää…ä");
        assert_eq!(shortened("short", 5), "short");
    }

    #[test]
    fn an_empty_graph_is_still_a_picture() {
        let graph = Graph {
            nodes: vec![],
            edges: vec![],
            ..training()
        };
        assert!(graph.to_svg().contains("Empty lineage graph"));
    }
}
