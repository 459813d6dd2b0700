"""Writes the runs of a source: the one place that knows how an import stays repeatable.

Invariant: each run has one id however often it is imported into a project, and each stream of points is a writer of its
own whose records are numbered from 1, so that the server stores every point once. A run is marked as complete last; one
that is marked with the same fingerprint is passed by.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from .. import _native, _runs
from .._errors import AlreadyExistsError, FailedPreconditionError, MlplatError, NotFoundError
from ._batches import log_stream, log_texts, name_of, set_tag, value_of
from ._records import NAMESPACE, Files, Source, SourceExperiment, SourceRun

SOURCE_TAG = "import.source"
DONE_TAG = "import.complete"

_MAX_DESCRIPTION = 10_000
_MAX_NAME = 250
_MAX_SOURCE = 2000
_MAX_SOURCE_TYPE = 100


@dataclass
class Wish:
    """What to import, and how."""

    experiments: tuple[str, ...] = ()
    """Only these; empty means all."""
    artifacts: bool = True
    deleted: bool = False
    dry_run: bool = False


@dataclass
class Summary:
    """What was done."""

    experiments: int = 0
    runs: int = 0
    unchanged: int = 0
    left_out: int = 0
    points: int = 0
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Something that the user should know, once."""
        if text not in self.notes:
            self.notes.append(text)


def import_all(client: _native.Client, source: Source, wish: Wish) -> Summary:
    """Imports what is wished of a source."""
    return _Import(client, source, wish).all()


class _Import:
    def __init__(self, client: _native.Client, source: Source, wish: Wish) -> None:
        self.client = client
        self.source = source
        self.wish = wish
        self.summary = Summary()
        # Key -> id of the runs that are in mlplat.
        self.ids: dict[str, str] = {}

    def all(self) -> Summary:
        began = time.monotonic()
        runs = [run for experiment in self._experiments() for run in self._runs(experiment)]
        progress = _Progress(len(runs))
        try:
            for run in _parents_first(runs):
                progress.show(f"{run.experiment.name}/{run.name}", self.summary)
                self._one(run)
        finally:
            progress.clear()
        self.summary.errors += self.source.problems
        self.summary.seconds = time.monotonic() - began
        return self.summary

    def _experiments(self) -> Iterator[SourceExperiment]:
        found = self.source.experiments()
        for name in self.wish.experiments:
            if not any(experiment.name == name for experiment in found):
                self.summary.errors.append(f"there is no experiment {name!r} in {self.source.describe()}")
        for experiment in found:
            if self.wish.experiments and experiment.name not in self.wish.experiments:
                continue
            if experiment.deleted and not self.wish.deleted:
                self.summary.left_out += 1
                self.summary.note(
                    f"experiment {experiment.name!r} is deleted and was left out; --deleted imports it"
                )
                continue
            self.summary.experiments += 1
            if not self.wish.dry_run:
                tags = {name_of(key): value_of(value) for key, value in experiment.tags.items()}
                description = experiment.description[:_MAX_DESCRIPTION]
                with suppress(AlreadyExistsError):
                    _runs.create_experiment(name_of(experiment.name), description=description, tags=tags)
            yield experiment

    def _runs(self, experiment: SourceExperiment) -> Iterator[SourceRun]:
        for run in self.source.runs(experiment):
            if run.deleted and not self.wish.deleted:
                self.summary.left_out += 1
                self.summary.note("deleted runs were left out; --deleted imports them")
            else:
                yield run

    def _one(self, run: SourceRun) -> None:
        try:
            fingerprint = self.source.fingerprint(run) + ("" if self.wish.artifacts else " without files")
            before = self._find(run)
            if before is not None and before.tags.get(DONE_TAG) == fingerprint:
                self.summary.unchanged += 1
                return
            self._check_kind(before)
            if self.wish.dry_run:
                self.summary.runs += 1
                self.summary.points += sum(1 for _, points in self.source.streams(run) for _ in points)
                return
            self._write(run, before)
            set_tag(self.client, run.id, DONE_TAG, fingerprint)
            if run.deleted:
                # And can be restored.
                _native.delete_runs(self.client, [run.id], False).wait()
            self.summary.runs += 1
        except (MlplatError, OSError, ValueError) as error:
            self.summary.errors.append(f"run {run.name!r} ({run.key}) of {run.experiment.name!r}: {error}")

    def _find(self, run: SourceRun) -> _runs.Run | None:
        """The run in this project, by its own id or by the one it got because another project has it too."""
        for run_id in (run.id, self._other_id(run)):
            try:
                found = _runs.get_run(run_id, view="all")
            except NotFoundError:
                continue
            run.id = self.ids[run.key] = found.id
            return found
        return None

    def _other_id(self, run: SourceRun) -> str:
        return str(uuid.uuid5(NAMESPACE, f"{self.client.project} {run.key}"))

    def _check_kind(self, before: _runs.Run | None) -> None:
        """A database, a folder and a server number the same points differently, so that they would come twice."""
        kind = self.source.describe().partition(":")[0]
        known = before.tags.get(SOURCE_TAG, kind) if before is not None else kind
        if known.partition(":")[0] != kind:
            raise FailedPreconditionError(
                f"it was imported from {known.partition('#')[0]}, and goes on only from there"
            )

    def _write(self, run: SourceRun, before: _runs.Run | None) -> None:
        if before is None:
            self._create(run)
        log_texts(self.client, run.id, run.params, run.tags)
        for name, points in self.source.streams(run):
            self.summary.points += log_stream(self.client, run.id, name, points)
        self._log_datasets(run)
        if self.wish.artifacts:
            _FilesOf(self.client, run, self.summary).log(self.source)
        if run.status != "RUNNING":
            ended = max(run.started_us if run.ended_us is None else run.ended_us, run.started_us)
            message = run.message[:_MAX_DESCRIPTION]
            _native.import_end(self.client, run.id, run.status, message, ended * 1000).wait()

    def _log_datasets(self, run: SourceRun) -> None:
        for data in run.datasets:
            entry = {
                "name": name_of(data.name),
                "digest": data.digest[:_MAX_NAME],
                "source": data.source[:_MAX_SOURCE],
                "source_type": data.source_type[:_MAX_SOURCE_TYPE],
                "context": data.context[:_MAX_NAME],
                "fields": [],
                "rows": None,
            }
            _native.log_input(self.client, run.id, entry).wait()

    def _create(self, run: SourceRun) -> None:
        start = {
            "run_id": run.id,
            "experiment": name_of(run.experiment.name),
            "name": name_of(run.name),
            "parent": self.ids.get(run.parent or ""),
            "description": run.description[:_MAX_DESCRIPTION],
            "tags": {SOURCE_TAG: f"{self.source.describe()}#{run.key}"},
            "started_at": run.started_us * 1000,
        }
        try:
            _native.import_run(self.client, start).wait()
        except AlreadyExistsError:
            # In another project of this server.
            start["run_id"] = run.id = self._other_id(run)
            _native.import_run(self.client, start).wait()
        self.ids[run.key] = run.id


def _parents_first(runs: list[SourceRun]) -> Iterator[SourceRun]:
    """Each run after the one it is nested in."""
    by_key = {run.key: run for run in runs}
    done: set[str] = set()
    for run in runs:
        line: list[SourceRun] = []
        one: SourceRun | None = run
        while one is not None and one.key not in done and one not in line:
            line.append(one)
            one = by_key.get(one.parent) if one.parent else None
        for next_one in reversed(line):
            done.add(next_one.key)
            yield next_one


class _FilesOf:
    """Brings the files of one run over; those that it has already are not sent again."""

    def __init__(self, client: _native.Client, run: SourceRun, summary: Summary) -> None:
        self.client = client
        self.run = run
        self.summary = summary
        present = _runs.get_run(run.id, view="all").artifacts()
        self.sizes = {file.path: file.size_bytes for file in present}
        self.digests = {file.path: file.sha256 for file in present}

    def log(self, source: Source) -> None:
        for found in source.files(self.run, self.sizes):
            if isinstance(found, str):
                self.summary.note(found)
                continue
            try:
                self._log_one(found)
            finally:
                if found.temporary:
                    shutil.rmtree(os.path.dirname(found.path), ignore_errors=True)

    def _log_one(self, found: Files) -> None:
        new = [path for target, path in _walk(found.path, found.target) if self._is_new(target, path)]
        if not new:
            return
        if found.name and found.name != os.path.basename(found.path):
            # A folder under another name: each of its entries into that directory.
            for entry in sorted(os.scandir(found.path), key=lambda entry: entry.name):
                self._upload(entry.path, found.target)
        else:
            self._upload(found.path, found.directory)
        self.summary.files += len(new)
        self.summary.bytes += sum(os.path.getsize(path) for path in new)

    def _is_new(self, target: str, path: str) -> bool:
        return target not in self.digests or self.digests[target] != _digest(path)

    def _upload(self, path: str, directory: str) -> None:
        _, skipped = _native.import_artifact(self.client, self.run.id, path, directory).wait()
        for local, why in skipped:
            self.summary.note(f"{local} was left out: {why}")


def _walk(path: str, target: str) -> Iterator[tuple[str, str]]:
    if not os.path.isdir(path):
        yield target, path
        return
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if not entry.is_symlink():
            yield from _walk(entry.path, f"{target}/{entry.name}")


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


class _Progress:
    """One line on a terminal, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.shown = sys.stderr.isatty()

    def show(self, what: str, summary: Summary) -> None:
        self.done += 1
        if self.shown:
            text = (
                f"{self.done}/{self.total} runs, {summary.points:,} points, {summary.files:,} files: {what}"
            )
            print(f"\r\x1b[K{text[:120]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
