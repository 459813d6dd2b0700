"""What is added to a run from outside of it, mostly after it has ended: labels, and points like those of a later evaluation.

It goes straight to the server, as it belongs to no process that would keep a journal of it. The status of the run stays.
"""

from __future__ import annotations

import os
import threading
from array import array
from datetime import datetime, timezone

from . import _arguments, _native
from ._errors import MisuseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from typing import Any

    from ._run import Run
    from ._run_info import RunInfo
    from ._types import When
    from .aio._run import Run as AsyncRun

    Steps = Generator[_native.Call[Any], Any, None]

_LAST_STEP = 2**63 - 1
_lock = threading.Lock()


def texts_call(
    client: _native.Client, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> _native.Call[Any]:
    """Sets params and labels, which may be done as often as one likes: so it has no writer that numbers it."""
    return _native.import_batch(client, run_id, ("", 0, 0), [], params, tags)


def set_tags_steps(run: RunInfo, tags: Mapping[str, object]) -> Steps:
    """Sets labels beside those that the run has."""
    labels = _arguments.labels(tags, "tags")
    if labels:
        yield texts_call(run._client, run.id, {}, labels)
    yield from refresh_steps(run)


def delete_tags_steps(run: RunInfo, keys: str | Iterable[str]) -> Steps:
    """Deletes labels; what it does not have is no error."""
    wanted = _arguments.texts(keys, "keys")
    yield _native.delete_params_and_tags(run._client, run.id, [], wanted)
    yield from refresh_steps(run)


def log_metrics_steps(
    run: Run | AsyncRun, metrics: Mapping[str, object], step: int | None, timestamp: When | None
) -> Steps:
    """Logs a point of each metric; without `step` one after the last of its key."""
    points = {
        _arguments.text(key, "a metric key"): _arguments.number(key, value)
        for key, value in _arguments.pairs(metrics)
    }
    given = None if step is None else _arguments.integer(step, "step")
    nanos = _arguments.optional_nanos(timestamp, "timestamp")
    if points:
        if given is None or nanos is None:
            yield from refresh_steps(run)
        micros = (_now(run) if nanos is None else nanos) // 1000
        columns = [
            (
                key,
                array("q", [_next_step(run, key) if given is None else given]).tobytes(),
                array("q", [micros]).tobytes(),
                array("d", [value]).tobytes(),
            )
            for key, value in points.items()
        ]
        # Numbered, so that what is sent again after a broken connection is stored once.
        writer, first = _take_writer(run)
        last = first + len(columns) - 1
        yield _native.import_batch(run._client, run.id, (writer, first, last), columns, {}, {})
        # After a failure it is not known what the server has of this writer: the next call takes another one.
        _give_back(run, writer, last + 1)
    yield from refresh_steps(run)


def _take_writer(run: Run | AsyncRun) -> tuple[str, int]:
    """A writer of the run object that nobody uses just now, and its next number.

    The server keeps a row for each, so calls one after another share one. Those at the same time do not: numbers that arrive
    after greater ones of the same writer count as stored before.
    """
    import uuid

    with _lock:
        process, writers = getattr(run, "_writers", (0, []))
        if process != os.getpid():
            # Also in a process that was forked off, whose parent goes on with the old ones.
            writers = []
            run._writers = (os.getpid(), writers)
        return writers.pop() if writers else (str(uuid.uuid4()), 1)


def _give_back(run: Run | AsyncRun, writer: str, number: int) -> None:
    with _lock:
        process, writers = run._writers
        if process == os.getpid():
            writers.append((writer, number))


def refresh_steps(run: RunInfo) -> Steps:
    """Reads the run anew, so that it shows what was added."""
    run._record = yield _native.get_run(run._client, run.id, "all")


def _next_step(run: RunInfo, key: str) -> int:
    summary = run.metric_summaries.get(key)
    if summary is None:
        return 0
    if summary.last_step == _LAST_STEP:
        raise MisuseError(f"metric `{key}` has the last step that there is, {_LAST_STEP}; give a step")
    return summary.last_step + 1


def _now(run: RunInfo) -> int:
    # A point of the present would be a sign of life, and a crashed run would be shown as running.
    crashed = run.ended_at if run.status == "CRASHED" else None
    return _arguments.nanos(crashed or datetime.now(timezone.utc), "timestamp")
