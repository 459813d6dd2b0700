"""Lineage that appears by itself, as a graph and as OpenLineage events."""

from __future__ import annotations

import json
import sys
import types
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mlplat
import polars as pl
import pytest
from conftest import Server
from mlplat import features
from mlplat.features import Entity, FeatureView, ParquetSource


@pytest.fixture
def trained(project: str, tmp_path: Path) -> mlplat.ModelVersion:
    """A model version whose run read a feature view."""
    pl.DataFrame({"k": [1], "t": [datetime(2020, 1, 1, tzinfo=timezone.utc)], "x": [1.0]}).write_parquet(
        tmp_path / "raw.parquet"
    )
    view = FeatureView(
        "view", entities=[Entity("k")], source=ParquetSource(tmp_path / "raw.parquet", timestamp="t")
    )
    features.apply(view)
    with mlplat.start_run("delays", "train") as run:
        table = {"k": [1], "event_timestamp": [datetime(2020, 1, 2, tzinfo=timezone.utc)]}
        features.historical(table, view, name="set-1")
        (tmp_path / "model.pkl").write_text("m")
        version = run.publish_model("arrival-delay", tmp_path / "model.pkl")
    return version


def test_the_way_from_the_raw_table_to_the_model(trained: mlplat.ModelVersion):
    graph = mlplat.lineage.upstream(trained)
    path = [str(node) for node in graph.path("raw.parquet", "view", "set-1", "delays", "arrival-delay")]
    assert "raw.parquet" in path[0]
    assert "arrival-delay" in path[-1]
    for part in ("view", "set-1", "experiments/delays"):
        assert any(part in node for node in path), (part, path)
    assert graph.path("arrival-delay", "raw.parquet") == []
    assert graph.path("no such node") == []
    names = " ".join(str(node) for node in graph.nodes)
    assert "arrival-delay" in str(graph.nodes[0])
    for part in ("raw.parquet", "view", "set-1", "experiments/delays", "arrival-delay"):
        assert part in names
    ids = {node.id for node in graph.nodes}
    assert all({edge.source, edge.target} <= ids for edge in graph.edges)
    assert not graph.truncated


def test_what_the_model_captured(trained: mlplat.ModelVersion):
    [use] = trained.feature_views
    assert (use.feature_view, use.version, use.features, use.training_set) == ("view", 1, ["x"], "set-1")


def test_the_graph_is_shown(trained: mlplat.ModelVersion, capsys: pytest.CaptureFixture[str]):
    graph = mlplat.lineage.upstream(trained)
    graph.show()
    assert capsys.readouterr().out == f"{graph}\n"
    assert "└─" in str(graph)
    assert graph.to_svg().startswith("<svg")
    assert graph._repr_svg_() == graph.to_svg()
    assert "<svg" in graph._repr_html_()
    found = graph.find("raw.parquet")
    assert found is not None
    assert found.kind == "dataset"
    assert graph.find("no such node") is None


def test_a_notebook_gets_the_picture(trained: mlplat.ModelVersion, monkeypatch: pytest.MonkeyPatch):
    shown: list[object] = []
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=True)  # type: ignore[attr-defined]
    display.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    graph = mlplat.lineage.upstream(trained)
    graph.show()
    assert shown == [graph]


def test_all_kinds_of_beginnings(trained: mlplat.ModelVersion, tmp_path: Path):
    run = mlplat.get_run(trained.run_id)
    view = features.get_feature_view("view")
    source = ParquetSource(tmp_path / "raw.parquet")
    model = mlplat.models.get_model("arrival-delay")
    for node in (trained, run, view, source, model, run.id, "model:arrival-delay@1", "feature_view:view"):
        assert mlplat.lineage.upstream(node).nodes
    for node in (view, source, "source:raw", "training_set:set-1"):
        downstream = mlplat.lineage.downstream(node)
        assert any("arrival-delay" in found.name for found in downstream.nodes)
    both = mlplat.lineage.graph("training_set:set-1")
    assert {"view", "arrival-delay"} <= {found.name.split("/")[-1] for found in both.nodes} | {
        part for found in both.nodes for part in ("view", "arrival-delay") if part in found.name
    }
    dataset = next(node for node in both.nodes if node.name.endswith("raw.parquet"))
    assert mlplat.lineage.downstream(f"dataset:{dataset.namespace}#{dataset.name}").nodes
    assert len(mlplat.lineage.upstream(trained, depth=1).nodes) < len(mlplat.lineage.upstream(trained).nodes)
    with pytest.raises(mlplat.NotFoundError):
        mlplat.lineage.upstream("feature_view:nothing")


def test_runs_end_as_openlineage_says(project: str):
    with mlplat.start_run("e") as good:
        pass
    with pytest.raises(ValueError, match="x"), mlplat.start_run("e") as failed:
        raise ValueError("x")
    with pytest.raises(KeyboardInterrupt), mlplat.start_run("e") as killed:
        raise KeyboardInterrupt
    for run, last in ((good, "COMPLETE"), (failed, "FAIL"), (killed, "ABORT")):
        events = mlplat.lineage.events(run)
        assert [event.event_type for event in events] == [last, "START"]
        assert {event.run_id for event in events} == {run.id}
        assert events[0].job_name == "experiments/e"


def openlineage_event(event: dict[str, Any]) -> Any:
    """The event made again with the classes of openlineage-python, which check what they are given."""
    from openlineage.client import event_v2 as ol
    from openlineage.client.uuid import generate_new_uuid  # the package is whole

    assert generate_new_uuid()

    def datasets(kind: Any, items: list[dict[str, Any]]) -> list[Any]:
        return [
            kind(namespace=item["namespace"], name=item["name"], facets=item.get("facets", {}))
            for item in items
        ]

    return ol.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=ol.RunState(event["eventType"]),
        run=ol.Run(runId=event["run"]["runId"], facets=event["run"].get("facets", {})),
        job=ol.Job(
            namespace=event["job"]["namespace"],
            name=event["job"]["name"],
            facets=event["job"].get("facets", {}),
        ),
        inputs=datasets(ol.InputDataset, event.get("inputs", [])),
        outputs=datasets(ol.OutputDataset, event.get("outputs", [])),
    )


def test_events_are_openlineage(trained: mlplat.ModelVersion):
    from openlineage.client.serde import Serde

    features.materialize("view", end=datetime(2020, 1, 2, tzinfo=timezone.utc))
    events = mlplat.lineage.events(limit=None)
    assert {"START", "COMPLETE"} <= {event.event_type for event in events}
    for event in events:
        given = json.loads(event.openlineage)
        assert given["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/OpenLineage.json#/")
        rebuilt = json.loads(Serde.to_json(openlineage_event(given)))
        for field in ("eventTime", "eventType", "producer"):
            assert rebuilt[field] == given[field]
        assert rebuilt["run"]["runId"] == given["run"]["runId"] == event.run_id
        for facets in (given["run"].get("facets", {}), given["job"].get("facets", {})):
            for name, facet in facets.items():
                assert {"_producer", "_schemaURL"} <= set(facet), name


def test_events_are_read_over_http(trained: mlplat.ModelVersion, server: Server, project: str):
    with urllib.request.urlopen(f"{server.url}/api/v1/events/lineage?limit=1000&offset=0") as answer:
        found = json.load(answer)
    ours = [event for event in found["events"] if event["job"]["namespace"].endswith(f"/{project}")]
    assert {event["job"]["name"] for event in ours} >= {"experiments/delays"}
    assert found["totalCount"] >= len(ours)
    times = [event["eventTime"] for event in found["events"]]
    assert times == sorted(times, reverse=True)
