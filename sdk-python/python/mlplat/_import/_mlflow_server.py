"""A running MLflow server, through its REST API.

Invariant: only reading requests are made. Metrics are read one by one, each a stream in the order of time and step. A point
that was logged late comes in anywhere, and nothing but the points themselves tells that there is one: all of them are read
at every import, and compared with those that are stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from .._errors import DataLossError, FailedPreconditionError, UnavailableError
from ._arrow_columns import Columns
from ._batches import columns_of_points
from ._mlflow import CONTEXT_TAG, NOTE_TAG, fill_from_tags, restored, source_of
from ._records import Dataset, Fetched, Files, Point, SourceExperiment, SourceRun, digest_of

_TIMEOUT_S = 120
_PAGE = 1000
_POINTS = 25_000
# Points of a run that are kept between its fingerprint and its streams: 24 bytes each.
_KEPT = 5_000_000
# How often a history that grows meanwhile is read.
_READS = 5


@dataclass
class _Read:
    """What was read of the metrics of the run that was asked for last.

    A fingerprint is of what a stream before it gave, and a stream gives what was read for a fingerprint before it.
    """

    run: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    points: dict[str, Columns] = field(default_factory=dict)
    """For the streams, unless they are too many."""
    count: int = 0

    def add(self, key: str, columns: Columns, content: bytes, keep: bool) -> None:
        self.digests[key] = hashlib.sha256(content).hexdigest()
        self.count += len(columns[0])
        if keep and self.count <= _KEPT:
            self.points[key] = columns


class Server:
    """The server at an http address."""

    grows_at_end = False

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.headers = {"Accept": "application/json", **_authorization()}
        # Run -> the keys of its metrics.
        self._keys: dict[str, list[str]] = {}
        self._read = _Read()
        # Experiment -> run -> its models: id and name.
        self._models: dict[str, dict[str, list[tuple[str, str]]]] = {}
        # The list of files of the run that was asked for last: a fingerprint comes before the files.
        self._list_of: tuple[str, list[tuple[str, int, str] | str]] = ("", [])
        self._call("experiments/search", {"max_results": 1})

    def describe(self) -> str:
        return f"mlflow-server:{self.url}"

    def _open(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers if body is None else {**self.headers, "Content-Type": "application/json"}
        try:
            return urlopen(Request(f"{self.url}/{path}", data, headers), timeout=_TIMEOUT_S)
        except HTTPError as error:
            with error:
                text = error.read(2000).decode(errors="replace")
            raise FailedPreconditionError(
                f"MLflow at {self.url} answered {error.code} to {path}: {text}"
            ) from error
        except (URLError, OSError, HTTPException) as error:
            raise UnavailableError(f"MLflow at {self.url} cannot be reached: {error}") from error

    def _call(self, method: str, body: dict[str, Any] | None = None, **query: object) -> dict[str, Any]:
        path = f"api/2.0/mlflow/{method}" + (f"?{urlencode(query)}" if query else "")
        with self._open(path, body) as answer:
            return json.load(answer)

    def _pages(self, method: str, body: dict[str, Any], field: str) -> Iterator[dict[str, Any]]:
        while True:
            answer = self._call(method, body)
            yield from answer.get(field, ())
            token = answer.get("next_page_token")
            if not token:
                return
            body = {**body, "page_token": token}

    def experiments(self) -> Sequence[SourceExperiment]:
        found = []
        for one in self._pages(
            "experiments/search", {"max_results": _PAGE, "view_type": "ALL"}, "experiments"
        ):
            tags = _pairs(one.get("tags"))
            notes = tags.pop(NOTE_TAG, "")
            if one.get("artifact_location"):
                tags["mlflow.artifact_location"] = one["artifact_location"]
            deleted = one.get("lifecycle_stage") == "deleted"
            found.append(SourceExperiment(one["experiment_id"], one["name"], notes, tags, deleted))
        return found

    def runs(self, experiment: SourceExperiment) -> Iterator[SourceRun]:
        self._read = _Read()
        body = {
            "experiment_ids": [experiment.key],
            "run_view_type": "ALL",
            "max_results": _PAGE,
            "order_by": ["attributes.start_time ASC"],
        }
        for one in self._pages("runs/search", body, "runs"):
            info, data = one["info"], one.get("data", {})
            status = info.get("status", "RUNNING")
            end = info.get("end_time")
            run = SourceRun(
                info.get("run_id") or info["run_uuid"],
                experiment,
                info.get("run_name", ""),
                "RUNNING" if status == "SCHEDULED" else status,
                int(info.get("start_time") or 0) * 1000,
                None if end is None else int(end) * 1000,
                deleted=info.get("lifecycle_stage") == "deleted",
                tags=_pairs(data.get("tags")),
                params=_pairs(data.get("params")),
                datasets=[_dataset(entry) for entry in one.get("inputs", {}).get("dataset_inputs", ())],
            )
            fill_from_tags(run, info.get("user_id"))
            self._keys[run.key] = sorted({metric["key"] for metric in data.get("metrics", ())})
            yield run

    def fingerprint(self, run: SourceRun, files: bool) -> str:
        digests = self._read_of(run).digests
        for key in self._keys[run.key]:
            if key not in digests:
                self._history(run, key, keep=True)
        return digest_of(sorted(digests.items()), self._listed(run) if files else "")

    def streams(self, run: SourceRun) -> Iterator[tuple[str, Iterator[Point]]]:
        for key in self._keys[run.key]:
            columns = self._read_of(run).points.pop(key, None) or self._history(run, key, keep=False)
            yield key, ((key, *point) for point in zip(*columns, strict=True))

    def _read_of(self, run: SourceRun) -> _Read:
        if self._read.run != run.key:
            self._read = _Read(run.key)
        return self._read

    def _history(self, run: SourceRun, key: str, keep: bool) -> Columns:
        """All points of a metric: steps, times and values."""
        before: list[bytes] = []
        for _ in range(_READS):
            columns, whole = self._read_history(run.key, key)
            found = [column.tobytes() for column in columns]
            # Several points may be alike, where the server keeps them in files: then they are so again.
            if whole or found == before:
                self._read_of(run).add(key, columns, b"".join(found), keep)
                return columns
            before = found
        raise DataLossError(f"the metric {key!r} grew while it was read; run the import again")

    def _read_history(self, run: str, key: str) -> tuple[Columns, bool]:
        """The points, and whether the pages of them fit together.

        A page begins so many points after the beginning: a point that comes late in a page that was read moves the last
        one of it into the next page as well.
        """
        found: list[tuple[int, int, float]] = []
        whole = True
        query: dict[str, object] = {"run_id": run, "metric_key": key, "max_results": _POINTS}
        while True:
            answer = self._call("metrics/get-history", None, **query)
            page = [
                (int(one.get("step", 0)), int(one.get("timestamp", 0)) * 1000, restored(float(one["value"])))
                for one in answer.get("metrics", ())
            ]
            whole = whole and not (page and repr(page[0]) in map(repr, found[-_POINTS:]))
            found += page
            token = answer.get("next_page_token")
            if not token:
                break
            query["page_token"] = token
        # Stable: equal times and steps stay as they come.
        found.sort(key=lambda point: (point[1], point[0]))
        return columns_of_points(key, found), whole

    def files(self, run: SourceRun, present: dict[str, int]) -> Iterator[Files | Fetched | str]:
        for found in self._listed(run):
            if isinstance(found, str):
                yield found
            else:
                target, size, address = found
                if present.get(target) != size:
                    yield Fetched(target, partial(self._download, address))

    def _listed(self, run: SourceRun) -> list[tuple[str, int, str] | str]:
        """Path in the run, size and address of its files; a sentence where they cannot be listed."""
        if self._list_of[0] == run.key:
            return self._list_of[1]
        found: list[tuple[str, int, str] | str] = []
        try:
            for path, size in self._list("artifacts/list", "path", "", run_id=run.key):
                found.append((path, size, f"get-artifact?{urlencode({'path': path, 'run_uuid': run.key})}"))
        except (FailedPreconditionError, ValueError) as error:
            found.append(f"files of run {run.name!r} ({run.key}) cannot be listed: {error}")
        for model, name in self._models_of(run):
            place = f"logged-models/{quote(model, safe='')}/artifacts"
            try:
                for path, size in self._list(f"{place}/directories", "artifact_directory_path", ""):
                    query = urlencode({"artifact_file_path": path})
                    found.append((f"{name}/{path}", size, f"ajax-api/2.0/mlflow/{place}/files?{query}"))
            except (FailedPreconditionError, ValueError) as error:
                found.append(f"files of model {name!r} ({model}) cannot be listed: {error}")
        self._list_of = run.key, found
        return found

    def _models_of(self, run: SourceRun) -> list[tuple[str, str]]:
        """Since MLflow 3, models are beside the artifacts of the run that made them."""
        experiment = run.experiment.key
        if experiment not in self._models:
            found = self._models[experiment] = {}
            body = {"experiment_ids": [experiment], "max_results": 50}
            try:
                for one in self._pages("logged-models/search", body, "models"):
                    info = one["info"]
                    names = found.setdefault(info.get("source_run_id", ""), [])
                    names.append((info["model_id"], info.get("name") or info["model_id"]))
            except FailedPreconditionError:
                found.clear()  # a server from before
        return self._models[experiment].get(run.key, [])

    def _list(self, method: str, field: str, path: str, **which: object) -> Iterator[tuple[str, int]]:
        query: dict[str, object] = {**which, field: path} if path else dict(which)
        while True:
            answer = self._call(method, None, **query)
            for one in answer.get("files", ()):
                if one.get("is_dir"):
                    yield from self._list(method, field, one["path"], **which)
                else:
                    yield one["path"], int(one.get("file_size") or 0)
            token = answer.get("next_page_token")
            if not token:
                return
            query["page_token"] = token

    def _download(self, address: str, local: str) -> None:
        try:
            with self._open(address) as answer, open(local, "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
        except HTTPException as error:
            raise DataLossError(
                f"MLflow at {self.url} broke off in the middle of {address}: {error}"
            ) from error


def _pairs(entries: list[dict[str, str]] | None) -> dict[str, str]:
    return {entry["key"]: entry.get("value", "") for entry in entries or ()}


def _dataset(entry: dict[str, Any]) -> Dataset:
    data = {field: str(value or "") for field, value in entry.get("dataset", {}).items()}
    context = _pairs(entry.get("tags")).get(CONTEXT_TAG, "")
    name, digest, source, kind = (
        data.get(field, "") for field in ("name", "digest", "source", "source_type")
    )
    return Dataset(name, digest, source_of(source), kind, context)


def _authorization() -> dict[str, str]:
    """As MLflow's own client takes it from the environment."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}
