"""Lineage: where things came from, and what was made from them.

mlplat.lineage.upstream(version).show()
"""

from __future__ import annotations

from . import _arguments, _native
from ._connection import client as current_client
from ._errors import MisuseError, WrongTypeError
from ._native import Edge, Event, Graph, Node
from ._run_info import RunInfo
from ._table import TrainingSet
from .features._definitions import FeatureView, FeatureViewAlias, ParquetSource, SqlSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._types import LineageNode

__all__ = ["Edge", "Event", "Graph", "Node", "downstream", "events", "graph", "upstream"]

_KINDS = ("run", "model", "feature_view", "source", "training_set", "dataset")


def upstream(node: LineageNode, *, depth: int = 0, max_nodes: int = 0) -> Graph:
    """What a thing was made from.

    `node` is a model version, run, feature view, source or training set, or a text: the id of a run, `model:NAME@3`,
    `feature_view:NAME`, `source:NAME`, `training_set:NAME`, `dataset:NAMESPACE#NAME`. `depth` is the greatest number of
    edges from there (by default 50, at most 200), `max_nodes` that of nodes (by default 1,000, at most 10,000).
    """
    return graph_call(node, "upstream", depth, max_nodes).wait()


def downstream(node: LineageNode, *, depth: int = 0, max_nodes: int = 0) -> Graph:
    """What was made from a thing; see :func:`upstream`."""
    return graph_call(node, "downstream", depth, max_nodes).wait()


def graph(node: LineageNode, *, depth: int = 0, max_nodes: int = 0) -> Graph:
    """The graph around a thing, both ways; see :func:`upstream`."""
    return graph_call(node, "both", depth, max_nodes).wait()


def events(run: RunInfo | str | None = None, *, limit: int | None = 100) -> list[Event]:
    """The OpenLineage events of the project, newest first; of one run where one is given."""
    return events_call(run, limit).wait()


# Calls that both flavours make.


def graph_call(node: LineageNode, direction: str, depth: int, max_nodes: int) -> _native.Call[Graph]:
    limits = _arguments.integer(depth, "depth"), _arguments.integer(max_nodes, "max_nodes")
    if not all(0 <= limit < 2**32 for limit in limits):
        raise MisuseError("depth is at most 200, max_nodes at most 10,000, and neither is negative")
    return _native.lineage_graph(current_client(), _start(node), direction, *limits)


def events_call(run: RunInfo | str | None, limit: int | None) -> _native.Call[list[Event]]:
    if run is not None:
        run = run.id if isinstance(run, RunInfo) else _arguments.text(run, "run")
    limit = _arguments.optional_integer(limit, "limit", least=0)
    return _native.lineage_events(current_client(), run, limit)


def _start(node: LineageNode) -> tuple[str, str, str]:
    """Where the walk begins: kind, name, and version or namespace."""
    if isinstance(node, RunInfo):
        return "run", node.id, ""
    if isinstance(node, _native.ModelVersion):
        return "model", node.name, str(node.version)
    if isinstance(node, _native.RegisteredModel):
        return "model", node.name, str(node.latest_version)
    if isinstance(node, FeatureView):
        return "feature_view", node.name, ""
    if isinstance(node, FeatureViewAlias):
        return "feature_view", node.view_name, ""
    if isinstance(node, (ParquetSource, SqlSource)):
        return "source", _arguments.text(node.name, "the name of the source"), ""
    if isinstance(node, TrainingSet):
        return "training_set", node.name, ""
    if not isinstance(node, str):
        raise WrongTypeError(
            f"lineage begins at a model version, run, feature view, source or training set, not at a {type(node).__name__}"
        )
    return _parsed(node)


def _parsed(text: str) -> tuple[str, str, str]:
    kind, colon, name = text.partition(":")
    if not colon:
        return "run", _arguments.text(text, "the id of the run"), ""
    if kind not in _KINDS or not name:
        raise MisuseError(
            f"{text!r} names no node; give the id of a run, or KIND:NAME where KIND is one of {', '.join(_KINDS)}"
        )
    if kind == "dataset":
        namespace, mark, name = name.rpartition("#")
        if not mark:
            raise MisuseError(f"{text!r} names no dataset; give dataset:NAMESPACE#NAME")
        return kind, name, namespace
    if kind == "model":
        name, mark, version = name.rpartition("@")
        if not mark:
            raise MisuseError(f"{text!r} has no version; give model:NAME@VERSION")
        return kind, name, version
    return kind, name, ""
