"""`mlplat import mlflow http://…`, from a server that answers as MLflow does; the real one is in heavy/."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from import_stores import CHILD, FIRST, POINTS, START, check_first, run_cli, summary


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
        self.wfile.write(content)


class MLflow(ThreadingHTTPServer):
    """The server; some of its artifacts cannot be read."""

    unreadable: tuple[str, ...] = ()


@pytest.fixture
def mlflow() -> Iterator[MLflow]:
    with MLflow(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_server(mlflow: MLflow, project: str):
    url = f"http://127.0.0.1:{mlflow.server_port}"
    told = summary("mlflow", url)
    assert (told["runs"], told["points"], told["files"], told["errors"]) == (2, 1006, 2, [])
    check_first()
    again = summary("mlflow", url)
    assert (again["unchanged"], again["points"]) == (2, 0)


def test_a_file_that_the_server_does_not_give_takes_no_other_with_it(mlflow: MLflow, project: str):
    mlflow.unreadable = ("sp ace#?.json",)
    url = f"http://127.0.0.1:{mlflow.server_port}"
    for _ in range(2):
        said = run_cli("import", "mlflow", url, code=1)
        assert "file 'sp ace#?.json' of run 'first'" in said
        assert "answered 400" in said
        check_first()
    mlflow.unreadable = ()
    assert summary("mlflow", url)["errors"] == []
    assert summary("mlflow", url)["unchanged"] == 2
