"""Offline runs of Weights & Biases: folders with a log, and the files of the run beside it.

Invariant: the steps and values of the history are kept, numbers as points and all else in files. Points come in the order of
the log, to which wandb only ever adds. What is not on this machine any more is said.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._errors import MisuseError
from . import _wandb_artifacts, _wandb_environment, _wandb_values
from . import _wandb_history as history
from . import _wandb_log as log
from ._local_files import is_below, listed
from ._names import Alike
from ._records import Files, Placed, Point, SourceExperiment, SourceRun, digest_of, sentence_of

# Numbers of the fields of the messages of wandb_internal.proto.
_SUMMARY, _CONFIG, _FILES, _RUN, _EXIT = 3, 5, 6, 17, 18

# Records that say nothing of a run that is not elsewhere: number, output (a file), metric definitions, how wandb was used,
# and marks of the log itself. Above are all others of today.
_PASSED = {1, 4, 11, 12, 13, 16, 19, 20, 21, 22, 23, 24, 27, 100, 200}

# Part of the fingerprints: a later version that takes more of a log imports it again.
_TAKES = 3

# A log without an end that was written to so lately is of a run that goes on.
_LIVE_S = 600
_OWN_FILES = "files"
_INSTEAD = {
    "_timestamp": "they have the time at which the run began",
    "_step": "they have the step of their record, or 0",
}
_NO_FILES = (
    "without files, texts, lists, histograms and media of the history are left out too, as they become files"
)


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
    environment: _wandb_environment.Environment = field(default_factory=_wandb_environment.Environment)
    artifacts: list[_wandb_artifacts.Artifact] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    """Files that the run saved, by their paths in its folder."""
    exit_code: int | None = None
    keys: history.Keys = field(default_factory=history.Keys)
    """Of the history and the machine."""
    points: int = 0
    samples: int = 0
    """Of the machine."""
    last_us: int = 0
    unknown: Counter[int] = field(default_factory=Counter)
    """Records of kinds that came after this was written, by their numbers."""
    unread: Counter[str] = field(default_factory=Counter)
    """Rows whose time or step cannot be read, by the name of the field."""


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
        # Samples of the machine in the logs of a run before this one.
        self._samples_before: dict[str, int] = {}

    def describe(self) -> str:
        return f"wandb-log:{self.path}"

    def experiments(self) -> Sequence[SourceExperiment]:
        found: dict[str, SourceExperiment] = {}
        for path in self.logs:
            try:
                facts = _read_facts(path)
            except Exception as error:
                # Whatever is in one log, the others are imported.
                self._say_unread(path, error)
                continue
            if not facts.run_id:
                self._say_nameless(path, facts)
                continue
            for number, count in facts.unknown.items():
                self.notes.append(f"{path}: {count} records of the unknown kind {number} were left out")
            for name, count in facts.unread.items():
                self.notes.append(f"{path}: {count} rows have a {name} that is none; {_INSTEAD[name]}")
            key = f"{facts.entity}/{facts.project}/{facts.run_id}"
            # A run that was resumed has a log each time.
            self._log_of.setdefault(key, []).append(path)
            self._samples_before[path] = self._facts[key].samples if key in self._facts else 0
            self._facts[key] = _merged(self._facts.get(key), facts)
            name = self.experiment or facts.project or "uncategorized"
            found.setdefault(name, SourceExperiment(name, name))
        return list(found.values())

    def _say_unread(self, path: str, error: Exception) -> None:
        text = sentence_of(error)
        self.problems.append(text if path in text else f"{path} cannot be imported: {text}")

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
                try:
                    run = self._run(key, facts, experiment)
                except Exception as error:
                    self._say_unread(self._log_of[key][-1], error)
                else:
                    yield run

    def _run(self, key: str, facts: _Facts, experiment: SourceExperiment) -> SourceRun:
        paths = self._log_of[key]
        written = max(os.path.getmtime(path) for path in paths)
        status, message = _outcome(facts.exit_code, time.time() - written < _LIVE_S)
        started = facts.started_us or int(os.path.getmtime(paths[0]) * 1e6)
        facts.environment.host = facts.environment.host or facts.host
        summary = {name: value for name, value in facts.summary.items() if not name.startswith("_")}
        tags = {
            "wandb.run_id": facts.run_id,
            "wandb.entity": facts.entity,
            "wandb.project": facts.project,
            "wandb.group": facts.group,
            "wandb.job_type": facts.job,
            "wandb.host": facts.host,
            "wandb.sweep": facts.sweep,
            **facts.environment.tags(),
            **{f"wandb.tag.{label}": "true" for label in facts.labels},
            **{
                name: _text(value)
                for name, value in history.flat(summary, history.Keys(), "summary.")
                # Media are those of the history.
                if not isinstance(value, dict)
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
            params={name: _text(value) for name, value in history.flat(facts.config, history.Keys())},
        )

    def fingerprint(self, run: SourceRun, files: bool) -> str:
        if not files and _NO_FILES not in self.notes:
            self.notes.append(_NO_FILES)
        logs = self._log_of[run.key]
        sizes = [os.path.getsize(path) for path in logs]
        folders = [os.path.join(os.path.dirname(path), _OWN_FILES) for path in logs] if files else []
        return digest_of(_TAKES, sizes, [[*listed(folder)] for folder in folders])

    def streams(self, run: SourceRun) -> Iterator[tuple[str, Iterator[Point]]]:
        keys = self._facts[run.key].keys
        for path in self._log_of[run.key]:
            name = os.path.basename(os.path.dirname(path))
            yield name, history.points(path, run.started_us, keys)
            # Apart, so that neither moves the numbers of the other.
            before = self._samples_before[path]
            yield f"{name} system", history.machine_points(path, before, run.started_us, keys)

    def files(self, run: SourceRun, present: dict[str, int]) -> Iterator[Files | Placed | str]:
        facts, logs = self._facts[run.key], self._log_of[run.key]
        places = [os.path.dirname(path) for path in logs]
        folders = []
        for place in places:
            folder = os.path.join(place, _OWN_FILES)
            if os.path.realpath(folder) != os.path.join(os.path.realpath(place), _OWN_FILES):
                self._say_out(folder)
            elif os.path.isdir(folder):
                folders.append(folder)
        for folder in folders:
            yield from self._own_files(folder, facts.saved)
        values = (value for path in logs for value in self._values(path, run))
        with tempfile.TemporaryDirectory(prefix="mlplat-import-") as scratch:
            if environment := facts.environment.file(scratch):
                yield environment
            found = [
                _wandb_values.files_of(values, folders, scratch),
                _wandb_artifacts.files_of(facts.artifacts, present, places, scratch),
            ]
            for one in (one for part in found for one in part):
                yield f"run {run.name!r} ({run.key}): {one}" if isinstance(one, str) else one

    def _values(self, path: str, run: SourceRun) -> Iterator[history.Value]:
        for value in history.values(path, run.started_us, self._facts[run.key].keys):
            if isinstance(value.key, Alike):
                name = value.key.name()
                text = f"the value {str(value.key)!r} is called {name!r} here"
                if text not in self.notes:
                    self.notes.append(text)
                value.key = name
            yield value

    def _own_files(self, folder: str, saved: list[str]) -> Iterator[Files | Placed]:
        """What is in the folder of a run, also links to what it saved from elsewhere."""
        links = [path for name in saved if _leads_out(path := os.path.join(folder, name), folder)]
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_symlink() and entry.path not in links and not is_below(entry.path, folder):
                self._say_out(entry.path)
                continue
            below = [path for path in links if path == entry.path or path.startswith(entry.path + os.sep)]
            if not below:
                yield Files(entry.path)
                continue
            for path, _, _ in [(entry.path, 0, 0)] if entry.is_symlink() else listed(entry.path):
                if path in below or not _leads_out(path, folder):
                    yield Placed(os.path.relpath(path, folder).replace(os.sep, "/"), path)
                else:
                    self._say_out(path)

    def _say_out(self, path: str) -> None:
        self.notes.append(f"{path} was left out: it is a link that leads out of the run's folder")


def _leads_out(path: str, folder: str) -> bool:
    """Whether it is a link to a file elsewhere."""
    return os.path.islink(path) and os.path.isfile(path) and not is_below(path, folder)


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
        facts.artifacts = [*before.artifacts, *facts.artifacts]
        facts.saved = [*before.saved, *facts.saved]
        before.keys.join(facts.keys)
        facts.keys = before.keys
        facts.points += before.points
        facts.samples += before.samples
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
                history.update(facts.config, body)
            elif number == _SUMMARY:
                history.update(facts.summary, body)
            elif number == history.HISTORY:
                facts.points += 1
                facts.last_us = max(facts.last_us, history.history_time(body, facts.unread, facts.keys))
            elif number == history.STATS:
                facts.samples += 1
                history.see_machine(body, facts.keys)
            elif number == _wandb_environment.ENVIRONMENT:
                facts.environment.read(body)
            elif number == _wandb_artifacts.ARTIFACT:
                facts.artifacts.append(_wandb_artifacts.read_artifact(body))
            elif number == _FILES:
                facts.saved += [
                    log.text(dict(log.fields(log.message(one))).get(1)) for _, one in log.fields(body)
                ]
            elif number == _EXIT:
                facts.exit_code = log.signed(dict(log.fields(body)).get(1, 0))
            elif number not in _PASSED and number not in history.SAID:
                facts.unknown[number] += 1
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
        elif number == 21:
            facts.environment.read_git(log.message(value))
        elif number == 4:
            history.update(facts.config, log.message(value))
        elif number == 17:
            facts.started_us = history.micros_of(log.message(value))
    facts.labels = labels or facts.labels


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
