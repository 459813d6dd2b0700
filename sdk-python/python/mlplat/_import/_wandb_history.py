"""What a log of wandb has of a run over time: the rows of its history, and the samples of the machine.

Invariant: everything of a row is either a point of a metric or a value beside it, so that nothing falls between the two.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import _wandb_log as log
from ._names import Alike
from ._records import Point

# Numbers of the fields of a record of wandb_internal.proto.
HISTORY, STATS, BOARD, ALERT, USED = 2, 7, 9, 10, 25

SAID = (BOARD, ALERT, USED)
"""What becomes a value beside those of the history."""

# What wandb adds to each row.
_ADDED = ("_step", "_timestamp", "_runtime", "_wandb")

# Times beyond are none that could be stored, as nanoseconds.
_LATEST_US = 9_000_000_000 * 1_000_000
_MOST = (1 << 63) - 1
# JSON that is nested deeper stays the text that it is, so that all that follows can walk through the rest.
_DEEPEST = 100


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


class Keys:
    """Which of several keys that would be called alike has the plain name: what the log has first.

    `{"a.b": 1}` and `{"a": {"b": 1}}` are two, and so are a metric `system/cpu` of the user and what wandb measured.
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._rows: set[tuple[tuple[str, ...], ...]] = set()

    def called(self, parts: tuple[str, ...], prefix: str = "") -> str:
        """The name of a key that is nested in the others, or what stands for it where another one has that name."""
        return self._called(prefix + ".".join(parts), prefix + json.dumps(parts, ensure_ascii=False))

    def of_machine(self, key: str) -> str:
        """The same of something that wandb measured."""
        return self._called(f"system/{key}", f"system/{key} of the machine")

    def _called(self, name: str, what: str) -> str:
        return name if self._first.setdefault(name, what) == what else Alike(what, name)

    def see(self, row: list[tuple[tuple[str, ...], str]]) -> None:
        """Takes note of the keys of a row."""
        parts = tuple(one for one, _ in row)
        # Most rows have the keys of the one before; what is nested in a value is in its JSON.
        if parts not in self._rows or any(text.startswith("{") for _, text in row):
            self._rows.add(parts)
            for path, _ in paths(_logged(_nested(row))):
                self.called(path)

    def join(self, later: Keys) -> None:
        """Adds those of a later log."""
        self._first = {**later._first, **self._first}


def points(path: str, started_us: int, keys: Keys) -> Iterator[Point]:
    """The numbers of the history, step by step, as they were logged."""
    for record in log.read_records(path):
        for number, value in log.fields(record):
            if number == HISTORY:
                row = _row(log.message(value), started_us, keys)
                for key, found in row.numbers:
                    yield key, row.step, row.micros, found


def values(path: str, started_us: int, keys: Keys) -> Iterator[Value]:
    """What else the history has, and what the run said beside it: alerts, artifacts that it used, TensorBoard logs."""
    step, micros = 0, started_us
    for record in log.read_records(path):
        for number, value in log.fields(record):
            body = log.message(value)
            if number == HISTORY:
                row = _row(body, started_us, keys)
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


def machine_points(path: str, first_step: int, started_us: int, keys: Keys) -> Iterator[Point]:
    """What wandb measured of the machine, as metrics `system/…` whose steps count the samples."""
    step = first_step
    for record in log.read_records(path):
        for number, value in log.fields(record):
            if number != STATS:
                continue
            micros, readings = started_us, []
            for inner, part in log.fields(log.message(value)):
                if inner == 2:
                    micros = micros_of(log.message(part)) or started_us
                elif inner == 3:
                    said = dict(log.fields(log.message(part)))
                    readings.append((log.text(said.get(1)), number_of(json_of(log.text(said.get(16))))))
            for key, found in readings:
                if found is not None:
                    yield keys.of_machine(key), step, micros, found
            step += 1


def see_machine(body: bytes, keys: Keys) -> None:
    """Takes note of the keys of a sample."""
    for inner, part in log.fields(body):
        if inner == 3:
            keys.of_machine(log.text(dict(log.fields(log.message(part))).get(1)))


def micros_of(stamp: bytes) -> int:
    """A time of protobuf, in microseconds since 1970; 0 where it is none that can be stored."""
    parts = dict(log.fields(stamp))
    found = log.signed(parts.get(1)) * 1_000_000 + log.signed(parts.get(2)) // 1000
    return found if abs(found) <= _LATEST_US else 0


def history_time(body: bytes, unread: Counter[str], keys: Keys) -> int:
    """When a row was logged, 0 where that is not said; a time or a step that cannot be read is counted."""
    micros = 0
    row = [*_items(body, 1)]
    keys.see(row)
    for parts, text in row:
        if parts in (("_timestamp",), ("_step",)):
            found = _whole(json_of(text), parts[0])
            if found is None:
                unread[parts[0]] += 1
            elif parts == ("_timestamp",):
                micros = found
    return micros


def _whole(value: Any, of: str) -> int | None:
    """The step of a row, or its time in microseconds; none where it is no such thing."""
    try:
        found = round(float(value) * 1e6) if of == "_timestamp" else int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if abs(found) <= (_LATEST_US if of == "_timestamp" else _MOST) else None


def update(target: dict[str, Any], body: bytes) -> None:
    """Takes over what a record of config, summary or history sets or removes."""
    _set(target, body)
    for parts, _ in _items(body, 2):
        target.pop(parts[0], None)


def _set(target: dict[str, Any], body: bytes) -> None:
    _put(target, _items(body, 1))


def _put(target: dict[str, Any], items: Iterable[tuple[tuple[str, ...], str]]) -> None:
    for parts, text in items:
        place = target
        for part in parts[:-1]:
            inner = place.get(part)
            place[part] = place = inner if isinstance(inner, dict) else {}
        place[parts[-1]] = json_of(text)


def _nested(row: Iterable[tuple[tuple[str, ...], str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _put(found, row)
    return found


def _logged(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _ADDED}


def flat(found: dict[str, Any], keys: Keys, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested mapping with keys like `outer.inner`. Media, which name their `_type`, stay whole."""
    for path, value in paths(found):
        yield keys.called(path, prefix), value


def paths(found: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The same with the parts of the keys."""
    for key, value in found.items():
        if not isinstance(value, dict) or "_type" in value:
            yield (*above, key), value
        else:
            yield from paths(value, (*above, key))


def number_of(value: Any) -> float | None:
    """A number, also one that JSON has no name for."""
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    names = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
    return names.get(value) if isinstance(value, str) else None


def _row(body: bytes, started_us: int, keys: Keys) -> _Row:
    row = _Row(micros=started_us)
    for number, value in log.fields(body):
        if number == 2:
            row.step = log.signed(dict(log.fields(log.message(value))).get(1, 0))
    items: dict[str, Any] = {}
    _set(items, body)
    step, micros = _whole(items.get("_step"), "_step"), _whole(items.get("_timestamp"), "_timestamp")
    row.step = row.step if step is None else step
    row.micros = row.micros if micros is None else micros
    for key, value in flat(_logged(items), keys):
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
        if len(nested) > _DEEPEST:
            nested = [".".join(nested)]
        yield tuple(nested) or (key,), text


def json_of(text: str) -> Any:
    """What a text of JSON says; the text itself where it is none, or nested too deep."""
    try:
        # JSON of Go writes -0.0 so, which is no whole number.
        found = json.loads(text, parse_int=_int) if "-0" in text else json.loads(text)
    except (ValueError, RecursionError):
        return text
    if text.count("[") + text.count("{") > _DEEPEST and _is_deep(found):
        return text
    if "\\u" in text:
        # Halves of a pair of UTF-16 are no text, in keys neither.
        found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    return found


def _int(text: str) -> float:
    return -0.0 if text == "-0" else int(text)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for part in inner for one in part if isinstance(one, (dict, list))]
        if not level:
            return False
    return True
