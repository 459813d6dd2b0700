"""Params, labels and points of a run, in batches that the server stores once.

Invariant: points of streams that only grow at their ends are numbered by what they are in the source, never by when they
are sent; `_missing` is for the others. Params and labels have no
numbers: they are sent when they differ from what the last import saw.
"""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from .. import _native
from .._errors import DataLossError
from .._late import texts_call
from ._arrow_columns import Columns
from ._names import Names, value_of
from ._records import NAMESPACE, Point

_POINTS_PER_BATCH = 200_000
_KEYS_PER_BATCH = 5000
_TEXT_PER_BATCH = 1 << 20
_ENTRIES_PER_BATCH = 5000


def set_tags(client: _native.Client, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets labels, also where they were set to the same before."""
    if tags:
        texts_call(client, run_id, {}, tags).wait()


def log_texts(
    client: _native.Client, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Sets params and labels."""
    entries = [("p", key, value_of(value)) for key, value in params.items()]
    entries += [("t", key, value_of(value)) for key, value in tags.items()]
    while entries:
        count = size = 0
        while count < min(len(entries), _ENTRIES_PER_BATCH) and size < _TEXT_PER_BATCH:
            size += len(entries[count][1]) + len(entries[count][2])
            count += 1
        part, entries = entries[:count], entries[count:]
        found = {of: {key: value for kind, key, value in part if kind == of} for of in "pt"}
        texts_call(client, run_id, found["p"], found["t"]).wait()


def log_stream(client: _native.Client, run_id: str, name: str, points: Iterator[Point], names: Names) -> int:
    """All points of a stream; returns how many were new."""
    writer = str(uuid.uuid5(NAMESPACE, f"{run_id} points {name}"))
    first, new = 1, 0
    while part := list(islice(points, _POINTS_PER_BATCH)):
        called = names.add(names.metrics, dict.fromkeys(point[0] for point in part))
        set_tags(client, run_id, names.changed())
        for piece in _fitting(part):
            new += _log_piece(client, run_id, (writer, first), piece, called)
            first += len(piece)
    return new


def pieces_of(points: list[Point]) -> Iterator[list[Point]]:
    """The same points in pieces that fit into one batch each."""
    for begin in range(0, len(points), _POINTS_PER_BATCH):
        yield from _fitting(points[begin : begin + _POINTS_PER_BATCH])


def _fitting(part: list[Point]) -> list[list[Point]]:
    """The same points in pieces whose keys fit into one batch."""
    if len({point[0] for point in part}) <= _KEYS_PER_BATCH:
        return [part]
    half = len(part) // 2
    return _fitting(part[:half]) + _fitting(part[half:])


def send(
    client: _native.Client,
    run_id: str,
    number: tuple[str, int, int],
    points: list[Point],
    called: Mapping[str, str],
) -> tuple[bool, int]:
    """Sends points under numbers of a writer; returns whether it had some of them already, and its last one."""
    return _native.import_batch(client, run_id, number, _columns(points, called), {}, {}).wait()


def _log_piece(
    client: _native.Client,
    run_id: str,
    number: tuple[str, int],
    piece: list[Point],
    called: Mapping[str, str],
) -> int:
    """Sends the points with these numbers; where the server has a beginning of them, only the rest."""
    writer, first = number
    begin, last = first, first + len(piece) - 1
    while True:
        replayed, stored = send(client, run_id, (writer, begin, last), piece[begin - first :], called)
        if not replayed:
            return last - begin + 1
        if stored >= last:
            return 0
        if stored < begin:
            raise DataLossError("the server has fewer points than it had; run the import again")
        begin = stored + 1


def _columns(points: list[Point], called: Mapping[str, str]) -> list[tuple[str, bytes, bytes, bytes]]:
    return [
        (called[key], steps.tobytes(), times.tobytes(), values.tobytes())
        for key, (steps, times, values) in by_key(points).items()
    ]


def by_key(points: Iterable[Point]) -> dict[str, Columns]:
    """The points of each metric, in their order."""
    series: dict[str, list[tuple[int, int, float]]] = {}
    for key, step, micros, value in points:
        series.setdefault(key, []).append((step, micros, value))
    return {key: columns_of_points(key, found) for key, found in series.items()}


def columns_of_points(key: str, points: list[tuple[int, int, float]]) -> Columns:
    """Steps, times and values of the points of a metric."""
    try:
        steps, times, values = zip(*points, strict=True) if points else ((), (), ())
        return array("q", steps), array("q", times), array("d", values)
    except OverflowError:
        raise ValueError(
            f"the metric {key!r} has a point whose step or time is beyond what can be stored"
        ) from None
