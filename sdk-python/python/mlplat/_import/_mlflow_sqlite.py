"""An MLflow database in a SQLite file, read without MLflow.

Invariant: the file is opened for reading only. Points come in the order in which they were stored, to which MLflow only
ever adds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from .._errors import MisuseError
from ._local_files import LocalFiles
from ._mlflow import CONTEXT_TAG, NOTE_TAG, fill_from_tags, has_logged, restored, source_of
from ._records import Dataset, Files, Point, SourceExperiment, SourceRun, digest_of

_ROWS = 20_000


class Database:
    """The database behind `sqlite:///mlflow.db`."""

    grows_at_end = True

    def __init__(self, path: str, artifacts_root: str | None = None) -> None:
        self.path = os.path.abspath(path)
        self.problems: list[str] = []
        self.notes: list[str] = []
        if not os.path.isfile(self.path):
            raise MisuseError(f"there is no file {self.path}")
        self.local = LocalFiles(os.path.dirname(self.path), artifacts_root)
        try:
            self.db = sqlite3.connect(f"file:{_quoted(self.path)}?mode=ro", uri=True)
            self.tables = {
                table: {row[1] for row in self.db.execute(f"PRAGMA table_info({table})")}
                for (table,) in self.db.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                ).fetchall()
            }
        except sqlite3.Error as error:
            raise MisuseError(f"{self.path} is not a SQLite database: {error}") from error
        if not {"experiments", "runs", "metrics"} <= self.tables.keys():
            raise MisuseError(f"{self.path} is not a database of MLflow: it has no table of runs")

    def describe(self) -> str:
        return f"mlflow-database:{self.path}"

    def _rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self.db.execute(sql, arguments).fetchall()

    def _tags(self, table: str, owner: str, key: object) -> dict[str, str]:
        rows = (
            self._rows(f"SELECT key, value FROM {table} WHERE {owner} = ?", key)
            if table in self.tables
            else []
        )
        return {name: "" if value is None else str(value) for name, value in rows}

    def experiments(self) -> Sequence[SourceExperiment]:
        found = []
        for key, name, location, stage in self._rows(
            "SELECT experiment_id, name, artifact_location, lifecycle_stage FROM experiments ORDER BY experiment_id"
        ):
            tags = self._tags("experiment_tags", "experiment_id", key)
            notes = tags.pop(NOTE_TAG, "")
            if location:
                tags["mlflow.artifact_location"] = location
            found.append(SourceExperiment(str(key), name, notes, tags, stage == "deleted"))
        return found

    def runs(self, experiment: SourceExperiment) -> Iterator[SourceRun]:
        rows = self._rows(
            "SELECT run_uuid, name, status, start_time, end_time, lifecycle_stage, user_id FROM runs "
            "WHERE experiment_id = ? ORDER BY start_time, run_uuid",
            int(experiment.key),
        )
        for key, name, status, start, end, stage, user in rows:
            run = SourceRun(
                key,
                experiment,
                name or "",
                "RUNNING" if status == "SCHEDULED" else status,
                (start or 0) * 1000,
                None if end is None else end * 1000,
                deleted=stage == "deleted",
                tags=self._tags("tags", "run_uuid", key),
                params=self._tags("params", "run_uuid", key),
                datasets=self._datasets(key),
            )
            fill_from_tags(run, user)
            yield run

    def _datasets(self, run: str) -> list[Dataset]:
        if not {"inputs", "datasets", "input_tags"} <= self.tables.keys():
            return []
        rows = self._rows(
            "SELECT d.name, d.digest, d.dataset_source, d.dataset_source_type, t.value FROM inputs i "
            "JOIN datasets d ON d.dataset_uuid = i.source_id "
            "LEFT JOIN input_tags t ON t.input_uuid = i.input_uuid AND t.name = ? "
            "WHERE i.destination_id = ? AND i.source_type = 'DATASET' ORDER BY d.name, d.digest",
            CONTEXT_TAG,
            run,
        )
        return [
            Dataset(name, digest, source_of(source or ""), kind or "", context or "")
            for name, digest, source, kind, context in rows
        ]

    def fingerprint(self, run: SourceRun, files: bool) -> str:
        [points] = self._rows(
            "SELECT count(*), max(timestamp), max(rowid) FROM metrics WHERE run_uuid = ?", run.key
        )
        if not files:
            return digest_of(points)
        uri, models = self._artifact_uri(run), self._models(run)
        own = self.local.listed(uri, _place(run), has_logged(run, bool(models))) if uri else ""
        return digest_of(points, own, [(name, self.local.listed(*at)) for name, at in models])

    def streams(self, run: SourceRun) -> Iterator[tuple[str, Iterator[Point]]]:
        yield "metrics", self._points(run.key)

    def _points(self, run: str) -> Iterator[Point]:
        columns = self.tables["metrics"]
        step = "step" if "step" in columns else "0"
        is_nan = "is_nan" if "is_nan" in columns else "0"
        cursor = self.db.execute(
            f"SELECT key, {step}, timestamp, value, {is_nan} FROM metrics WHERE run_uuid = ? ORDER BY rowid",
            (run,),
        )
        nan = float("nan")
        while rows := cursor.fetchmany(_ROWS):
            for key, at, millis, value, no_number in rows:
                yield key, at, millis * 1000, nan if no_number else restored(value)

    def files(self, run: SourceRun, present: dict[str, int]) -> Iterator[Files | str]:
        models = self._models(run)
        if uri := self._artifact_uri(run):
            yield from self.local.files(uri, _place(run), has_logged(run, bool(models)))
        for name, at in models:
            yield from self.local.model(name, *at)

    def _artifact_uri(self, run: SourceRun) -> str:
        [(uri,)] = self._rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run.key)
        return uri or ""

    def _models(self, run: SourceRun) -> list[tuple[str, tuple[str, tuple[str, ...]]]]:
        """Since MLflow 3, models are beside the artifacts of the run that made them: name, address and its last parts."""
        if "logged_models" not in self.tables:
            return []
        rows = self._rows(
            "SELECT model_id, name, artifact_location FROM logged_models WHERE source_run_id = ? ORDER BY "
            "creation_timestamp_ms",
            run.key,
        )
        return [
            (name, (uri or "", (run.experiment.key, "models", model, "artifacts")))
            for model, name, uri in rows
        ]


def _place(run: SourceRun) -> tuple[str, ...]:
    """The last parts of where the files of a run are."""
    return run.experiment.key, run.key, "artifacts"


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
