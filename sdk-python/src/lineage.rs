//! The lineage graph: walked by the server, drawn by the Rust client.

use mlplat::lineage::{self, Direction, GraphLimits, NodeKind, NodeRef};
use pyo3::{prelude::*, types::PyModule};

use crate::{call::Call, client::Client, errors::misuse, html::escaped, notebook, time::Time};

/// A dataset or a run in the lineage graph.
#[pyclass(frozen, get_all, module = "mlplat")]
#[derive(Clone)]
struct Node {
    /// Identifies the node in its graph.
    id: String,
    /// `dataset` or `run`.
    kind: &'static str,
    /// OpenLineage namespace of the dataset or job.
    namespace: String,
    /// OpenLineage name of the dataset or job.
    name: String,
    /// Version of a dataset; empty where it is not known.
    version: String,
    /// OpenLineage runId of a run; empty for datasets.
    run_id: String,
    /// Type in plain words: `file`, `feature view`, `training set`, `model`, `run`, …
    r#type: String,
    /// State of a run: START, RUNNING, COMPLETE, FAIL, ABORT; empty for datasets.
    state: String,
    /// When it was first seen.
    first_seen_at: Time,
    /// When it was last seen.
    last_seen_at: Time,
    text: String,
}

#[pymethods]
impl Node {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("Node({:?})", self.text)
    }
}

impl From<&lineage::Node> for Node {
    fn from(node: &lineage::Node) -> Self {
        Self {
            id: node.id.clone(),
            kind: match node.kind {
                NodeKind::Dataset => "dataset",
                NodeKind::Run => "run",
            },
            namespace: node.namespace.clone(),
            name: node.name.clone(),
            version: node.version.clone(),
            run_id: node.run_id.clone(),
            r#type: node.type_label(),
            state: node.state.clone(),
            first_seen_at: node.first_seen_at.into(),
            last_seen_at: node.last_seen_at.into(),
            text: node.to_string(),
        }
    }
}

/// An edge of the graph; it points the way the data went.
#[pyclass(frozen, eq, hash, module = "mlplat")]
#[derive(Clone, PartialEq, Eq, Hash)]
struct Edge {
    source: String,
    target: String,
}

#[pymethods]
impl Edge {
    /// Id of the node that was read or that wrote.
    #[getter]
    fn source(&self) -> &str {
        &self.source
    }

    /// Id of the node that read or was written.
    #[getter]
    fn target(&self) -> &str {
        &self.target
    }

    fn __repr__(&self) -> String {
        format!("Edge({:?} -> {:?})", self.source, self.target)
    }
}

/// A part of the lineage graph.
#[pyclass(frozen, module = "mlplat")]
struct Graph(lineage::Graph);

#[pymethods]
impl Graph {
    /// The nodes; the first one is where the walk began, then those nearest to it.
    #[getter]
    fn nodes(&self) -> Vec<Node> {
        self.0.nodes.iter().map(Node::from).collect()
    }

    /// The edges between them.
    #[getter]
    fn edges(&self) -> Vec<Edge> {
        let edge = |edge: &lineage::Edge| Edge {
            source: edge.from.clone(),
            target: edge.to.clone(),
        };
        self.0.edges.iter().map(edge).collect()
    }

    /// True when a limit cut the graph short.
    #[getter]
    fn truncated(&self) -> bool {
        self.0.truncated
    }

    /// Of the nodes whose name contains this text the one nearest to the beginning; None where there is none.
    fn find(&self, name: &str) -> Option<Node> {
        self.0.find(name).map(Node::from)
    }

    /// A shortest way along the data that leads through nodes of these names, in this order; empty where there is none.
    ///
    /// Of a name any node counts that contains it: `graph.path("weather.parquet", "feature_views/weather", "my-model")`.
    #[pyo3(signature = (*names))]
    fn path(&self, names: Vec<String>) -> Vec<Node> {
        let way = self.0.path_through(&names);
        way.into_iter().map(Node::from).collect()
    }

    /// The graph as a self-contained SVG picture, data flowing from left to right.
    fn to_svg(&self) -> String {
        self.0.to_svg()
    }

    /// Prints the graph as a tree in a terminal, and draws it in a notebook.
    fn show(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        match notebook_display(py)? {
            Some(display) => display.call1((slf,))?,
            None => {
                let stdout = py.import("sys")?.getattr("stdout")?;
                stdout.call_method1("write", (format!("{}\n", slf.get().0),))?
            }
        };
        Ok(())
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!(
            "<Graph of {} nodes and {} edges>\n{}",
            self.0.nodes.len(),
            self.0.edges.len(),
            self.0
        )
    }

    fn _repr_svg_(&self) -> String {
        self.0.to_svg()
    }

    fn _repr_html_(&self) -> String {
        let note = escaped(&format!(
            "{} nodes, {} edges",
            self.0.nodes.len(),
            self.0.edges.len()
        ));
        format!(
            "<div style=\"overflow-x:auto\">{}</div><small>{note}</small>",
            self.0.to_svg()
        )
    }
}

/// IPython's `display`, where the code runs in a notebook.
fn notebook_display(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    if !notebook::is_running(py)? {
        return Ok(None);
    }
    py.import("IPython.display")?.getattr("display").map(Some)
}

/// An OpenLineage event as it was recorded.
#[pyclass(frozen, get_all, module = "mlplat")]
struct Event {
    /// UUIDv7 of the record.
    id: String,
    /// When it happened.
    event_time: Time,
    /// START, RUNNING, COMPLETE, ABORT, FAIL or OTHER.
    event_type: String,
    /// OpenLineage runId.
    run_id: String,
    /// Namespace of the job.
    job_namespace: String,
    /// Name of the job.
    job_name: String,
    /// The whole OpenLineage event as JSON text, verbatim.
    openlineage: String,
}

#[pymethods]
impl Event {
    fn __repr__(&self) -> String {
        format!(
            "Event({} {:?} run {})",
            self.event_type, self.job_name, self.run_id
        )
    }
}

/// Where a walk begins: kind, then name, then version or namespace where the kind has one.
fn node_ref(py: Python<'_>, kind: &str, name: String, extra: String) -> PyResult<NodeRef> {
    Ok(match kind {
        "run" => NodeRef::Run(name),
        "feature_view" => NodeRef::FeatureView(name),
        "source" => NodeRef::Source(name),
        "training_set" => NodeRef::TrainingSet(name),
        "dataset" => NodeRef::dataset(extra, name),
        "model" => match extra.parse() {
            Ok(version) => NodeRef::model_version(name, version),
            Err(_) => {
                return Err(misuse(
                    py,
                    format!("{extra:?} is not the number of a model version"),
                ));
            }
        },
        other => return Err(misuse(py, format!("{other:?} is not a kind of node"))),
    })
}

/// The graph around a node.
#[pyfunction]
fn lineage_graph(
    py: Python<'_>,
    client: &Client,
    node: (String, String, String),
    direction: &str,
    depth: u32,
    max_nodes: u32,
) -> PyResult<Call> {
    let lineage = client.get(py)?.lineage();
    let (kind, name, extra) = node;
    let node = node_ref(py, &kind, name, extra)?;
    let direction = match direction {
        "upstream" => Direction::Upstream,
        "downstream" => Direction::Downstream,
        _ => Direction::Both,
    };
    let limits = GraphLimits::default().depth(depth).max_nodes(max_nodes);
    Ok(Call::new(async move {
        Ok(Graph(lineage.graph(node, direction, limits).await?))
    }))
}

/// The events of the project, newest first.
#[pyfunction]
fn lineage_events(
    py: Python<'_>,
    client: &Client,
    run_id: Option<String>,
    limit: Option<usize>,
) -> PyResult<Call> {
    let lineage = client.get(py)?.lineage();
    Ok(Call::new(async move {
        let events = lineage.events(run_id.as_deref()).collect(limit).await?;
        let event = |event: lineage::Event| Event {
            id: event.id,
            event_time: event.event_time.into(),
            event_type: event.event_type,
            run_id: event.run_id,
            job_namespace: event.job_namespace,
            job_name: event.job_name,
            openlineage: event.openlineage,
        };
        Ok(events.into_iter().map(event).collect::<Vec<_>>())
    }))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Node>()?;
    module.add_class::<Edge>()?;
    module.add_class::<Graph>()?;
    module.add_class::<Event>()?;
    module.add_function(wrap_pyfunction!(lineage_graph, module)?)?;
    module.add_function(wrap_pyfunction!(lineage_events, module)?)
}
