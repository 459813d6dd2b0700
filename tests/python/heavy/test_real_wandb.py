"""Offline runs that the real wandb has written, imported and compared point for point with what was logged."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlplat
import pytest

WANDB = os.environ.get("MLPLAT_TEST_WANDB_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not WANDB, reason="MLPLAT_TEST_WANDB_PYTHON names no Python with wandb"),
    pytest.mark.usefixtures("project"),
]

# Logs, and prints what it has logged.
WRITE = """
import json, os, random, sys
import wandb

random.seed(0)
told = []
for number in range(2):
    run = wandb.init(project="delays", name=f"run {number}", notes="# Notes", tags=["a", "b"], group="g",
                     config={"lr": 0.1, "model": {"depth": 3}, "list": [1, 2]})
    points = []
    for step in range(3000):
        loss = random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300)
        run.log({"loss": loss, "val/acc": step / 7, "nested": {"a": step}, "text": "x"})
        points += [["loss", step, repr(loss)], ["val/acc", step, repr(step / 7)], ["nested.a", step, repr(float(step))]]
    run.log({"odd": float("nan")}, step=5000)
    run.log({"odd": float("inf"), "note": "y" * 100_000}, step=5001)
    points += [["odd", 5000, "nan"], ["odd", 5001, "inf"]]
    path = os.path.join(run.dir, "model.txt")
    with open(path, "w") as file:
        file.write("weights" * 1000)
    run.log({"hist": wandb.Histogram(np_histogram=([1, 2], [0.0, 1.0, 3.0])), "html": wandb.Html("<b>x</b>")}, step=5002)
    run.log({"tab": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])}, step=5003)
    artifact = wandb.Artifact("model", type="model", metadata={"k": 1})
    artifact.add_file(path, name="d/m.txt")
    artifact.add_reference("https://example.org/x.bin", checksum=False)
    run.log_artifact(artifact, aliases=["best"])
    with open("outside.txt", "w") as file:
        file.write("outside")
    run.save("outside.txt")
    run.summary["best"] = 0.5
    told.append({"name": f"run {number}", "id": run.id, "points": points})
    run.finish(exit_code=number)
print(json.dumps(told))
"""


def bits(value: float) -> bytes:
    return b"nan" if value != value else struct.pack("<d", value)


def check_what_is_no_number(run: mlplat.Run) -> None:
    rows = run.load_table("wandb/values.json").to_dicts()
    texts = [row["value"] for row in rows if row["kind"] == "text"]
    assert texts == ["x"] * 3000 + ["y" * 100_000]
    assert {row["key"] for row in rows if row["kind"] != "text"} == {"html", "tab"}
    bins = [(row["step"], row["bin_end"], row["count"]) for row in run.histograms("hist").to_dicts()]
    assert bins == [(5002, 1.0, 1.0), (5002, 3.0, 2.0)]
    paths = {file.path for file in run.artifacts()}
    [table] = [path for path in paths if path.startswith("media/table/tab")]
    assert run.load_table(table).to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert any(path.startswith("media/html/") for path in paths)
    assert run.read_artifact("outside.txt") == b"outside"
    assert run.read_artifact("artifacts/model/v0/d/m.txt") == b"weights" * 1000
    said = json.loads(run.read_artifact("artifacts/model/v0.json"))
    assert said["references"] == {"x.bin": "https://example.org/x.bin"}
    assert (said["type"], "best" in said["aliases"], said["metadata"]) == ("model", True, {"k": 1})


def test_every_point_is_the_same(tmp_path: Path):
    env = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    env |= {"WANDB_DATA_DIR": str(tmp_path / "data"), "WANDB_CACHE_DIR": str(tmp_path / "cache")}
    env.pop("PYTHONPATH", None)
    wrote = subprocess.run([WANDB, "-c", WRITE], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert wrote.returncode == 0, wrote.stderr[-4000:]
    told = json.loads(wrote.stdout.splitlines()[-1])

    command = [sys.executable, "-m", "mlplat", "import", "wandb", str(tmp_path / "wandb"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["runs"], summary["errors"]) == (2, [])

    rows = mlplat.search_runs(experiment="delays").to_dicts()
    ours = {run.tags["wandb.run_id"]: run for run in (mlplat.get_run(row["run_id"]) for row in rows)}
    points = 0
    for number, run in enumerate(told):
        found = ours[run["id"]]
        assert (found.name, found.description) == (run["name"], "# Notes")
        assert found.status == ("FAILED" if number else "FINISHED")
        assert found.params == {"lr": "0.1", "model.depth": "3", "list": "[1, 2]"}
        assert (found.tags["summary.best"], found.tags["wandb.group"]) == ("0.5", "g")
        for key in ("loss", "val/acc", "nested.a", "odd"):
            rows = [(row["step"], bits(row["value"])) for row in found.metric_history(key).to_dicts()]
            assert rows == [(step, bits(float(text))) for name, step, text in run["points"] if name == key]
        assert "model.txt" in {file.path for file in found.artifacts()}
        assert Path(found.download_artifact("model.txt")).read_text() == "weights" * 1000
        machine = [key for key in found.metrics if key.startswith("system/")]
        assert machine
        assert found.metrics.keys() - machine == {"loss", "val/acc", "nested.a", "odd"}
        points += sum(summary.count for summary in found.metric_summaries.values())
        check_what_is_no_number(found)

    assert summary["points"] == points
    again = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    assert (again["unchanged"], again["points"]) == (2, 0)
    print(f"wandb: {summary['points']} points of 2 runs are the same; {summary['seconds']:.1f} s")
