"""What the tests of `mlplat import` share: one run as it is in every store, and how it must be in mlplat."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlplat

FIRST, CHILD, GONE = (f"{at:032x}" for at in (0xA1, 0xA2, 0xA3))
START = 1_600_000_000_000
# Key, value, milliseconds, step; as logged.
POINTS = [
    *(("loss", 1 / (step + 1), START + step * 7, step) for step in range(1000)),
    ("odd/x y", float("nan"), START, 3),
    ("odd/x y", float("inf"), START + 1, 3),
    ("odd/x y", float("-inf"), START + 2, -5),
    ("odd/x y", 5e-324, START + 2, 3),
    ("odd/x y", 0.1 + 0.2, START + 3, 3),
    ("loss", 2.0, START, 3),
]


def break_off() -> Any:
    """As Ctrl-C does: any other exception fails one run, and the import goes on with the next."""
    raise KeyboardInterrupt


def run_cli(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "mlplat", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def summary(*arguments: str) -> dict[str, Any]:
    return json.loads(run_cli("import", *arguments, "--json"))


def run_id(key: str) -> str:
    """The id that the run has in this project; the first project of the server that imports it keeps that of MLflow."""
    for row in mlplat.search_runs().to_dicts():
        if (row.get("tags.import.source") or "").endswith(f"#{key}"):
            return row["run_id"]
    return str(uuid.UUID(hex=key))


def same(found: list[tuple[int, float, int]], wanted: list[tuple[int, float, int]]) -> bool:
    def bits(points: list[tuple[int, float, int]]) -> list[tuple[int, bytes, int]]:
        return [
            (step, b"nan" if math.isnan(value) else struct.pack("<d", value), millis)
            for step, value, millis in points
        ]

    return sorted(bits(found)) == sorted(bits(wanted))


def points_of(run: mlplat.Run, key: str) -> list[tuple[int, float, int]]:
    rows = run.metric_history(key).to_dicts()
    return [(row["step"], row["value"], round(row["timestamp"].timestamp() * 1000)) for row in rows]


def check_first(started: int = START, more: Mapping[str, int] = MappingProxyType({})) -> mlplat.Run:
    """The run `first` is as in the store, to the last bit."""
    run = mlplat.get_run(run_id(FIRST))
    assert (run.name, run.experiment, run.status) == ("first", "delays: 1", "FINISHED")
    assert round(run.started_at.timestamp() * 1000) == started
    assert run.ended_at is not None
    assert round(run.ended_at.timestamp() * 1000) == started + 60_000
    assert run.description == "# Notes"
    assert run.params == {"depth": "3", "long": "x" * 3000}
    assert run.tags["team/x"] == "ädß"
    assert run.tags["mlflow.user"] == "root"
    assert run.metric_summaries.keys() == {"loss", "odd/x y"}
    for key in run.metric_summaries:
        wanted = [(step, value, millis) for name, value, millis, step in POINTS if name == key]
        assert same(points_of(run, key), wanted), key
    files = {file.path: file.size_bytes for file in run.artifacts()}
    assert files == {"a.txt": 5, "dir/b.bin": 3, **more}
    assert Path(run.download_artifact("a.txt")).read_text() == "hello"
    child = mlplat.get_run(run_id(CHILD))
    assert (child.parent_run_id, child.status) == (run.id, "FAILED")
    return run


def write_artifacts(folder: Path) -> Path:
    (folder / "dir").mkdir(parents=True)
    (folder / "a.txt").write_text("hello")
    (folder / "dir" / "b.bin").write_bytes(b"\0\1\2")
    return folder


def write_database(store: Path) -> Path:
    """A SQLite file of MLflow, beside its folder of artifacts."""
    artifacts = write_artifacts(store / "mlruns" / "1" / FIRST / "artifacts")
    path = store / "mlflow.db"
    with sqlite3.connect(path) as db:
        db.executescript(
            """
            CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT, artifact_location TEXT,
                lifecycle_stage TEXT);
            CREATE TABLE experiment_tags (key TEXT, value TEXT, experiment_id INTEGER);
            CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, name TEXT, status TEXT, start_time BIGINT, end_time BIGINT,
                lifecycle_stage TEXT, user_id TEXT, artifact_uri TEXT, experiment_id INTEGER);
            CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
            """
        )
        db.execute("INSERT INTO experiments VALUES (1, 'delays: 1', '/elsewhere/mlruns/1', 'active')")
        db.execute("INSERT INTO experiments VALUES (2, 'old', '', 'deleted')")
        db.execute("INSERT INTO experiment_tags VALUES ('team', 'ads', 1)")
        for key, name, status, stage in (
            (CHILD, "child", "FAILED", "active"),
            (FIRST, "first", "FINISHED", "active"),
            (GONE, "gone", "FINISHED", "deleted"),
        ):
            uri = f"/elsewhere/mlruns/1/{key}/artifacts" if key != FIRST else f"file://{artifacts}"
            row = (key, name, status, START, START + 60_000, stage, "root", uri, 1)
            db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        insert_points(db, POINTS)
        db.executemany(
            "INSERT INTO params VALUES (?, ?, ?)", [("depth", "3", FIRST), ("long", "x" * 3000, FIRST)]
        )
        for key, value, run in (
            ("mlflow.note.content", "# Notes", FIRST),
            ("team/x", "ädß", FIRST),
            ("mlflow.parentRunId", FIRST, CHILD),
        ):
            db.execute("INSERT INTO tags VALUES (?, ?, ?)", (key, value, run))
    return path


def insert_points(db: sqlite3.Connection, points: list[tuple[str, float, int, int]]) -> None:
    for key, value, millis, step in points:
        nan = math.isnan(value)
        stored = 0.0 if nan else max(-1.7976931348623157e308, min(1.7976931348623157e308, value))
        db.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", (key, stored, millis, FIRST, step, nan))
