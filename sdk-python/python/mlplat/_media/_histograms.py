"""Histograms of steps, many in one small file.

A file `histograms/<key>/<first step>_<ms>_<n>.json.gz` holds up to 64 histograms and is written anew with each one that is
added, so none waits in memory for the next: what was logged is safe, and a long training leaves few files.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import time
from datetime import datetime, timezone

from .. import _arguments, _native
from .._errors import ArrowError, MisuseError, WrongTypeError
from .._scratch import Scratch
from .._table import Table
from . import _arrays, _names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .._spool import Item

_PER_FILE = 64
_MAX_BINS = 512

_open: dict[tuple[str, str], tuple[str, list[dict[str, Any]]]] = {}
"""Of each series of each run under way: the file that is being filled, and what is in it."""


def histogram_items(
    run_id: str,
    key: str,
    values: object | None,
    step: int | None,
    bins: int | Sequence[float],
    counted: tuple[object, object] | None,
) -> list[Item]:
    """The file of `log_histogram`, with the histograms before it. One call at a time."""
    series = f"histograms/{_names.artifact_path(key, 'key')}"
    if (values is None) == (counted is None):
        raise MisuseError("log_histogram takes either values or np_histogram=(counts, edges)")
    record = _of_counts(counted) if counted is not None else _of_values(values, bins)
    at = _names.next_step(run_id, series, None if step is None else _arguments.integer(step, "step"))
    millis = time.time_ns() // 1_000_000
    record = {"step": at, "timestamp_ms": millis, **record}
    path, records = _open.get((run_id, series), ("", []))
    if not path or len(records) >= _PER_FILE:
        # Several processes may log to one series; the process is part of the name.
        path, records = f"{series}/{at:012d}_{millis:013d}_{os.getpid():03d}.json.gz", []
    records = [*records, record]
    _open[run_id, series] = (path, records)
    held = {"format": "mlplat-histograms", "version": 1, "histograms": records}
    return [(gzip.compress(json.dumps(held, separators=(",", ":")).encode(), 6, mtime=0), path)]


def forget(run_id: str) -> None:
    """A run has ended: its files are full."""
    for key in [key for key in list(_open) if key[0] == run_id]:
        _open.pop(key, None)


def _of_values(values: object, bins: int | Sequence[float]) -> dict[str, Any]:
    numpy = _arrays.numpy("log_histogram")
    flat = _arrays.array(values, "values").astype(numpy.float64).ravel()
    finite = flat[numpy.isfinite(flat)]
    if isinstance(bins, int) or hasattr(bins, "__index__"):
        number = _arguments.integer(bins, "bins")
        if not 1 <= number <= _MAX_BINS:
            raise MisuseError(f"bins is {number}; give 1 to {_MAX_BINS}")
        if len(finite) == 0:
            counts, edges = [0], [0.0, 1.0]
        else:
            counts, edges = numpy.histogram(finite, bins=number, range=_span(finite))
    else:
        counts, edges = numpy.histogram(finite, bins=_arrays.array(bins, "bins"))
    record = _of_counts((counts, edges))
    # What fits into no bin is counted beside them.
    others = {
        "nan": int(numpy.isnan(flat).sum()),
        "positive_infinity": int((flat == math.inf).sum()),
        "negative_infinity": int((flat == -math.inf).sum()),
    }
    return {**record, **{name: count for name, count in others.items() if count}}


def _span(finite: Any) -> tuple[float, float]:
    low, high = float(finite.min()), float(finite.max())
    if math.isinf(high - low):
        raise MisuseError("the values are too far apart for a histogram")
    if low == high:
        # A bin must have some width, even around a huge number.
        wide = max(0.5, abs(low) * 1e-6)
        return low - wide, high + wide
    return low, high


def _of_counts(counted: tuple[object, object]) -> dict[str, Any]:
    if not isinstance(counted, (tuple, list)) or len(counted) != 2:
        raise WrongTypeError("np_histogram is the pair (counts, edges), as numpy.histogram gives it")
    counts = _arrays.array(counted[0], "counts").ravel()
    edges = _arrays.array(counted[1], "edges").ravel().tolist()
    if not 1 <= len(counts) <= _MAX_BINS or len(edges) != len(counts) + 1:
        raise MisuseError(
            f"{len(counts)} counts and {len(edges)} edges; give 1 to {_MAX_BINS} counts, and one edge more than that"
        )
    if not all(math.isfinite(edge) for edge in edges) or sorted(edges) != edges:
        raise MisuseError("the edges of the bins are finite and rise")
    if (counts < 0).any():
        raise MisuseError("the counts are not negative")
    numbers = [int(count) if float(count).is_integer() else float(count) for count in counts]
    step = (edges[-1] - edges[0]) / len(counts)
    even = all(
        math.isclose(edge, edges[0] + at * step, rel_tol=1e-12, abs_tol=abs(step) * 1e-9)
        for at, edge in enumerate(edges)
    )
    # Bins of one width are said by their ends.
    shape = {"range": [float(edges[0]), float(edges[-1])]} if even else {"edges": [float(e) for e in edges]}
    return {**shape, "counts": numbers}


def histogram_call(client: _native.Client, run_id: str, key: str) -> _native.Call[Table]:
    """All histograms of a series, one row per bin."""
    series = f"histograms/{_names.artifact_path(key, 'key')}"
    scratch = Scratch()

    def read(local: str) -> Table:
        with scratch:
            return _read(local, series)

    return _native.download_artifact(client, run_id, series, scratch.path).then(read)


def _read(local: str, series: str) -> Table:
    records: list[dict[str, Any]] = []
    for name in sorted(os.listdir(local)):
        if not name.endswith(".json.gz"):
            continue
        try:
            with gzip.open(os.path.join(local, name), "rb") as file:
                records += json.load(file)["histograms"]
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ArrowError(f"{series}/{name} holds no histograms: {error}") from None
    records.sort(key=lambda record: (record["step"], record["timestamp_ms"]))
    columns: dict[str, list[Any]] = {
        name: [] for name in ("step", "timestamp", "bin_start", "bin_end", "count")
    }
    for record in records:
        counts = record["counts"]
        edges = record.get("edges") or _edges(record["range"], len(counts))
        columns["step"] += [record["step"]] * len(counts)
        at = datetime.fromtimestamp(record["timestamp_ms"] / 1000, timezone.utc)
        columns["timestamp"] += [at] * len(counts)
        columns["bin_start"] += edges[:-1]
        columns["bin_end"] += edges[1:]
        columns["count"] += [float(count) for count in counts]
    return Table(_native.from_columns(list(columns.items())))


def _edges(span: list[float], bins: int) -> list[float]:
    low, high = span
    return [low + (high - low) * at / bins for at in range(bins)] + [high]


def _forked() -> None:
    """The files of the parent are not this process's to fill."""
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
