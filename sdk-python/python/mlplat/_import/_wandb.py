"""Offline runs of Weights & Biases: folders with a log, and the files of the run beside it.

Invariant: the steps and values of the history are kept; what of it is no number is left out and said. Points come in the
order of the log, to which wandb only ever adds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._errors import MisuseError
from . import _wandb_log as log
from ._local_files import listed
from ._records import Files, Point, SourceExperiment, SourceRun, digest_of

# Numbers of the fields of the messages of wandb_internal.proto.
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18

# A log without an end that was written to so lately is of a run that goes on.
_LIVE_S = 600
_OWN_FILES = "files"


@dataclass
class _Facts:
    """What the log says of a run beside its history."""

    run_id: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
    job: str = ""
    name: str = ""
    notes: str = ""
    host: str = ""
    sweep: str = ""
    labels: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    started_us: int = 0
    exit_code: int | None = None
    points: int = 0
    last_us: int = 0


class Offline:
    """A folder `offline-run-…`, or one with several of them."""

    grows_at_end = True

    def __init__(self, path: str, experiment: str | None = None) -> None:
        self.path = os.path.abspath(path)
        self.experiment = experiment
        self.logs = _find_logs(self.path)
        if not self.logs:
            raise MisuseError(f"there is no offline run of wandb in {self.path}: no file run-….wandb")
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._log_of: dict[str, list[str]] = {}
        self._facts: dict[str, _Facts] = {}

    def describe(self) -> str:
        return f"wandb-log:{self.path}"

    def experiments(self) -> Sequence[SourceExperiment]:
        found: dict[str, SourceExperiment] = {}
        for path in self.logs:
            try:
                facts = _read_facts(path)
            except log.DamagedLogError as error:
                self.problems.append(str(error))
                continue
            if not facts.run_id:
                self._say_nameless(path, facts)
                continue
            key = f"{facts.entity}/{facts.project}/{facts.run_id}"
            # A run that was resumed has a log each time.
            self._log_of.setdefault(key, []).append(path)
            self._facts[key] = _merged(self._facts.get(key), facts)
            name = self.experiment or facts.project or "uncategorized"
            found.setdefault(name, SourceExperiment(name, name))
        return list(found.values())

    def _say_nameless(self, path: str, facts: _Facts) -> None:
        """A log says first whose it is. One that does not is of a run that was killed at once, or is not written yet."""
        if facts.points:
            self.problems.append(f"{path} does not say of which run it is")
        else:
            self.notes.append(
                f"{path} has nothing in it yet and was left out; a later import takes it when it has"
            )

    def runs(self, experiment: SourceExperiment) -> Iterator[SourceRun]:
        for key, facts in self._facts.items():
            if (self.experiment or facts.project or "uncategorized") == experiment.key:
                yield self._run(key, facts, experiment)

    def _run(self, key: str, facts: _Facts, experiment: SourceExperiment) -> SourceRun:
        paths = self._log_of[key]
        written = max(os.path.getmtime(path) for path in paths)
        status, message = _outcome(facts.exit_code, time.time() - written < _LIVE_S)
        started = facts.started_us or int(os.path.getmtime(paths[0]) * 1e6)
        tags = {
            "wandb.run_id": facts.run_id,
            "wandb.entity": facts.entity,
            "wandb.project": facts.project,
            "wandb.group": facts.group,
            "wandb.job_type": facts.job,
            "wandb.host": facts.host,
            "wandb.sweep": facts.sweep,
            **{f"wandb.tag.{label}": "true" for label in facts.labels},
            **{
                f"summary.{name}": _text(value)
                for name, value in _flat(facts.summary)
                if not name.startswith("_")
            },
        }
        return SourceRun(
            key,
            experiment,
            facts.name or facts.run_id,
            status,
            started,
            max(facts.last_us, started) if status != "RUNNING" else None,
            message,
            facts.notes,
            tags={name: value for name, value in tags.items() if value},
            params={name: _text(value) for name, value in _flat(facts.config)},
        )

    def fingerprint(self, run: SourceRun, files: bool) -> str:
        logs = self._log_of[run.key]
        sizes = [os.path.getsize(path) for path in logs]
        folders = [os.path.join(os.path.dirname(path), _OWN_FILES) for path in logs] if files else []
        return digest_of(sizes, [[*listed(folder)] for folder in folders])

    def streams(self, run: SourceRun) -> Iterator[tuple[str, Iterator[Point]]]:
        for path in self._log_of[run.key]:
            yield os.path.basename(os.path.dirname(path)), _points(path, run.started_us)

    def files(self, run: SourceRun, present: dict[str, int]) -> Iterator[Files | str]:
        for path in self._log_of[run.key]:
            folder = os.path.join(os.path.dirname(path), _OWN_FILES)
            if not os.path.isdir(folder):
                continue
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                yield Files(entry.path)


def _find_logs(path: str) -> list[str]:
    """The logs in this folder or in those one below it, oldest first by their names."""
    if os.path.isfile(path):
        return [path] if path.endswith(".wandb") else []
    if not os.path.isdir(path):
        return []
    found = [entry.path for entry in os.scandir(path) if entry.name.endswith(".wandb") and entry.is_file()]
    if not found:
        for entry in os.scandir(path):
            # `latest-run` is a link to one of them.
            if entry.is_dir(follow_symlinks=False):
                found += [
                    one.path
                    for one in os.scandir(entry.path)
                    if one.name.endswith(".wandb") and one.is_file()
                ]
    if not found and os.path.isdir(os.path.join(path, "wandb")):
        return _find_logs(os.path.join(path, "wandb"))
    return sorted(found)


def _outcome(exit_code: int | None, live: bool) -> tuple[str, str]:
    if exit_code is None:
        return ("RUNNING", "") if live else ("KILLED", "the log of wandb has no end")
    return ("FINISHED", "") if exit_code == 0 else ("FAILED", f"exit code {exit_code}")


def _merged(before: _Facts | None, facts: _Facts) -> _Facts:
    if before is not None:
        facts.started_us = before.started_us or facts.started_us
        facts.config = {**before.config, **facts.config}
        facts.summary = {**before.summary, **facts.summary}
        facts.points += before.points
        facts.last_us = max(facts.last_us, before.last_us)
    return facts


def _read_facts(path: str) -> _Facts:
    facts = _Facts()
    if not os.path.getsize(path):
        return facts
    for record in log.read_records(path):
        for number, value in log.fields(record):
            body = log.message(value)
            if number == _RUN:
                _read_run(facts, body)
            elif number == _CONFIG:
                _update(facts.config, body)
            elif number == _SUMMARY:
                _update(facts.summary, body)
            elif number == _HISTORY:
                facts.points += 1
                facts.last_us = max(facts.last_us, _history_time(body))
            elif number == _EXIT:
                facts.exit_code = log.signed(dict(log.fields(body)).get(1, 0))
    # What wandb notes of itself is no param.
    facts.config.pop("_wandb", None)
    return facts


def _read_run(facts: _Facts, body: bytes) -> None:
    names = {
        1: "run_id", 2: "entity", 3: "project", 6: "group", 7: "job", 8: "name", 9: "notes", 12: "sweep", 13: "host",
    }  # fmt: skip
    labels = []
    for number, value in log.fields(body):
        if number in names:
            setattr(facts, names[number], log.text(value))
        elif number == 10:
            labels.append(log.text(value))
        elif number == 4:
            _update(facts.config, log.message(value))
        elif number == 17:
            stamp = dict(log.fields(log.message(value)))
            facts.started_us = log.signed(stamp.get(1)) * 1_000_000 + log.signed(stamp.get(2)) // 1000
    facts.labels = labels or facts.labels


def _items(body: bytes, wanted: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Key (with its parts, where it is nested) and JSON of the items in this field."""
    for number, value in log.fields(body):
        if number != wanted:
            continue
        key, nested, text = "", [], ""
        for inner, part in log.fields(log.message(value)):
            if inner == 1:
                key = log.text(part)
            elif inner == 2:
                nested.append(log.text(part))
            elif inner == 16:
                text = log.text(part)
        yield tuple(nested) or (key,), text


def _update(target: dict[str, Any], body: bytes) -> None:
    for parts, text in _items(body, 1):
        place = target
        for part in parts[:-1]:
            inner = place.get(part)
            place[part] = place = inner if isinstance(inner, dict) else {}
        place[parts[-1]] = _json(text)
    for parts, _ in _items(body, 2):
        target.pop(parts[0], None)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _history_time(body: bytes) -> int:
    for parts, text in _items(body, 1):
        if parts == ("_timestamp",):
            return int(float(text) * 1e6)
    return 0


def _points(path: str, started_us: int) -> Iterator[Point]:
    """The numbers of the history, step by step, as they were logged."""
    for record in log.read_records(path):
        for number, value in log.fields(record):
            if number == _HISTORY:
                yield from _row(log.message(value), started_us)


def _row(body: bytes, started_us: int) -> Iterator[Point]:
    step, micros = 0, started_us
    for number, value in log.fields(body):
        if number == 2:
            step = log.signed(dict(log.fields(log.message(value))).get(1, 0))
    values: list[tuple[str, Any]] = []
    for parts, text in _items(body, 1):
        found = _json(text)
        if parts == ("_step",):
            step = int(found)
        elif parts == ("_timestamp",):
            micros = round(float(found) * 1e6)
        elif not parts[0].startswith("_"):
            values.append((".".join(parts), found))
    for key, found in values:
        for name, one in _flat({key: found}):
            number = _number(one)
            if number is not None:
                yield name, step, micros, number


def _number(value: Any) -> float | None:
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    # JSON has no names for these.
    return (
        {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(value)
        if isinstance(value, str)
        else None
    )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested mapping with keys like `outer.inner`. Media, which name their `_type`, are files and no values."""
    for key, value in values.items():
        if not isinstance(value, dict):
            yield prefix + key, value
        elif "_type" not in value:
            yield from _flat(value, f"{prefix}{key}.")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
