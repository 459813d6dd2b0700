"""What is added to a run from outside of it, mostly after it has ended: labels, and points like those of a later evaluation.

It goes straight to the server, as it belongs to no process that would keep a journal of it. The status of the run stays.
"""

from __future__ import annotations

from array import array
from datetime import datetime, timezone

from . import _arguments, _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from typing import Any

    from ._run_info import RunInfo
    from ._types import When

    Steps = Generator[_native.Call[Any], Any, None]

# The writer of what may be sent as often as one likes.
_NOBODY = ("", 0, 0)


def set_tags_steps(run: RunInfo, tags: Mapping[str, object]) -> Steps:
    """Sets labels beside those that the run has."""
    labels = _arguments.labels(tags, "tags")
    if labels:
        yield _native.import_batch(run._client, run.id, _NOBODY, [], {}, labels)
    yield from refresh_steps(run)


def delete_tags_steps(run: RunInfo, keys: str | Iterable[str]) -> Steps:
    """Deletes labels; what it does not have is no error."""
    wanted = _arguments.texts(keys, "keys")
    yield _native.delete_params_and_tags(run._client, run.id, [], wanted)
    yield from refresh_steps(run)


def log_metrics_steps(
    run: RunInfo, metrics: Mapping[str, object], step: int | None, timestamp: When | None
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
        import uuid

        # Numbered, so that what is sent again after a broken connection is stored once.
        writer = (str(uuid.uuid4()), 1, len(columns))
        yield _native.import_batch(run._client, run.id, writer, columns, {}, {})
    yield from refresh_steps(run)


def refresh_steps(run: RunInfo) -> Steps:
    """Reads the run anew, so that it shows what was added."""
    run._record = yield _native.get_run(run._client, run.id, "all")


def _next_step(run: RunInfo, key: str) -> int:
    summary = run.metric_summaries.get(key)
    return 0 if summary is None else summary.last_step + 1


def _now(run: RunInfo) -> int:
    # A point of the present would be a sign of life, and a crashed run would be shown as running.
    crashed = run.ended_at if run.status == "CRASHED" else None
    return _arguments.nanos(crashed or datetime.now(timezone.utc), "timestamp")
