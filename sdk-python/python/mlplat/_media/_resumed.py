"""Series without steps in a run that is resumed: they go on after the last step that the run has.

Which that is the server knows; it is asked once for each series. Where it does not answer, steps are the seconds since 1970,
which no step before has, and which are in order.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import time
from datetime import timedelta

from .. import _native
from .._errors import MlplatError, NotFoundError
from .._steps import drive, drive_async
from . import _names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from .._active import ActiveRunBase

_PATIENCE = timedelta(seconds=5)


def go_on(run: ActiveRunBase, folder: str, key: str | None, step: object) -> None:
    """Makes the steps of a series go on after those of the processes before, where they are counted."""
    series = _wanted(run, folder, key, step)
    if series:
        try:
            last = drive(_last_step(run, series))
        except MlplatError as failure:
            last = _without_server(series, failure)
        _names.continue_after(run.id, series, last)


async def go_on_async(run: ActiveRunBase, folder: str, key: str | None, step: object) -> None:
    """As :func:`go_on`, for asyncio."""
    series = _wanted(run, folder, key, step)
    if series:
        try:
            last = await drive_async(_last_step(run, series))
        except MlplatError as failure:
            last = _without_server(series, failure)
        _names.continue_after(run.id, series, last)


def _wanted(run: ActiveRunBase, folder: str, key: str | None, step: object) -> str:
    """The series to ask for; empty where there is nothing to ask."""
    # Those that take part in a run beside others count for themselves.
    if step is not None or key is None or run._fresh or run._joined:
        return ""
    series = f"{folder}/{_names.artifact_path(key, 'key')}"
    return "" if _names.is_counted(run.id, series) else series


def _last_step(run: ActiveRunBase, series: str) -> Generator[_native.Call[Any], Any, int | None]:
    agent = f"mlplat-python/{_native.__version__}"
    client = _native.Client(run._client.url, run._client.project, _PATIENCE, agent)
    files = list((yield _native.list_artifacts(client, run.id, series)))
    steps = [found[1] for file in files if (found := _names.parse(file.path)) and found[0] == series]
    histograms = [file for file in files if file.path.endswith(".json.gz")]
    if histograms:
        # A file holds many, and is named by its first step.
        last = max(histograms, key=lambda file: file.path)
        content = yield _native.read_artifact(client, run.id, last.path, last.sha256, 0, None)
        # Another file may have such a name.
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError, TypeError):
            steps += [held["step"] for held in json.loads(gzip.decompress(content))["histograms"]]
    return max(steps) if steps else None


def _without_server(series: str, failure: MlplatError) -> int | None:
    if isinstance(failure, NotFoundError):
        return None
    print(
        f"mlplat: what `{series}` has of this resumed run is not known ({failure}); its steps are seconds since 1970, give step= "
        "for others",
        file=sys.stderr,
    )
    return int(time.time())
