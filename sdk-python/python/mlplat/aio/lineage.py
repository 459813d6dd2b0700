"""Lineage for asyncio; see :mod:`mlplat.lineage`."""

from __future__ import annotations

from ..lineage import events_call, graph_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._native import Event, Graph
    from .._run_info import RunInfo
    from .._types import LineageNode

__all__ = ["downstream", "events", "graph", "upstream"]


async def upstream(node: LineageNode, *, depth: int = 0, max_nodes: int = 0) -> Graph:
    """What a thing was made from; see :func:`mlplat.lineage.upstream`."""
    return await graph_call(node, "upstream", depth, max_nodes)


async def downstream(node: LineageNode, *, depth: int = 0, max_nodes: int = 0) -> Graph:
    """What was made from a thing."""
    return await graph_call(node, "downstream", depth, max_nodes)


async def graph(node: LineageNode, *, depth: int = 0, max_nodes: int = 0) -> Graph:
    """The graph around a thing, both ways."""
    return await graph_call(node, "both", depth, max_nodes)


async def events(run: RunInfo | str | None = None, *, limit: int | None = 100) -> list[Event]:
    """The OpenLineage events of the project, newest first; of one run where one is given."""
    return await events_call(run, limit)
