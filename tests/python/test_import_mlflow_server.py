"""`mlplat import mlflow http://…`, from a server that answers as MLflow does; the real one is in heavy/."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mlplat
import pytest
from import_stores import (
    CHILD,
    FIRST,
    POINTS,
    START,
    break_off,
    check_first,
    points_of,
    run_cli,
    run_id,
    same,
    summary,
)
from mlplat._connection import client
from mlplat._import import _batches, _missing
from mlplat._import._mlflow import open_store
from mlplat._import._summary import Wish
from mlplat._import._writer import import_all


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
            points = self.server.points  # type: ignore[attr-defined]
            found = [point for point in points if point[0] == query["metric_key"]]
            # As its databases have them.
            found.sort(key=lambda point: (point[2], point[3], point[1]))
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
            self.server.asked(query["metric_key"], at)  # type: ignore[attr-defined]
            self.reply({"metrics": metrics, **more})
        elif parts.path.endswith("artifacts/list"):
            self.reply({"files": self.listing(query)})
        elif parts.path == "/get-artifact":
            content = {"a.txt": b"hello", "dir/b.bin": b"\0\1\2"}.get(query["path"])
            if content is None:
                self.send_error(400)
                return
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
        more = [{"path": path, "is_dir": False, "file_size": 2} for path in self.server.unreadable]  # type: ignore[attr-defined]
        return [*more, {"path": "a.txt", "is_dir": False, "file_size": 5}, {"path": "dir", "is_dir": True}]

    def reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # who asked was killed
            self.wfile.write(content)


class MLflow(ThreadingHTTPServer):
    """The server; some of its artifacts cannot be read."""

    unreadable: tuple[str, ...] = ()
    points: tuple[tuple[str, float, int, int], ...] = tuple(POINTS)
    """Key, value, milliseconds, step."""

    def asked(self, key: str, at: int) -> None:
        """Called when points of a metric are on their way, from this one on."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def check(self) -> None:
        """The run has just these points."""
        run = mlplat.get_run(run_id(FIRST))
        for name in {point[0] for point in self.points}:
            wanted = [(step, value, millis) for key, value, millis, step in self.points if key == name]
            assert same(points_of(run, name), wanted), name


@pytest.fixture
def mlflow() -> Iterator[MLflow]:
    with MLflow(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_server(mlflow: MLflow, project: str):
    url = mlflow.url
    told = summary("mlflow", url)
    assert (told["runs"], told["points"], told["files"], told["errors"]) == (2, 1006, 2, [])
    check_first()
    again = summary("mlflow", url)
    assert (again["unchanged"], again["points"]) == (2, 0)


def test_a_file_that_the_server_does_not_give_takes_no_other_with_it(mlflow: MLflow, project: str):
    mlflow.unreadable = ("sp ace#?.json",)
    url = mlflow.url
    for _ in range(2):
        said = run_cli("import", "mlflow", url, code=1)
        assert "file 'sp ace#?.json' of run 'first'" in said
        assert "answered 400" in said
        check_first()
    mlflow.unreadable = ()
    assert summary("mlflow", url)["errors"] == []
    assert summary("mlflow", url)["unchanged"] == 2


# Points that come late: what the server tells of the run stays the same.

LATE = (
    ("loss", 0.25, START - 5, 0),
    ("loss", 0.25, START - 5, 0),
    ("loss", 1.0, START, 0),
    ("loss", 0.5, START + 3, 1),
    ("odd/x y", float("nan"), START - 1, 3),
    ("odd/x y", -0.0, START - 1, 3),
    ("odd/x y", 0.0, START - 1, 3),
)


def test_points_that_came_late(mlflow: MLflow, project: str):
    """Also some that are like others, or at times that no calendar has."""
    summary("mlflow", mlflow.url)
    mlflow.points += LATE
    told = summary("mlflow", mlflow.url)
    assert (told["runs"], told["unchanged"], told["points"]) == (1, 1, len(LATE))
    mlflow.check()
    for _ in range(2):
        told = summary("mlflow", mlflow.url)
        assert (told["unchanged"], told["points"]) == (2, 0)
        mlflow.points = (*LATE[:1], *mlflow.points)
        assert summary("mlflow", mlflow.url)["points"] == 1
        mlflow.check()
    mlflow.points = (("loss", 3.0, 2**52, 1), *mlflow.points)
    assert summary("mlflow", mlflow.url)["points"] == 1
    mlflow.points = (("loss", 4.0, START - 9, 1), *mlflow.points)
    assert summary("mlflow", mlflow.url)["points"] == 1
    assert mlplat.get_run(run_id(FIRST)).metric_summaries["loss"].count == 1001 + 8


def test_an_import_that_was_killed(mlflow: MLflow, project: str, monkeypatch: pytest.MonkeyPatch):
    """Between two metrics; the source goes on meanwhile."""
    reached, go = threading.Event(), threading.Event()

    def wait(key: str, at: int) -> None:
        if key == "odd/x y" and reached_loss():
            reached.set()
            go.wait(20)

    def reached_loss() -> bool:
        try:
            return "loss" in mlplat.get_run(run_id(FIRST)).metric_summaries
        except mlplat.NotFoundError:
            return False

    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "asked", wait)
        with subprocess.Popen([sys.executable, "-m", "mlplat", "import", "mlflow", mlflow.url]) as process:
            assert reached.wait(30)
            process.kill()
        go.set()
    run = mlplat.get_run(run_id(FIRST))
    assert (run.status, run.metric_summaries.keys()) == ("RUNNING", {"loss"})
    mlflow.points += LATE
    assert summary("mlflow", mlflow.url)["errors"] == []
    mlflow.check()


def test_an_import_that_broke_off_between_batches(
    mlflow: MLflow, project: str, monkeypatch: pytest.MonkeyPatch
):
    send = _missing.send
    with monkeypatch.context() as patch:
        patch.setattr(_batches, "_POINTS_PER_BATCH", 300)
        patch.setattr(_missing, "send", lambda *given: send(*given) if given[2][1] < 600 else break_off())
        with pytest.raises(KeyboardInterrupt):
            import_all(client(), open_store(mlflow.url), Wish())
    assert mlplat.get_run(run_id(FIRST)).metric_summaries["loss"].count == 600
    mlflow.points += LATE
    assert import_all(client(), open_store(mlflow.url), Wish()).points == 1006 + len(LATE) - 600
    mlflow.check()


def test_two_imports_at_once(mlflow: MLflow, project: str, monkeypatch: pytest.MonkeyPatch):
    """One comes in after the other has read what is stored: as the last batch of one that was killed does."""
    summary("mlflow", mlflow.url)
    mlflow.points += LATE
    stored, others = _missing._stored, []

    def and_another(*given: Any) -> Any:
        found = stored(*given)
        if not others:
            others.append(1)
            mlflow.points += (("loss", 7.0, START, 2),)
            others.append(import_all(client(), open_store(mlflow.url), Wish()))
        return found

    monkeypatch.setattr(_missing, "_stored", and_another)
    assert import_all(client(), open_store(mlflow.url), Wish()).errors == []
    assert (others[1].points, others[1].errors) == (len(LATE) + 1, [])
    mlflow.check()


def test_a_point_that_comes_while_pages_are_read(
    mlflow: MLflow, project: str, monkeypatch: pytest.MonkeyPatch
):
    came = []

    def come(key: str, at: int) -> None:
        if key == "loss" and at == 300 and not came:
            came.append(1)
            mlflow.points = (("loss", 9.0, START - 100, 4), *mlflow.points)

    monkeypatch.setattr(mlflow, "asked", come)
    told = summary("mlflow", mlflow.url)
    assert (told["points"], told["errors"]) == (1007, [])
    mlflow.check()


def test_many_points_that_are_alike(mlflow: MLflow, project: str):
    """As a server has them that keeps files: pages end and begin with the same point."""
    mlflow.points += (("odd/x y", 1.0, START, 0),) * 700
    assert summary("mlflow", mlflow.url)["points"] == 1706
    mlflow.points += (("odd/x y", 1.0, START, 0),) * 7
    assert summary("mlflow", mlflow.url)["points"] == 7
    mlflow.check()
    assert summary("mlflow", mlflow.url)["unchanged"] == 2


def test_what_was_rewound_here_does_not_come_again(mlflow: MLflow, project: str):
    summary("mlflow", mlflow.url)
    with mlplat.start_run(run_id=run_id(FIRST), resume_from=500) as run:
        run.log_metric("loss", 100.0, step=500)
    mlflow.points += LATE
    told = summary("mlflow", mlflow.url)
    assert (told["points"], told["errors"]) == (len(LATE), [])
    assert summary("mlflow", mlflow.url)["points"] == 0
    # At least as far as both branches go.
    assert mlplat.get_run(run_id(FIRST)).metric_summaries["loss"].count >= 500
