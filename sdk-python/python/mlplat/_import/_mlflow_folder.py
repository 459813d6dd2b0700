"""A folder `mlruns`, as MLflow's file store writes it.

Invariant: each metric is a file to which MLflow only ever adds lines, so each is a stream of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from .._errors import MisuseError
from ._flat_yaml import read_flat_yaml
from ._local_files import LocalFiles
from ._mlflow import CONTEXT_TAG, NOTE_TAG, fill_from_tags, has_logged, source_of
from ._records import Dataset, Files, Point, SourceExperiment, SourceRun, digest_of, sentence_of

_STATUSES = {"1": "RUNNING", "2": "RUNNING", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


class Folder:
    """The folder of a file store."""

    grows_at_end = True

    def __init__(self, path: str, artifacts_root: str | None = None) -> None:
        self.path = os.path.abspath(path)
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.local = LocalFiles(os.path.dirname(self.path), artifacts_root, self.path)
        self._places: dict[str, str] = {}
        if not any(self._experiment_folders()):
            raise MisuseError(f"{self.path} is not a folder of MLflow: it has no experiments")

    def describe(self) -> str:
        return f"mlflow-folder:{self.path}"

    def _experiment_folders(self) -> Iterator[tuple[str, bool]]:
        for root, deleted in ((self.path, False), (os.path.join(self.path, ".trash"), True)):
            for name in _folders(root):
                if os.path.isfile(os.path.join(root, name, "meta.yaml")):
                    yield os.path.join(root, name), deleted

    def experiments(self) -> Sequence[SourceExperiment]:
        found = []
        for place, deleted in self._experiment_folders():
            meta = read_flat_yaml(os.path.join(place, "meta.yaml"))
            tags = _texts(os.path.join(place, "tags"))
            notes = tags.pop(NOTE_TAG, "")
            if location := meta.get("artifact_location"):
                tags["mlflow.artifact_location"] = location
            key = meta.get("experiment_id") or os.path.basename(place)
            self._places[key] = place
            deleted = deleted or meta.get("lifecycle_stage") == "deleted"
            found.append(SourceExperiment(key, meta.get("name") or key, notes, tags, deleted))
        return found

    def runs(self, experiment: SourceExperiment) -> Iterator[SourceRun]:
        place = self._places[experiment.key]
        found = []
        for name in _folders(place):
            file = os.path.join(place, name, "meta.yaml")
            if name == "models" or name == "datasets" or not os.path.isfile(file):
                continue
            try:
                found.append(self._run(experiment, place, name))
            except Exception as error:
                # Whatever is in one run, the others are imported.
                self.problems.append(
                    f"the run in {os.path.dirname(file)} cannot be read: {sentence_of(error)}"
                )
        yield from sorted(found, key=lambda run: (run.started_us, run.key))

    def _run(self, experiment: SourceExperiment, place: str, name: str) -> SourceRun:
        meta = read_flat_yaml(os.path.join(place, name, "meta.yaml"))
        key = meta.get("run_id") or meta.get("run_uuid") or name
        self._places[key] = os.path.join(place, name)
        run = SourceRun(
            key,
            experiment,
            meta.get("run_name") or "",
            _STATUSES.get(meta.get("status", ""), "RUNNING"),
            _micros(meta.get("start_time")) or 0,
            _micros(meta.get("end_time")),
            deleted=meta.get("lifecycle_stage") == "deleted",
            tags=_texts(os.path.join(place, name, "tags")),
            params=_texts(os.path.join(place, name, "params")),
            datasets=self._datasets(place, os.path.join(place, name, "inputs")),
        )
        fill_from_tags(run, meta.get("user_id"))
        return run

    def _datasets(self, experiment: str, inputs: str) -> list[Dataset]:
        found = []
        for name in _folders(inputs):
            link = read_flat_yaml(os.path.join(inputs, name, "meta.yaml"))
            data = os.path.join(experiment, "datasets", link.get("source_id") or "", "meta.yaml")
            if link.get("source_type") == "DATASET" and os.path.isfile(data):
                meta = read_flat_yaml(data)
                name, digest, source, kind = (
                    meta.get(field, "") for field in ("name", "digest", "source", "source_type")
                )
                context = link.get(f"tags.{CONTEXT_TAG}", "")
                found.append(Dataset(name, digest, source_of(source), kind, context))
        return found

    def fingerprint(self, run: SourceRun, files: bool) -> str:
        metrics = os.path.join(self._places[run.key], "metrics")
        sizes = [(key, os.path.getsize(path)) for key, path in _walk(metrics)]
        if not files:
            return digest_of(sizes)
        models = [*self._models(run)]
        own = self.local.listed(*self._artifacts(run), has_logged(run, bool(models)))
        return digest_of(sizes, own, [(name, self.local.listed(*at)) for name, at in models])

    def streams(self, run: SourceRun) -> Iterator[tuple[str, Iterator[Point]]]:
        for key, path in _walk(os.path.join(self._places[run.key], "metrics")):
            yield key, _points(key, path)

    def files(self, run: SourceRun, present: dict[str, int]) -> Iterator[Files | str]:
        models = [*self._models(run)]
        yield from self.local.files(*self._artifacts(run), has_logged(run, bool(models)))
        for name, at in models:
            yield from self.local.model(name, *at)

    def _artifacts(self, run: SourceRun) -> tuple[str, tuple[str, ...]]:
        """Where the files of a run are, and the last parts of that."""
        place = self._places[run.key]
        meta = read_flat_yaml(os.path.join(place, "meta.yaml"))
        tail = (run.experiment.key, run.key, "artifacts")
        return meta.get("artifact_uri") or os.path.join(place, "artifacts"), tail

    def _models(self, run: SourceRun) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
        """The models that the run made: name, address and its last parts."""
        models = os.path.join(self._places[run.experiment.key], "models")
        for folder in _folders(models):
            file = os.path.join(models, folder, "meta.yaml")
            model = read_flat_yaml(file) if os.path.isfile(file) else {}
            if model.get("source_run_id") == run.key:
                location = model.get("artifact_location") or ""
                tail = (run.experiment.key, "models", folder, "artifacts")
                yield model.get("name") or folder, (location, tail)


def _points(key: str, path: str) -> Iterator[Point]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            parts = line.split()
            if not parts:
                continue
            try:
                millis, value = int(parts[0]), float(parts[1])
                step = int(parts[2]) if len(parts) > 2 else 0
            except (ValueError, IndexError):
                raise ValueError(
                    f"line {number} of {path} is not a point of a metric: {line[:80]!r}"
                ) from None
            yield key, step, millis * 1000, value


def _folders(path: str) -> list[str]:
    if not os.path.isdir(path):
        return []
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())


def _walk(path: str) -> Iterator[tuple[str, str]]:
    """Files below a folder, with the keys that their paths are."""
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            full = os.path.join(folder, name)
            yield os.path.relpath(full, path).replace(os.sep, "/"), full


def _texts(path: str) -> dict[str, str]:
    found = {}
    for key, file in _walk(path):
        with open(file, encoding="utf-8", newline="") as opened:
            found[key] = opened.read()
    return found


def _micros(millis: str | None) -> int | None:
    return int(millis) * 1000 if millis and millis != "null" else None
