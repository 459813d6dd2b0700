"""What a log of wandb has of a run over time: the rows of its history, and the samples of the machine.

Invariant: everything of a row is either a point of a metric or a value beside it, so that nothing falls between the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import _wandb_log as log
from ._records import Point

# Numbers of the fields of a record of wandb_internal.proto.
HISTORY, STATS, BOARD, ALERT, USED = 2, 7, 9, 10, 25

SAID = (BOARD, ALERT, USED)
"""What becomes a value beside those of the history."""

# What wandb adds to each row.
_ADDED = ("_step", "_timestamp", "_runtime", "_wandb")


@dataclass
class Value:
    """What was logged and is no number: text, a list, or media, which name their `_type`."""

    step: int
    micros: int
    key: str
    found: Any

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        if isinstance(self.found, dict):
            return str(self.found.get("_type", "object"))
        return {str: "text", list: "list", type(None): "null"}.get(type(self.found), "number")


@dataclass
class _Row:
    step: int = 0
    micros: int = 0
    numbers: list[tuple[str, float]] = field(default_factory=list)
    others: list[tuple[str, Any]] = field(default_factory=list)


def points(path: str, started_us: int) -> Iterator[Point]:
    """The numbers of the history, step by step, as they were logged."""
    for record in log.read_records(path):
        for number, value in log.fields(record):
            if number == HISTORY:
                row = _row(log.message(value), started_us)
                for key, found in row.numbers:
                    yield key, row.step, row.micros, found


def values(path: str, started_us: int) -> Iterator[Value]:
    """What else the history has, and what the run said beside it: alerts, artifacts that it used, TensorBoard logs."""
    step, micros = 0, started_us
    for record in log.read_records(path):
        for number, value in log.fields(record):
            body = log.message(value)
            if number == HISTORY:
                row = _row(body, started_us)
                step, micros = row.step, row.micros
                for key, found in row.others:
                    yield Value(step, micros, key, found)
            elif number == ALERT:
                said = dict(log.fields(body))
                found = {"_type": "alert", "text": log.text(said.get(2)), "level": log.text(said.get(3))}
                yield Value(step, micros, log.text(said.get(1)), found)
            elif number == BOARD:
                said = dict(log.fields(body))
                found = {"_type": "tensorboard", "log_dir": log.text(said.get(1))}
                yield Value(step, micros, "tensorboard", found)
            elif number == USED:
                said = dict(log.fields(body))
                found = {"_type": "used-artifact", "id": log.text(said.get(1)), "type": log.text(said.get(2))}
                yield Value(step, micros, log.text(said.get(3)), found)


def machine_points(path: str, first_step: int, started_us: int) -> Iterator[Point]:
    """What wandb measured of the machine, as metrics `system/…` whose steps count the samples."""
    step = first_step
    for record in log.read_records(path):
        for number, value in log.fields(record):
            if number != STATS:
                continue
            micros, readings = started_us, []
            for inner, part in log.fields(log.message(value)):
                if inner == 2:
                    micros = micros_of(log.message(part))
                elif inner == 3:
                    said = dict(log.fields(log.message(part)))
                    readings.append((log.text(said.get(1)), number_of(_json(log.text(said.get(16))))))
            for key, found in readings:
                if found is not None:
                    yield f"system/{key}", step, micros, found
            step += 1


def micros_of(stamp: bytes) -> int:
    """A time of protobuf, in microseconds since 1970."""
    parts = dict(log.fields(stamp))
    return log.signed(parts.get(1)) * 1_000_000 + log.signed(parts.get(2)) // 1000


def history_time(body: bytes) -> int:
    """When a row was logged."""
    for parts, text in _items(body, 1):
        if parts == ("_timestamp",):
            return int(float(text) * 1e6)
    return 0


def update(target: dict[str, Any], body: bytes) -> None:
    """Takes over what a record of config, summary or history sets or removes."""
    _set(target, body)
    for parts, _ in _items(body, 2):
        target.pop(parts[0], None)


def _set(target: dict[str, Any], body: bytes) -> None:
    for parts, text in _items(body, 1):
        place = target
        for part in parts[:-1]:
            inner = place.get(part)
            place[part] = place = inner if isinstance(inner, dict) else {}
        place[parts[-1]] = _json(text)


def flat(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested mapping with keys like `outer.inner`. Media, which name their `_type`, stay whole."""
    for key, value in found.items():
        if not isinstance(value, dict) or "_type" in value:
            yield prefix + key, value
        else:
            yield from flat(value, f"{prefix}{key}.")


def number_of(value: Any) -> float | None:
    """A number, also one that JSON has no name for."""
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    names = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
    return names.get(value) if isinstance(value, str) else None


def _row(body: bytes, started_us: int) -> _Row:
    row = _Row(micros=started_us)
    for number, value in log.fields(body):
        if number == 2:
            row.step = log.signed(dict(log.fields(log.message(value))).get(1, 0))
    items: dict[str, Any] = {}
    _set(items, body)
    row.step = int(items.get("_step", row.step))
    if "_timestamp" in items:
        row.micros = round(float(items["_timestamp"]) * 1e6)
    for key, value in flat({key: value for key, value in items.items() if key not in _ADDED}):
        found = number_of(value)
        if found is None:
            row.others.append((key, value))
        else:
            row.numbers.append((key, found))
    return row


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


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
