"""Brings the points of a stream over that may have got new ones anywhere, not only at its end.

Invariant: afterwards the run has each point as often as the source has it, also where several are alike. What is sent is
numbered after the last record that the server had before the stored points were read. Where another import came in between,
or the last words of one that was killed, the server takes nothing under these numbers, and what is missing is found anew.
"""

from __future__ import annotations

import uuid
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .. import _native
from .._errors import FailedPreconditionError
from ._arrow_columns import Columns, columns_of
from ._batches import by_key, pieces_of, send, set_tags
from ._names import Names
from ._records import NAMESPACE, Point

_Bits = tuple[int, int, int]

_TRIES = 20
# As many points are compared at a time; the others wait for another round.
_COMPARED = 500_000
_WHOLE = {"start_step": None, "end_step": None, "last": None, "buckets": None}
_NAN = array("q", array("d", [float("nan")]).tobytes())[0]


def log_missing(
    client: _native.Client,
    run_id: str,
    name: str,
    points: Iterator[Point],
    names: Names,
    branches: Sequence[int],
) -> int:
    """The points of a stream that the run does not have in any of these branches; returns how many that were.

    Without branches the run is new and has none.
    """
    writer = str(uuid.uuid5(NAMESPACE, f"{run_id} points {name}"))
    series = by_key(points)
    called = names.add(names.metrics, series)
    set_tags(client, run_id, names.changed())
    first: int | None = None
    for _ in range(_TRIES):
        last = _last_number(client, run_id, writer)
        found: list[Point] = []
        for key, columns in series.items():
            stored = [_stored(client, run_id, called[key], branch) for branch in branches]
            found += _missing(key, columns, stored)
        first = len(found) if first is None else first
        if _send(client, run_id, writer, last, found, called):
            return first
        branches = branches or [0]
    raise FailedPreconditionError("another import of the same run is under way; run the import again")


def _last_number(client: _native.Client, run_id: str, writer: str) -> int:
    """The number of the writer's last record. If there is none yet, an empty one becomes the first."""
    _, stored = _native.import_batch(client, run_id, (writer, 1, 1), [], {}, {}).wait()
    return stored


def _stored(client: _native.Client, run_id: str, key: str, branch: int) -> Columns:
    [(_, history)] = _native.metric_histories(client, run_id, [key], {**_WHOLE, "branch": branch}).wait()
    return columns_of(history)


def _missing(key: str, columns: Columns, stored: Sequence[Columns]) -> Iterator[Point]:
    """Points that are stored less often than the source has them, in its order."""
    steps, times, values = columns
    rounds = 1 + max((len(one[0]) for one in stored), default=0) // _COMPARED
    missing: list[int] = []
    for turn in range(rounds):
        have: Counter[_Bits] = Counter()
        for one in stored:
            # Branches share points: the most that one of them has is what there is.
            have |= Counter(bits for bits in _bits(one) if hash(bits) % rounds == turn)
        for at, bits in enumerate(_bits(columns)):
            if hash(bits) % rounds != turn:
                continue
            if have[bits] > 0:
                have[bits] -= 1
            else:
                missing.append(at)
    for at in sorted(missing):
        yield key, steps[at], times[at], values[at]


def _bits(columns: Columns) -> Iterator[_Bits]:
    """The points, each NaN the same and 0.0 not -0.0."""
    steps, times, values = columns
    patterns = array("q", values.tobytes())
    for step, micros, value, pattern in zip(steps, times, values, patterns, strict=True):
        yield step, micros, pattern if value == value else _NAN


def _send(
    client: _native.Client,
    run_id: str,
    writer: str,
    last: int,
    points: list[Point],
    called: Mapping[str, str],
) -> bool:
    """Whether the server took all of them under the numbers after the last one."""
    for piece in pieces_of(points):
        number = writer, last + 1, last + len(piece)
        replayed, _ = send(client, run_id, number, piece, called)
        if replayed:
            return False
        last += len(piece)
    return True
