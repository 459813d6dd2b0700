"""Stores that the real MLflow has written, imported and compared point for point with what MLflow itself reads."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlplat
import pytest

MLFLOW = os.environ.get("MLPLAT_TEST_MLFLOW_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not MLFLOW, reason="MLPLAT_TEST_MLFLOW_PYTHON names no Python with MLflow"),
    pytest.mark.usefixtures("project"),
]

# Writes a store, then prints what MLflow reads from it.
WRITE = """
import json, random, sys
import mlflow
from mlflow.entities import Metric, ViewType

uri = sys.argv[1]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()
client.create_experiment("delays: 1", tags={"team": "ads", "mlflow.note.content": "what it is"})
mlflow.set_experiment("delays: 1")
random.seed(0)
for number in range(3):
    with mlflow.start_run(run_name=f"run {number}", description="# Notes\\nof a run") as run:
        mlflow.log_params({"depth": number, "long": "x" * 3000})
        mlflow.set_tags({"a/b": "\\u00fc", "empty": ""})
        points = [
            Metric(random.choice(["loss", "val/acc", "lr"]), random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300),
                   1_600_000_000_000 + at * 7, at // 3)
            for at in range(4000)
        ]
        for at in range(0, 4000, 1000):
            client.log_batch(run.info.run_id, metrics=points[at : at + 1000])
        for value in (float("nan"), float("inf"), float("-inf"), 5e-324, 0.1):
            mlflow.log_metric("odd/x", value, step=3)
        mlflow.log_metric("odd/x", 1.0, step=-2)
        mlflow.log_text("hello", "dir/a.txt")
        mlflow.log_dict({"a": 1}, "b.json")
        with mlflow.start_run(run_name=f"child {number}", nested=True):
            mlflow.log_metric("m", number)
try:
    with mlflow.start_run(run_name="bad"):
        raise ValueError("x")
except ValueError:
    pass
with mlflow.start_run(run_name="gone") as run:
    mlflow.log_metric("m", 2)
client.delete_run(run.info.run_id)

from sklearn.linear_model import LinearRegression
with mlflow.start_run(run_name="model"):
    mlflow.sklearn.log_model(LinearRegression().fit([[1], [2]], [1, 2]), name="clf")
"""

# Points earlier than those that are there, so that what MLflow says of the last one of each metric stays as it was.
LATE = """
import sys
import mlflow
from mlflow.entities import Metric

mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
points = [Metric("loss", at / 7, 1_600_000_000_000 + at, -1 - at // 2) for at in range(10)]
points += [Metric("odd/x", value, 1_500_000_000_000, 0) for value in (float("nan"), 0.5, 0.25)]
client.log_batch(sys.argv[2], metrics=points)
"""

READ = """
import json, sys
import mlflow
from mlflow.entities import ViewType

mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
found = []
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY):
        found.append({
            "id": run.info.run_id, "name": run.info.run_name, "status": run.info.status, "start": run.info.start_time,
            "end": run.info.end_time, "params": run.data.params, "tags": run.data.tags, "experiment": experiment.name,
            "metrics": {
                key: [[m.step, m.timestamp, repr(m.value)] for m in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            },
        })
print(json.dumps(found))
"""


def python(code: str, *arguments: str, cwd: Path) -> str:
    env = {
        **os.environ,
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }
    env.pop("PYTHONPATH", None)
    done = subprocess.run([MLFLOW, "-c", code, *arguments], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(params=["database", "folder", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    kind = request.param
    uri = (tmp_path / "mlruns").as_uri() if kind == "folder" else f"sqlite:///{tmp_path}/mlflow.db"
    if kind == "server":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [MLFLOW, "-m", "mlflow", "server", "--backend-store-uri", uri, "--port", str(port), "--workers", "1",
                   "--artifacts-destination", str(tmp_path / "kept")]  # fmt: skip
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(
                command, cwd=tmp_path, stdout=log, stderr=log, env=env, start_new_session=True
            )
        uri = f"http://127.0.0.1:{port}"
        try:
            wait_for(uri)
            python(WRITE, uri, cwd=tmp_path)
            yield uri, json.loads(python(READ, uri, cwd=tmp_path).splitlines()[-1])
        finally:
            os.killpg(server.pid, 15)
            server.wait(30)
        return
    python(WRITE, uri, cwd=tmp_path)
    yield uri, json.loads(python(READ, uri, cwd=tmp_path).splitlines()[-1])


def wait_for(url: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("MLflow did not start")


def bits(text: str) -> bytes:
    """MLflow's databases have the greatest number in the place of infinity."""
    value = {"1.7976931348623157e+308": "inf", "-1.7976931348623157e+308": "-inf"}.get(text, text)
    return b"nan" if value == "nan" else struct.pack("<d", float(value))


def summary(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "mlplat", "import", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def compare(theirs: list[dict[str, Any]]) -> int:
    """Every run with what MLflow reads; returns the number of points."""
    compared = 0
    for run in theirs:
        ours = mlplat.get_run(str(uuid.UUID(run["id"])))
        assert (ours.name, ours.status, ours.params) == (run["name"], run["status"], run["params"])
        assert ours.experiment == run["experiment"]
        assert round(ours.started_at.timestamp() * 1000) == run["start"]
        assert ours.ended_at is not None
        assert round(ours.ended_at.timestamp() * 1000) == run["end"]
        for key, value in run["tags"].items():
            if key == "mlflow.note.content":
                assert ours.description == value
            elif key == "mlflow.parentRunId":
                assert ours.parent_run_id == str(uuid.UUID(value))
            elif key != "mlflow.runName":
                assert ours.tags[key] == value
        assert ours.metric_summaries.keys() == run["metrics"].keys()
        for key, points in run["metrics"].items():
            rows = ours.metric_history(key).to_dicts()
            found = sorted(
                (row["step"], round(row["timestamp"].timestamp() * 1000), bits(repr(row["value"])))
                for row in rows
            )
            assert found == sorted((step, millis, bits(text)) for step, millis, text in points), key
            compared += len(points)
    return compared


def test_every_point_is_the_same(store: tuple[str, list[dict[str, Any]]], tmp_path: Path):
    uri, theirs = store
    told = summary("mlflow", uri)
    assert told["runs"] == len(theirs) == 8
    assert told["points"] == compare(theirs)

    first = next(run for run in theirs if run["name"] == "run 0")
    ours = mlplat.get_run(str(uuid.UUID(first["id"])))
    assert {file.path for file in ours.artifacts()} == {"dir/a.txt", "b.json"}
    assert Path(ours.download_artifact("dir/a.txt")).read_text() == "hello"
    model = next(run for run in theirs if run["name"] == "model")
    assert "clf/MLmodel" in {file.path for file in mlplat.get_run(str(uuid.UUID(model["id"]))).artifacts()}
    assert mlplat.get_experiment("delays: 1").description == "what it is"

    again = summary("mlflow", uri)
    assert (again["runs"], again["unchanged"], again["points"], again["files"]) == (0, 8, 0, 0)
    python(LATE, uri, first["id"], cwd=tmp_path)
    late = summary("mlflow", uri)
    assert (late["runs"], late["unchanged"], late["points"]) == (1, 7, 13)
    compared = compare(json.loads(python(READ, uri, cwd=tmp_path).splitlines()[-1]))
    assert compared == told["points"] + 13
    print(
        f"{uri.split(':')[0]}: {compared} points of {len(theirs)} runs are the same; {told['seconds']:.1f} s"
    )
