"""Where the files of media are in a run."""

from __future__ import annotations

import os
import re
import threading
import time

from .. import _arguments
from .._errors import MisuseError

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg"})

_SERIES = re.compile(r"(-?\d+)_(\d+)_(\d+)\.\w+$")
lock = threading.Lock()
"""Held for what media remember of runs under way."""
_counted: dict[tuple[str, str], tuple[int, int, int]] = {}
"""Of each series of each run under way: the last step, when it was, and how many there were at that moment."""


def artifact_path(value: object, what: str) -> str:
    """A path inside a run, as the server takes it."""
    path = _arguments.text(value, what)
    parts = path.split("/")
    if len(path.encode()) > 1000 or any(ord(character) < 32 for character in path):
        raise MisuseError(f"{what} is longer than 1,000 bytes or has control characters")
    if any(part in ("", ".", "..") for part in parts):
        raise MisuseError(f"{what} is {path!r}; give a relative path without empty parts, `.` and `..`")
    return path


def split(name: str, endings: frozenset[str]) -> tuple[str, str]:
    """A name without its ending, and the ending where it is one of these."""
    stem, ending = os.path.splitext(name)
    return (stem, ending.lower()) if ending.lower() in endings and stem else (name, "")


def single(name: object, folder: str, endings: frozenset[str], default: str) -> str:
    """Path of a file that is there once: as given where the ending says what it is, else in the folder of its kind."""
    path = artifact_path(name, "artifact_file")
    return path if split(path, endings)[1] else f"{folder}/{path}{default}"


def of_step(
    run_id: str, folder: str, key: str, ending: str, step: int | None, millis: int | None = None
) -> str:
    """Path of the next file of a series. Without a step it is one more than the last one of this process (`_resumed`: of the run), from 0.

    The time in the name keeps what is logged for one step by several processes, or again after a resumption, apart.
    """
    series = f"{folder}/{artifact_path(key, 'key')}"
    with lock:
        last = _counted.get((run_id, series))
        if step is None:
            step = 0 if last is None else last[0] + 1
        millis = time.time_ns() // 1_000_000 if millis is None else millis
        index = last[2] + 1 if last is not None and last[:2] == (step, millis) else 0
        _counted[run_id, series] = (step, millis, index)
    return f"{series}/{step:012d}_{millis:013d}_{index:03d}{ending}"


def next_step(run_id: str, series: str, step: int | None) -> int:
    """The step of something that is not a file of its own."""
    with lock:
        last = _counted.get((run_id, series))
        if step is None:
            step = 0 if last is None else last[0] + 1
        _counted[run_id, series] = (step, 0, 0)
    return step


def is_counted(run_id: str, series: str) -> bool:
    """Whether this process has logged to a series."""
    with lock:
        return (run_id, series) in _counted


def continue_after(run_id: str, series: str, step: int | None) -> None:
    """Makes a series of which nothing is known here go on after a step; None is the beginning."""
    with lock:
        _counted.setdefault((run_id, series), (-1 if step is None else step, 0, -1))


def parse(path: str) -> tuple[str, int, int] | None:
    """Series, step and milliseconds since 1970 of a path that `of_step` made."""
    series, _, name = path.rpartition("/")
    found = _SERIES.match(name)
    return (series, int(found[1]), int(found[2])) if found else None


def forget(run_id: str) -> None:
    """A run has ended: its counts are not needed any more."""
    with lock:
        for key in [key for key in _counted if key[0] == run_id]:
            del _counted[key]


def _forked() -> None:
    """The lock of the parent may have been held by a thread that is not here."""
    global lock
    lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
