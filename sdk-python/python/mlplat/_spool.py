"""The one door through which files that the library makes get into a run.

They go into the journal, which brings them to the server in the background. What comes here was checked, so a failure is
one of the disk: it becomes a line on stderr, never an exception in the code that trains. Nothing else in the package
uploads such files.
"""

from __future__ import annotations

import os
import sys
import threading

from ._errors import MisuseError, MlplatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from ._active import ActiveRunBase

    Item: TypeAlias = tuple[bytes | str, str]
    """Content, or the path of a local file or directory; and the path in the run."""


order = threading.RLock()
"""Held from the making of a file that holds more each time to its handing over, so that none overtakes a later one."""


def put(run: ActiveRunBase, items: Sequence[Item]) -> str:
    """Hands files over; returns the path in the run of the first one."""
    for content, path in items:
        for inner, inner_path in _files(content, path):
            try:
                run._spool(inner, inner_path)
            except (MlplatError, OSError) as failure:
                _tell(failure, inner_path)
    return items[0][1]


async def put_async(run: ActiveRunBase, items: Sequence[Item]) -> str:
    """As :func:`put`, without holding up the event loop by what may be large."""
    if all(isinstance(content, bytes) for content, _ in items):
        return put(run, items)
    import asyncio

    return await asyncio.to_thread(put, run, items)


def set_tags(run: ActiveRunBase, tags: dict[str, str]) -> None:
    """Labels that the library itself sets; a failure is told, as for files."""
    try:
        run._write_tags(tags)
    except MlplatError as failure:
        _tell(failure, "what is known of the environment")


def _files(content: bytes | str, path: str) -> list[Item]:
    """A file by itself, or those of a directory."""
    if isinstance(content, bytes) or not os.path.isdir(content):
        return [(content, path)]
    found: list[Item] = []
    for directory, directories, names in os.walk(content):
        directories.sort()
        for name in sorted(names):
            local = os.path.join(directory, name)
            inside = os.path.relpath(local, content).replace(os.sep, "/")
            found.append((local, f"{path}/{inside}"))
    return found


def _tell(failure: Exception, what: str) -> None:
    if isinstance(failure, MisuseError):
        raise failure
    print(f"mlplat: {what} was not logged: {failure}", file=sys.stderr)


def _forked() -> None:
    """The lock of the parent may have been held by a thread that is not here."""
    global order
    order = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
