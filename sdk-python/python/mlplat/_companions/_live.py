"""Views of a run in a notebook that change while it is under way."""

from __future__ import annotations

import time

from .. import _place
from .._errors import MlplatError
from . import _view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .. import _native
    from .._active import ActiveRunBase

_FASTEST_S = 1.0
_SLOWEST_S = 10.0


class LiveView:
    """One place in a notebook. It is drawn anew at most once a second, and less often where nothing changes."""

    __slots__ = ("_display", "_facts", "_full", "_pause", "_run", "_series", "due")

    due: float
    """When to draw it next, by the monotonic clock."""

    def __init__(self, run: ActiveRunBase, full: bool) -> None:
        self._run = run
        self._full = full
        self._series = _view.Series(run)
        self._pause = _FASTEST_S
        self._display: Any = None
        self._facts: object = None
        self.due = time.monotonic() + _FASTEST_S

    def show(self) -> None:
        """Draws it below the code that runs."""
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        record = self._run._record
        if self._full:
            # The line at the start of a run waits for no server.
            record = self._read() or record
        self._display = display(HTML(self._html(record)), display_id=True)

    def update(self) -> None:
        """Draws it again, in its place."""
        from IPython.display import HTML  # pyright: ignore[reportMissingImports]

        record = self._read()
        facts = record and _facts(record)
        quick = facts is not None and facts != self._facts
        self._pause = _FASTEST_S if quick else min(self._pause * 1.5, _SLOWEST_S)
        self._facts = facts or self._facts
        self.due = time.monotonic() + self._pause
        if record is not None and self._display is not None:
            self._display.update(HTML(self._html(record)))

    def _read(self) -> _native.RunRecord | None:
        """The run as it is now; None where the server does not answer, or does not know it yet."""
        if self._run._ended:
            return self._run._record
        try:
            return self._run._handle.refresh().wait()
        except MlplatError:
            return None

    def _html(self, record: _native.RunRecord) -> str:
        return (_view.full if self._full else _view.line)(self._run._client, record, self._series)


def _facts(record: _native.RunRecord) -> object:
    """What makes a view worth drawing, apart from the time that goes by."""
    counts = {key: summary.count for key, summary in record.metric_summaries.items()}
    return record.status, counts, record.params, record.description


def begin(run: ActiveRunBase) -> None:
    """One line in a notebook for a run that starts; nothing elsewhere, and nothing in continuous integration."""
    if _place.quiet() or not _place.in_notebook():
        return
    _show(run, full=False)


def display(run: ActiveRunBase) -> None:
    """The full view, where a cell ends with the run."""
    _show(run, full=True)


def _show(run: ActiveRunBase, full: bool) -> None:
    from ._registry import show

    view = LiveView(run, full)
    view.show()
    if not run._ended and not _place.quiet():
        show(run.id, view)
