"""`mlplat import`, from small stores written here as MLflow and wandb write them; the real ones are in heavy/."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import struct
import subprocess
import sys
import threading
import uuid
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mlplat
import pytest
from mlplat._connection import client
from mlplat._import import _writer
from mlplat._import._flat_yaml import parse_flat_yaml
from mlplat._import._mlflow import open_store
from mlplat._import._writer import Wish, import_all

pytestmark = pytest.mark.usefixtures("project")

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


def run_cli(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "mlplat", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def summary(*arguments: str) -> dict[str, Any]:
    return json.loads(run_cli("import", *arguments, "--json"))


def run_id(key: str) -> str:
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


def check_first(started: int = START) -> mlplat.Run:
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
    assert files == {"a.txt": 5, "dir/b.bin": 3}
    assert Path(run.download_artifact("a.txt")).read_text() == "hello"
    child = mlplat.get_run(run_id(CHILD))
    assert (child.parent_run_id, child.status) == (run.id, "FAILED")
    return run


# SQLite


def write_artifacts(folder: Path) -> Path:
    (folder / "dir").mkdir(parents=True)
    (folder / "a.txt").write_text("hello")
    (folder / "dir" / "b.bin").write_bytes(b"\0\1\2")
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    artifacts = write_artifacts(tmp_path / "store" / "mlruns" / "1" / FIRST / "artifacts")
    path = tmp_path / "store" / "mlflow.db"
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


def test_a_database(database: Path):
    uri = f"sqlite:///{database}"
    said = run_cli("import", "mlflow", uri)
    assert "2 runs of 1 experiments imported, 0 were there already, 2 left out" in said
    assert "1,006 points, 2 files (8 bytes)" in said
    check_first()
    assert mlplat.get_experiment("delays: 1").tags["team"] == "ads"
    with pytest.raises(mlplat.NotFoundError):
        mlplat.get_run(run_id(GONE))


def test_a_second_import_changes_nothing(database: Path):
    uri = f"sqlite:///{database}"
    summary("mlflow", uri)
    mlplat.update_run(
        run_id(FIRST), description="mine now", tags={**mlplat.get_run(run_id(FIRST)).tags, "team/x": "mine"}
    )
    again = summary("mlflow", uri)
    assert (again["runs"], again["unchanged"], again["points"], again["files"]) == (0, 2, 0, 0)
    run = mlplat.get_run(run_id(FIRST))
    assert (run.description, run.tags["team/x"]) == ("mine now", "mine")
    # Also where the mark of a complete import is lost.
    mlplat.update_run(run, description="# Notes", tags={"mlflow.user": "root", "team/x": "ädß"})
    again = summary("mlflow", uri)
    assert (again["runs"], again["points"], again["files"]) == (1, 0, 0)
    check_first()


def test_a_store_that_grew_gives_what_is_new(database: Path, monkeypatch: pytest.MonkeyPatch):
    uri = f"sqlite:///{database}"
    monkeypatch.setattr(_writer, "_POINTS_PER_BATCH", 503)
    assert import_all(client(), open_store(uri), Wish()).points == 1006
    more = [("loss", 0.5 + step, START + step, 2000 + step) for step in range(600)]
    with sqlite3.connect(database) as db:
        insert_points(db, more)
    assert import_all(client(), open_store(uri), Wish()).points == 600
    run = mlplat.get_run(run_id(FIRST))
    wanted = [(step, value, millis) for name, value, millis, step in (*POINTS, *more) if name == "loss"]
    assert same(points_of(run, "loss"), wanted)


def test_an_interrupted_import_goes_on(database: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_writer, "_POINTS_PER_BATCH", 100)
    store = open_store(f"sqlite:///{database}")
    whole = store.streams

    def torn(run: Any) -> Iterator[Any]:
        for name, points in whole(run):
            yield name, (next(points) if at < 450 else 1 / 0 for at in range(10_000))

    monkeypatch.setattr(store, "streams", torn)
    with pytest.raises(ZeroDivisionError):
        import_all(client(), store, Wish())
    assert mlplat.get_run(run_id(FIRST)).status == "RUNNING"
    assert mlplat.get_run(run_id(FIRST)).metric_summaries["loss"].count == 400
    assert import_all(client(), open_store(f"sqlite:///{database}"), Wish()).points == 606
    check_first()


def test_a_dry_run_writes_nothing_and_a_filter_chooses(database: Path):
    told = summary("mlflow", str(database), "--dry-run", "--deleted")
    assert (told["experiments"], told["runs"], told["points"]) == (2, 3, 1006)
    assert mlplat.list_experiments() == []
    said = run_cli("import", "mlflow", str(database), "--experiment", "nothing", code=1)
    assert "there is no experiment 'nothing'" in said
    assert summary("mlflow", str(database), "--experiment", "delays: 1", "--no-artifacts")["files"] == 0


def test_what_is_no_store_is_said(tmp_path: Path):
    (tmp_path / "x.db").write_text("no database")
    for uri, text in (
        (f"sqlite:///{tmp_path}/none.db", "there is no file"),
        (f"sqlite:///{tmp_path}/x.db", "is not a SQLite database"),
        (str(tmp_path), "is not a folder of MLflow"),
        (str(tmp_path / "nowhere"), "neither an MLflow database nor an mlruns folder"),
        ("postgresql://host/db", "start `mlflow server"),
        ("http://127.0.0.1:1", "cannot be reached"),
    ):
        said = run_cli("import", "mlflow", uri, code=1)
        assert text in said
        assert "Traceback" not in said
    assert "no offline run" in run_cli("import", "wandb", str(tmp_path), code=1)


def test_the_same_store_by_another_way_is_not_doubled(database: Path, folder: Path):
    summary("mlflow", str(database))
    said = run_cli("import", "mlflow", str(folder), code=1)
    assert f"it was imported from mlflow-database:{database}, and goes on only from there" in said
    check_first()


# Folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    write(root / "0" / "meta.yaml", "experiment_id: '0'\nlifecycle_stage: active\nname: Default\n")
    experiment = root / "77"
    write(experiment / "meta.yaml", "experiment_id: '77'\nlifecycle_stage: active\nname: 'delays: 1'\n")
    write(experiment / "tags" / "team", "ads")
    for key, name, status in ((FIRST, "first", 3), (CHILD, "child", 4)):
        run = experiment / key
        write(
            run / "meta.yaml",
            f"artifact_uri: /elsewhere/mlruns/77/{key}/artifacts\nend_time: {START + 60_000}\nlifecycle_stage: active\n"
            f"run_id: {key}\nrun_name: {name}\nstart_time: {START}\nstatus: {status}\ntags: []\nuser_id: root\n",
        )
    first = experiment / FIRST
    write_artifacts(first / "artifacts")
    for key in ("loss", "odd/x y"):
        lines = [f"{millis} {value!r} {step}\n" for name, value, millis, step in POINTS if name == key]
        write(first / "metrics" / key, "".join(lines))
    write(first / "params" / "depth", "3")
    write(first / "params" / "long", "x" * 3000)
    write(first / "tags" / "team" / "x", "ädß")
    write(first / "tags" / "mlflow.note.content", "# Notes")
    write(experiment / CHILD / "tags" / "mlflow.parentRunId", FIRST)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_folder(folder: Path):
    told = summary("mlflow", folder.as_uri())
    assert (told["runs"], told["points"], told["files"]) == (2, 1006, 2)
    check_first()
    with (folder / "77" / FIRST / "metrics" / "loss").open("a") as file:
        file.write(f"{START} 0.25 9999\n")
    assert summary("mlflow", str(folder))["points"] == 1
    assert mlplat.get_run(run_id(FIRST)).metrics["loss"] == 0.25


def test_a_damaged_folder_is_said_and_the_rest_imported(folder: Path):
    with (folder / "77" / FIRST / "metrics" / "loss").open("a") as file:
        file.write("no point\n")
    said = run_cli("import", "mlflow", str(folder), code=1)
    assert "is not a point of a metric: 'no point" in said
    assert mlplat.get_run(run_id(CHILD)).status == "FAILED"


def test_the_yaml_of_mlflow():
    text = (
        "name: 'it''s: a\n  long\n\n  one'\nuser: \"\\u00fc \\\"x\\\" a\\\n  \\ b\"\nplain: some words that\n  go on\n"
        "tags:\n  mlflow.data.context: training\nempty: ''\nnothing: null\nlist: []\nmap: {}\nnumber: 7\n"
    )
    assert parse_flat_yaml(text) == {
        "name": "it's: a long\none",
        "user": 'ü "x" a b',
        "plain": "some words that go on",
        "tags.mlflow.data.context": "training",
        "empty": "",
        "number": "7",
    }


# Server


class Answers(BaseHTTPRequestHandler):
    """As much of MLflow's REST API as an import asks for."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = self.path.rsplit("mlflow/", 1)[1]
        if method == "experiments/search":
            tags = [{"key": "team", "value": "ads"}]
            one = {"experiment_id": "5", "name": "delays: 1", "lifecycle_stage": "active", "tags": tags}
            self.reply({"experiments": [one]})
        elif method == "runs/search" and "page_token" not in body:
            self.reply({"runs": [self.run(FIRST, "first", "FINISHED")], "next_page_token": "2"})
        elif method == "runs/search":
            self.reply({"runs": [self.run(CHILD, "child", "FAILED")]})
        elif method == "logged-models/search":
            self.reply({})
        else:
            self.send_error(404)

    def run(self, key: str, name: str, status: str) -> dict[str, Any]:
        info = {
            "run_id": key, "run_name": name, "status": status, "start_time": START, "end_time": START + 60_000,
            "lifecycle_stage": "active", "user_id": "root",
        }  # fmt: skip
        if key == CHILD:
            return {"info": info, "data": {"tags": [{"key": "mlflow.parentRunId", "value": FIRST}]}}
        data = {
            "metrics": [{"key": key, "value": 1.0, "timestamp": 1, "step": 0} for key in ("loss", "odd/x y")],
            "params": [{"key": "depth", "value": "3"}, {"key": "long", "value": "x" * 3000}],
            "tags": [{"key": "mlflow.note.content", "value": "# Notes"}, {"key": "team/x", "value": "ädß"}],
        }
        return {"info": info, "data": data}

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path.endswith("metrics/get-history"):
            found = [point for point in POINTS if point[0] == query["metric_key"]]
            at = int(query.get("page_token", 0))
            names = {math.inf: 1.7976931348623157e308, -math.inf: -1.7976931348623157e308}
            metrics = [
                {
                    "key": key,
                    "value": "NaN" if math.isnan(value) else names.get(value, value),
                    "timestamp": millis,
                    "step": step,
                }
                for key, value, millis, step in found[at : at + 300]
            ]
            more = {"next_page_token": str(at + 300)} if at + 300 < len(found) else {}
            self.reply({"metrics": metrics, **more})
        elif parts.path.endswith("artifacts/list"):
            self.reply({"files": self.listing(query)})
        elif parts.path == "/get-artifact":
            content = {"a.txt": b"hello", "dir/b.bin": b"\0\1\2"}[query["path"]]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)
        else:
            self.send_error(404)

    def listing(self, query: dict[str, str]) -> list[dict[str, Any]]:
        if query["run_id"] != FIRST:
            return []
        if query.get("path") == "dir":
            return [{"path": "dir/b.bin", "is_dir": False, "file_size": "3"}]
        return [{"path": "a.txt", "is_dir": False, "file_size": 5}, {"path": "dir", "is_dir": True}]

    def reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_a_server(project: str):
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as mlflow:
        thread = threading.Thread(target=mlflow.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{mlflow.server_port}"
            told = summary("mlflow", url)
            assert (told["runs"], told["points"], told["files"], told["errors"]) == (2, 1006, 2, [])
            check_first()
            again = summary("mlflow", url)
            assert (again["unchanged"], again["points"]) == (2, 0)
        finally:
            mlflow.shutdown()
            thread.join()


# wandb


def varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (2**64 - 1))
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def item(key: str, value: object, nested: tuple[str, ...] = ()) -> bytes:
    names = b"".join(field(2, part) for part in nested) or field(1, key)
    return field(1, names + field(16, json.dumps(value)))


def wandb_log(records: list[bytes]) -> bytes:
    log = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for record in records:
        begin = True
        while True:
            left = 32768 - len(log) % 32768
            if left < 7:
                log += bytes(left)
                continue
            part, record = record[: left - 7], record[left - 7 :]
            kind = (1 if begin else 4) if not record else (2 if begin else 3)
            log += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            begin = False
            if not record:
                break
    return bytes(log)


def history(step: int, values: dict[str, object]) -> bytes:
    rows = [item(key, value) for key, value in values.items()]
    rows += [item("_step", step), item("_timestamp", 1_600_000_000.25 + step)]
    return field(2, b"".join(rows))


def wandb_records(exit_code: int | None = 0) -> list[bytes]:
    run = [
        field(1, "abc123"), field(3, "delays"), field(8, "first"), field(9, "# Notes"), field(10, "fast"),
        field(4, item("lr", 0.1) + item("", 3, ("model", "depth")) + item("_wandb", {"x": 1})),
        field(17, field(1, 1_600_000_000) + field(2, 500_000_000)),
    ]  # fmt: skip
    records = [field(17, b"".join(run))]
    records += [
        history(step, {"loss": 1 / (step + 1), "text": "x", "n": {"a": step}}) for step in range(3000)
    ]
    records.append(history(5000, {"odd": float("nan"), "media": {"_type": "image-file", "size": 3}}))
    records.append(history(5001, {"odd": float("inf"), "note": "y" * 100_000}))
    records.append(field(5, item("late", "config")))
    records.append(field(3, item("best", 0.5)))
    return records if exit_code is None else [*records, field(18, field(1, exit_code))]


def wandb_folder(root: Path, content: bytes) -> Path:
    place = root / "wandb" / "offline-run-20200913_122640-abc123"
    (place / "files").mkdir(parents=True, exist_ok=True)
    (place / "files" / "model.txt").write_text("weights")
    log = place / "run-abc123.wandb"
    log.write_bytes(content)
    os.utime(log, (1_600_009_000, 1_600_009_000))
    return place


def only_run() -> mlplat.Run:
    [found] = mlplat.search_runs().to_dicts()
    return mlplat.get_run(found["run_id"])


def test_an_offline_run_of_wandb(tmp_path: Path):
    place = wandb_folder(tmp_path, wandb_log(wandb_records()))
    told = summary("wandb", str(place))
    assert (told["runs"], told["points"], told["files"]) == (1, 6002, 1)
    run = only_run()
    assert (run.name, run.experiment, run.status) == ("first", "delays", "FINISHED")
    assert run.started_at.timestamp() == 1_600_000_000.5
    assert run.ended_at is not None
    assert run.ended_at.timestamp() == 1_600_005_001.25
    assert run.description == "# Notes"
    assert run.params == {"lr": "0.1", "model.depth": "3", "late": "config"}
    assert (run.tags["wandb.tag.fast"], run.tags["summary.best"], run.tags["wandb.run_id"]) == (
        "true",
        "0.5",
        "abc123",
    )
    wanted = [(step, 1 / (step + 1), 1_600_000_000_250 + 1000 * step) for step in range(3000)]
    assert same(points_of(run, "loss"), wanted)
    assert len(points_of(run, "n.a")) == 3000
    assert [str(row["value"]) for row in run.metric_history("odd").to_dicts()] == ["nan", "inf"]
    assert [file.path for file in run.artifacts()] == ["model.txt"]
    again = summary("wandb", str(tmp_path))
    assert (again["unchanged"], again["points"]) == (1, 0)


def test_a_run_of_wandb_that_was_killed(tmp_path: Path):
    content = wandb_log(wandb_records(None))
    wandb_folder(tmp_path, content[: len(content) - 50_000])
    told = summary("wandb", str(tmp_path / "wandb"), "--experiment", "mine")
    assert told["points"] == 6001
    run = only_run()
    assert (run.experiment, run.status, run.status_message) == (
        "mine",
        "KILLED",
        "the log of wandb has no end",
    )


def test_a_run_of_wandb_that_goes_on(tmp_path: Path):
    records = wandb_records(1)
    log = wandb_folder(tmp_path, wandb_log(records[:1001])) / "run-abc123.wandb"
    os.utime(log)
    assert summary("wandb", str(tmp_path))["points"] == 2000
    assert only_run().status == "RUNNING"
    wandb_folder(tmp_path, wandb_log(records))
    assert summary("wandb", str(tmp_path))["points"] == 4002
    run = only_run()
    assert (run.status, run.status_message) == ("FAILED", "exit code 1")
    assert run.metric_summaries["loss"].count == 3000


def test_damage_in_the_middle_of_a_log_is_said(tmp_path: Path):
    content = bytearray(wandb_log(wandb_records()))
    content[40_000] ^= 0xFF
    place = wandb_folder(tmp_path, bytes(content))
    whole = tmp_path / "wandb" / "offline-run-20200914_000000-other"
    whole.mkdir()
    (whole / "run-other.wandb").write_bytes(wandb_log([field(17, field(1, "other")), field(18, field(1, 0))]))
    said = run_cli("import", "wandb", str(tmp_path), code=1)
    assert f"{place}/run-abc123.wandb is damaged at byte" in said
    assert "Traceback" not in said
    assert only_run().name == "other", "the others are imported"
