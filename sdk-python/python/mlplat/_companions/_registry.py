"""The companions of the runs that this process began."""

from __future__ import annotations

import os
import sys
import threading

from ._companion import Companion, tags_found
from ._settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._active import ActiveRunBase
    from ._live import LiveView

_companions: dict[str, Companion] = {}
_lock = threading.Lock()


def tags_at_start(parent_run_id: str | None, settings: Settings) -> dict[str, str]:
    """What is known already of where a run to be started is made: with its start it is one call less."""
    return tags_found(parent_run_id in _companions) if settings.environment else {}


def begin(run: ActiveRunBase, settings: Settings, asked_for_system_metrics: bool) -> None:
    """Starts the companions of a run."""
    parent_here = run.parent_run_id in _companions
    if parent_here and not asked_for_system_metrics:
        # The machine is the same: its parent has it.
        settings.system_metrics_s = None
    companion = Companion(run, settings, parent_here)
    with _lock:
        _companions[run.id] = companion
    try:
        companion.start()
    except Exception as failure:
        print(f"mlplat: nothing goes along with run {run.id}: {failure}", file=sys.stderr)


def finish(run_id: str) -> Companion | None:
    """Stops the companions of a run, before it ends."""
    with _lock:
        companion = _companions.pop(run_id, None)
    if companion is not None:
        companion.stop()
    return companion


def show(run_id: str, view: LiveView) -> None:
    """Keeps a view up to date as long as the run is under way here."""
    companion = _companions.get(run_id)
    if companion is not None:
        companion.show(view)


def _forked() -> None:
    """The child has the memory of its parent, but none of its threads."""
    global _lock
    _lock = threading.Lock()
    _companions.clear()
    console = sys.modules.get("mlplat._companions._console")
    if console is not None:
        console.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
