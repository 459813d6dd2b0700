"""Writes the runs of a source: the one place that knows how an import stays repeatable.

Invariant: each run keeps its id, each stream of points is a writer of its own whose records are numbered from 1, so the
server stores every point once however often it is sent. A run is marked as complete last; one that is marked with the
same fingerprint is passed by.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import uuid
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from .. import _native, _runs
from .._errors import AlreadyExistsError, DataLossError, FailedPreconditionError, MlplatError, NotFoundError
from ._records import NAMESPACE, Files, Point, Source, SourceExperiment, SourceRun, run_id_of

SOURCE_TAG = "import.source"
DONE_TAG = "import.complete"

_POINTS_PER_BATCH = 200_000
_KEYS_PER_BATCH = 5000
_TEXT_PER_BATCH = 1 << 20
_ENTRIES_PER_BATCH = 5000
_MAX_VALUE = 64 * 1024
_MAX_KEY = 250
_MAX_DESCRIPTION = 10_000


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
    began = time.monotonic()
    summary = Summary()
    chosen = [
        experiment
        for experiment in source.experiments()
        if not wish.experiments or experiment.name in wish.experiments
    ]
    for name in wish.experiments:
        if not any(experiment.name == name for experiment in chosen):
            summary.errors.append(f"there is no experiment {name!r} in {source.describe()}")
    runs: list[SourceRun] = []
    for experiment in chosen:
        if experiment.deleted and not wish.deleted:
            summary.left_out += 1
            summary.note(f"experiment {experiment.name!r} is deleted and was left out; --deleted imports it")
            continue
        summary.experiments += 1
        for run in source.runs(experiment):
            if run.deleted and not wish.deleted:
                summary.left_out += 1
                summary.note("deleted runs were left out; --deleted imports them")
            else:
                runs.append(run)
        if not wish.dry_run:
            _create_experiment(experiment, summary)
    progress = _Progress(len(runs))
    try:
        for run in _parents_first(runs):
            progress.show(f"{run.experiment.name}/{run.name}", summary)
            _import_one(client, source, run, wish, summary)
    finally:
        progress.clear()
    summary.errors += source.problems
    summary.seconds = time.monotonic() - began
    return summary


def _create_experiment(experiment: SourceExperiment, summary: Summary) -> None:
    tags = {_key(key): _value(value, summary) for key, value in experiment.tags.items()}
    with suppress(AlreadyExistsError):
        description = experiment.description[:_MAX_DESCRIPTION]
        _runs.create_experiment(_name(experiment.name), description=description, tags=tags)


def _parents_first(runs: list[SourceRun]) -> Iterator[SourceRun]:
    """Each run after the one it is nested in; a parent that is not imported too is none."""
    by_key = {run.key: run for run in runs}
    done: set[str] = set()
    for run in runs:
        line: list[SourceRun] = []
        one: SourceRun | None = run
        while one is not None and one.key not in done and one not in line:
            line.append(one)
            one = by_key.get(one.parent) if one.parent else None
        for next_one in reversed(line):
            if next_one.parent not in done:
                next_one.parent = None
            done.add(next_one.key)
            yield next_one


def _import_one(client: _native.Client, source: Source, run: SourceRun, wish: Wish, summary: Summary) -> None:
    try:
        fingerprint = source.fingerprint(run) + ("" if wish.artifacts else " without files")
        before = _existing(run)
        if before is not None and before.tags.get(DONE_TAG) == fingerprint:
            summary.unchanged += 1
            return
        _check_kind(source, before)
        if wish.dry_run:
            summary.runs += 1
            summary.points += sum(1 for _, points in source.streams(run) for _ in points)
            return
        _write(client, source, run, wish, summary)
        _log_texts(client, run, {}, {DONE_TAG: fingerprint}, summary)
        summary.runs += 1
    except (MlplatError, OSError, ValueError) as error:
        summary.errors.append(f"run {run.name!r} ({run.key}) of {run.experiment.name!r}: {error}")


def _existing(run: SourceRun) -> _runs.Run | None:
    try:
        return _runs.get_run(run.id)
    except NotFoundError:
        return None


def _check_kind(source: Source, before: _runs.Run | None) -> None:
    """A database, a folder and a server number the same points differently, so that they would come twice."""
    kind = source.describe().partition(":")[0]
    known = before.tags.get(SOURCE_TAG, kind) if before is not None else kind
    if known.partition(":")[0] != kind:
        raise FailedPreconditionError(
            f"it was imported from {known.partition('#')[0]}, and goes on only from there"
        )


def _write(client: _native.Client, source: Source, run: SourceRun, wish: Wish, summary: Summary) -> None:
    start = {
        "run_id": run.id,
        "experiment": _name(run.experiment.name),
        "name": _name(run.name),
        "parent": None if run.parent is None else run_id_of(run.parent),
        "description": run.description[:_MAX_DESCRIPTION],
        "tags": {SOURCE_TAG: f"{source.describe()}#{run.key}"},
    }
    _native.import_run(client, start, run.started_us * 1000).wait()
    _log_texts(client, run, run.params, run.tags, summary)
    for name, points in source.streams(run):
        summary.points += _log_stream(client, run, name, points)
    if wish.artifacts:
        _log_files(client, source, run, summary)
    if run.status != "RUNNING":
        ended = run.started_us if run.ended_us is None else run.ended_us
        message = run.message[:_MAX_DESCRIPTION]
        _native.import_end(client, run.id, run.status, message, max(ended, run.started_us) * 1000).wait()


def _log_texts(
    client: _native.Client,
    run: SourceRun,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    summary: Summary,
) -> None:
    """Params and labels. Their writer is their content: what was changed since in mlplat stays, unless the source changed."""
    entries = [("p", _key(key), _value(value, summary)) for key, value in params.items()]
    entries += [("t", _key(key), _value(value, summary)) for key, value in tags.items()]
    digest = hashlib.sha256(repr(entries).encode()).hexdigest()
    writer = str(uuid.uuid5(NAMESPACE, f"{run.id} texts {digest}"))
    sequence = 0
    while entries:
        count = size = 0
        while count < min(len(entries), _ENTRIES_PER_BATCH) and size < _TEXT_PER_BATCH:
            size += len(entries[count][1]) + len(entries[count][2])
            count += 1
        part, entries = entries[:count], entries[count:]
        sequence += 1
        _native.import_batch(
            client,
            run.id,
            (writer, sequence, sequence),
            [],
            {key: value for kind, key, value in part if kind == "p"},
            {key: value for kind, key, value in part if kind == "t"},
        ).wait()


def _log_stream(client: _native.Client, run: SourceRun, name: str, points: Iterator[Point]) -> int:
    """All points of a stream; returns how many were new."""
    writer = str(uuid.uuid5(NAMESPACE, f"{run.id} points {name}"))
    first, new = 1, 0
    while part := list(islice(points, _POINTS_PER_BATCH)):
        for piece in _pieces(part):
            new += _log_piece(client, run.id, writer, first, piece)
            first += len(piece)
    return new


def _pieces(part: list[Point]) -> list[list[Point]]:
    """The same points in pieces whose keys fit into one batch."""
    if len({point[0] for point in part}) <= _KEYS_PER_BATCH:
        return [part]
    half = len(part) // 2
    return _pieces(part[:half]) + _pieces(part[half:])


def _log_piece(client: _native.Client, run_id: str, writer: str, first: int, piece: list[Point]) -> int:
    """Sends the points with these numbers; where the server has a beginning of them, only the rest."""
    begin, last = first, first + len(piece) - 1
    while True:
        columns = _columns(piece[begin - first :])
        replayed, stored = _native.import_batch(client, run_id, (writer, begin, last), columns, {}, {}).wait()
        if not replayed:
            return last - begin + 1
        if stored == 0 or stored >= last:
            return 0  # all of it was there; a server that is older does not say how far
        if stored < begin:
            raise DataLossError("the server has fewer points than it had; run the import again")
        begin = stored + 1


def _columns(points: list[Point]) -> list[tuple[str, bytes, bytes, bytes]]:
    series: dict[str, tuple[array[int], array[int], array[float]]] = {}
    for key, step, micros, value in points:
        found = series.get(key)
        if found is None:
            found = series[key] = (array("q"), array("q"), array("d"))
        found[0].append(step)
        found[1].append(micros)
        found[2].append(value)
    return [
        (metric_key(key), steps.tobytes(), times.tobytes(), values.tobytes())
        for key, (steps, times, values) in series.items()
    ]


def _log_files(client: _native.Client, source: Source, run: SourceRun, summary: Summary) -> None:
    present = {file.path: file for file in _runs.get_run(run.id).artifacts()}
    sizes = {path: file.size_bytes for path, file in present.items()}
    digests = {path: file.sha256 for path, file in present.items()}
    for found in source.files(run, sizes):
        if isinstance(found, str):
            summary.note(found)
            continue
        try:
            _log_one(client, run, found, digests, summary)
        finally:
            if found.temporary:
                shutil.rmtree(os.path.dirname(found.path), ignore_errors=True)


def _log_one(
    client: _native.Client, run: SourceRun, found: Files, digests: dict[str, str], summary: Summary
) -> None:
    """Uploads a file or folder, unless the run has all of it."""
    new = [
        (target, path)
        for target, path in _walk(found.path, found.target)
        if target not in digests or digests[target] != _digest(path)
    ]
    if not new:
        return
    if found.name and found.name != os.path.basename(found.path):
        _upload_as(client, run, found, summary)
    else:
        _report(_native.import_artifact(client, run.id, found.path, found.directory).wait(), summary)
    summary.files += len(new)
    summary.bytes += sum(os.path.getsize(path) for _, path in new)


def _upload_as(client: _native.Client, run: SourceRun, found: Files, summary: Summary) -> None:
    """A folder under another name: each of its entries into that directory."""
    for entry in sorted(os.scandir(found.path), key=lambda entry: entry.name):
        _report(_native.import_artifact(client, run.id, entry.path, found.target).wait(), summary)


def _report(uploaded: tuple[str, list[tuple[str, str]]], summary: Summary) -> None:
    for local, why in uploaded[1]:
        summary.note(f"{local} was left out: {why}")


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


def metric_key(key: str) -> str:
    """A key that the server takes: other characters become `_`."""
    if key.isidentifier() and len(key) <= _MAX_KEY:
        return key
    return (
        "".join(letter if letter.isalnum() or letter in "_-./ :" else "_" for letter in key)[:_MAX_KEY] or "_"
    )


def _name(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:_MAX_KEY] or "unnamed"


def _key(text: str) -> str:
    return _name(text)


def _value(text: str, summary: Summary) -> str:
    text = text.replace("\0", "\ufffd")
    if len(text.encode()) > _MAX_VALUE:
        summary.note(f"a param or tag was longer than {_MAX_VALUE} bytes and was cut")
        text = text.encode()[:_MAX_VALUE].decode(errors="ignore")
    return text


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
