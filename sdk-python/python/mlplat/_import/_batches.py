"""Params, labels and points of a run, in batches that the server stores once.

Invariant: what is sent is numbered by what it is in the source, never by when it is sent.
"""

from __future__ import annotations

import hashlib
import uuid
from array import array
from collections.abc import Iterator, Mapping
from itertools import islice

from .. import _native
from .._errors import DataLossError
from ._records import NAMESPACE, Point

_POINTS_PER_BATCH = 200_000
_KEYS_PER_BATCH = 5000
_TEXT_PER_BATCH = 1 << 20
_ENTRIES_PER_BATCH = 5000
_MAX_VALUE = 64 * 1024
_MAX_KEY = 250


def set_tag(client: _native.Client, run_id: str, key: str, value: str) -> None:
    """Sets a label, also where it was set to the same before."""
    _native.import_batch(client, run_id, ("", 0, 0), [], {}, {key: value}).wait()


def log_texts(
    client: _native.Client, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Params and labels. Their writer is their content: what was changed since in mlplat stays, unless the source changed."""
    entries = [("p", name_of(key), value_of(value)) for key, value in params.items()]
    entries += [("t", name_of(key), value_of(value)) for key, value in tags.items()]
    digest = hashlib.sha256(repr(entries).encode()).hexdigest()
    writer = str(uuid.uuid5(NAMESPACE, f"{run_id} texts {digest}"))
    sequence = 0
    while entries:
        count = size = 0
        while count < min(len(entries), _ENTRIES_PER_BATCH) and size < _TEXT_PER_BATCH:
            size += len(entries[count][1]) + len(entries[count][2])
            count += 1
        part, entries = entries[:count], entries[count:]
        sequence += 1
        found = {of: {key: value for kind, key, value in part if kind == of} for of in "pt"}
        number = (writer, sequence, sequence)
        _native.import_batch(client, run_id, number, [], found["p"], found["t"]).wait()


def log_stream(client: _native.Client, run_id: str, name: str, points: Iterator[Point]) -> int:
    """All points of a stream; returns how many were new."""
    writer = str(uuid.uuid5(NAMESPACE, f"{run_id} points {name}"))
    first, new = 1, 0
    while part := list(islice(points, _POINTS_PER_BATCH)):
        for piece in _pieces(part):
            new += _log_piece(client, run_id, writer, first, piece)
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
        if stored >= last:
            return 0
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


def metric_key(key: str) -> str:
    """A key that the server takes: other characters become `_`."""
    if key.isidentifier() and len(key) <= _MAX_KEY:
        return key
    return (
        "".join(letter if letter.isalnum() or letter in "_-./ :" else "_" for letter in key)[:_MAX_KEY] or "_"
    )


def name_of(text: str) -> str:
    """A name that the server takes: no control characters, of bounded length."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:_MAX_KEY] or "unnamed"


def value_of(text: str) -> str:
    """A param or label that the server takes; of one that is too long, the beginning."""
    text = text.replace("\0", "\ufffd")
    if len(text.encode()) > _MAX_VALUE:
        text = text.encode()[:_MAX_VALUE].decode(errors="ignore")
    return text
