"""Views of a run in a notebook that change while it is under way."""

from __future__ import annotations

import time

from .. import _place
from .._errors import MlplatError
from . import _view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._active import ActiveRunBase

_FASTEST_S = 1.0
_SLOWEST_S = 10.0


class LiveView:
    """One place in a notebook. It is drawn anew at most once a second, and less often where nothing changes."""

    __slots__ = ("_display", "_full", "_html", "_pause", "_run", "_series", "due")

    due: float
    """When to draw it next, by the monotonic clock."""

    def __init__(self, run: ActiveRunBase, full: bool) -> None:
        self._run = run
        self._full = full
        self._series = _view.Series(run)
        self._pause = _FASTEST_S
        self._display: Any = None
        self._html = ""
        self.due = time.monotonic() + _FASTEST_S

    def show(self) -> None:
        """Draws it below the code that runs."""
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        self._html = self._drawn()
        self._display = display(HTML(self._html), display_id=True)

    def update(self) -> None:
        """Draws it again, in its place."""
        from IPython.display import HTML  # pyright: ignore[reportMissingImports]

        try:
            html = self._drawn()
        except MlplatError:
            html = self._html  # the server does not answer now
        changed = html != self._html
        self._pause = _FASTEST_S if changed else min(self._pause * 1.5, _SLOWEST_S)
        self.due = time.monotonic() + self._pause
        if changed and self._display is not None:
            self._html = html
            self._display.update(HTML(html))

    def _drawn(self) -> str:
        run = self._run
        record = run._record if run._ended else run._handle.refresh().wait()
        return (_view.full if self._full else _view.line)(run._client, record, self._series)


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
