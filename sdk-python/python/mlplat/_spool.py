"""The one door through which files that the library makes get into a run.

What comes here was checked, so a failure is one of the network or the disk: it becomes a line on stderr, never an exception
in the code that trains. Nothing else in the package uploads such files.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from ._errors import MisuseError, MlplatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from . import _native
    from ._active import ActiveRunBase

    Item: TypeAlias = tuple[bytes | str, str]
    """Content, or the path of a local file or directory; and the path in the run."""


def put(run: ActiveRunBase, items: Sequence[Item]) -> str:
    """Hands files over; returns the path in the run of the first one."""
    for content, path in items:
        _spool(run, content, path)
    return items[0][1]


def set_tags(run: ActiveRunBase, tags: dict[str, str]) -> None:
    """Labels that the library itself sets; a failure is told, as for files."""
    try:
        run._tags_call(tags).wait()
    except MlplatError as failure:
        _tell(failure, "what is known of the environment")


async def put_async(run: ActiveRunBase, items: Sequence[Item]) -> str:
    """As :func:`put`, without holding up the event loop."""
    for content, path in items:
        with tempfile.TemporaryDirectory(prefix="mlplat-") as folder:
            try:
                await _upload(run, content, path, folder)
            except (MlplatError, OSError) as failure:
                _tell(failure, path)
    return items[0][1]


def _spool(run: ActiveRunBase, data_or_path: bytes | str, artifact_path: str) -> None:
    """Gives one file or directory to the run, by uploading it now."""
    with tempfile.TemporaryDirectory(prefix="mlplat-") as folder:
        try:
            _upload(run, data_or_path, artifact_path, folder).wait()
        except (MlplatError, OSError) as failure:
            _tell(failure, artifact_path)


def _upload(
    run: ActiveRunBase, content: bytes | str, artifact_path: str, folder: str
) -> _native.Call[tuple[str, list[tuple[str, str]]]]:
    directory, name = os.path.split(artifact_path)
    local = content if isinstance(content, str) else os.path.join(folder, name)
    if isinstance(content, bytes):
        with open(local, "wb") as file:
            file.write(content)
    elif os.path.basename(content) != name:
        # An upload keeps the name of the file.
        local = os.path.join(folder, name)
        shutil.copyfile(content, local)
    return run._handle.log_artifact(local, directory, "")


def _tell(failure: Exception, artifact_path: str) -> None:
    if isinstance(failure, MisuseError):
        raise failure
    print(f"mlplat: {artifact_path} was not logged: {failure}", file=sys.stderr)
