"""How far a long call is, shown on standard error while a thread waits for it.

Invariant: shown only after a moment. On a terminal it is one line, never longer than the terminal is wide, that is gone when
the call is over; in a notebook one place that is drawn anew, and says at the end how long it took; in the log of a job it is a
line from time to time, so that a call which hangs can be told from one that works; in CI it is nothing. What goes wrong with it
is nothing to the call: from then on nothing is shown.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import wraps

from . import _place
from ._terminal import columns, printable, size, spoken, width_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Concatenate, ParamSpec

    P = ParamSpec("P")

_PATIENCE_S = 0.4
"""A call that takes no longer shows nothing."""
_LOG_INTERVAL_S = 10.0
"""Between two lines where lines stay."""
_DRAW_INTERVAL_S = {"terminal": 0.1, "notebook": 0.25}
_RATE_WINDOW_S = 8.0
"""The rate is that of the last seconds: the time left is to follow when a network gets slower."""
_SURE_S = 2.0
"""Before that there is no guess of the time left."""
_BAR = 20
_SHORTEST_NAME = 24


def _harmless(method: Callable[Concatenate[Line, P], None]) -> Callable[Concatenate[Line, P], None]:
    """An exception here would end the call that is shown, say an upload: standard error may be closed, or anything."""

    @wraps(method)
    def guarded(self: Line, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._broken:
            try:
                method(self, *args, **kwargs)
            except Exception:
                self._broken = True

    return guarded


class Line:
    """One line about one call. `elapsed` is always in seconds since the call began."""

    __slots__ = ("_broken", "_display", "_drawn", "_finished", "_samples", "_stopped")

    def __init__(self) -> None:
        self._broken = False
        self._samples: deque[tuple[float, int]] = deque()
        self._display: Any = None
        self._drawn: float | None = None
        # What stays in a notebook, which can take nothing away.
        self._finished = self._stopped = ""

    @_harmless
    def transfer(self, doing: str, name: str, done: int, total: int, elapsed: float) -> None:
        """Shows that so many bytes are done, of e.g. "uploading" and "model.bin"."""
        self._samples.append((elapsed, done))
        while len(self._samples) > 2 and elapsed - self._samples[0][0] > _RATE_WINDOW_S:
            self._samples.popleft()
        what = _what(doing, name)
        self._finished = f"{_whole(what)}: {size(total)} in {elapsed:.1f} s"
        self._stopped = f"{_whole(what)}: stopped at {size(done)} of {size(total)}, after {elapsed:.1f} s"
        facts = _facts(done, total, self._rate(), elapsed)
        self._show(what, facts, done / total if total else None, elapsed)

    @_harmless
    def count(self, doing: str, name: str, facts: list[str], share: float | None, elapsed: float) -> None:
        """Shows what is not measured in bytes, with the facts that tell how far it is."""
        what = _what(doing, name)
        facts = [*facts, f"{elapsed:.0f} s"]
        self._finished = f"{_whole(what)}: {', '.join(facts)}"
        self._stopped = f"{self._finished}, stopped"
        self._show(what, facts, share, elapsed)

    @_harmless
    def clear(self, finished: bool = True) -> None:
        """Takes it away, as the call is over, or stopped."""
        if self._display is not None:
            self._display.update(_bundle(self._finished if finished else self._stopped, None), raw=True)
            self._display = None
        elif self._drawn is not None and _screen() == "terminal":
            _write("\r\x1b[K")
        self._drawn = None

    def _rate(self) -> float:
        (begin, least), (end, most) = self._samples[0], self._samples[-1]
        return (most - least) / (end - begin) if end > begin and most > least else 0.0

    def _show(self, what: tuple[str, str], facts: list[str], share: float | None, elapsed: float) -> None:
        whole = _whole(what)
        screen = _screen()
        if screen is None or elapsed < _PATIENCE_S:
            return
        # In a log the first line too comes after a pause: most calls are over by then.
        last = 0.0 if self._drawn is None and screen == "log" else self._drawn
        if last is not None and elapsed - last < _DRAW_INTERVAL_S.get(screen, _LOG_INTERVAL_S):
            return
        self._drawn = elapsed
        if screen == "terminal":
            _write(f"\r\x1b[K{_fitted(what, facts, share, width_of(sys.stderr) - 1, _ascii())}")
        elif screen == "log":
            _write(f"{whole}: {', '.join(facts)}\n")
        else:
            self._draw(_bundle(f"{whole}: {' · '.join(facts)}", share))

    def _draw(self, bundle: dict[str, str]) -> None:
        if self._display is None:
            from IPython.display import display  # pyright: ignore[reportMissingImports]

            self._display = display(bundle, raw=True, display_id=True)
        else:
            self._display.update(bundle, raw=True)


def _what(doing: str, name: str) -> tuple[str, str]:
    return f"mlplat: {printable(doing)}", printable(name)


def _whole(what: tuple[str, str]) -> str:
    return " ".join(filter(None, what))


def _facts(done: int, total: int, rate: float, elapsed: float) -> list[str]:
    """The most important first: what does not fit is left out from the end."""
    facts = [f"{size(done)} of {size(total)}"]
    if total:
        # 100 % is said of what is complete only.
        facts.insert(0, f"{min(done / total, 1.0) * 100 // 1:.0f} %")
    if rate:
        facts.append(f"{size(rate)}/s")
        if elapsed >= _SURE_S and done < total:
            facts.append(f"{spoken((total - done) / rate)} left")
    return facts


def _fitted(
    what: tuple[str, str], facts: list[str], share: float | None, width: int, ascii_only: bool
) -> str:
    """One line of at most `width` columns: first the bar goes, then the name is cut, and then facts go from the end."""
    bar = "" if share is None else f"  {_bar(share, ascii_only)}"
    least = min(columns(_whole(what)), columns(what[0]) + _SHORTEST_NAME)
    for kept in range(len(facts), 0, -1):
        for picture in dict.fromkeys((bar, "")):
            right = f"{picture}  {'  '.join(facts[:kept])}"
            if width - columns(right) >= least:
                return _cut(what, width - columns(right), ascii_only) + right
    return _cut(what, width, ascii_only)


def _bar(share: float, ascii_only: bool) -> str:
    full = int(min(max(share, 0.0), 1.0) * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}]" if ascii_only else "█" * full + "░" * (_BAR - full)


def _cut(what: tuple[str, str], room: int, ascii_only: bool) -> str:
    """Keeps the end of the name, which tells files apart."""
    doing, name = what
    whole = _whole(what)
    if columns(whole) <= room:
        return whole
    gap = "..." if ascii_only else "…"
    left = room - columns(doing) - 1 - len(gap)
    if not name or left < 1:
        while whole and columns(whole) > room:
            whole = whole[:-1]
        return whole
    while columns(name) > left:
        name = name[1:]
    return f"{doing} {gap}{name}"


def _bundle(text: str, share: float | None) -> dict[str, str]:
    """For a notebook, in all the ways that it may show it."""
    import html

    bar = "" if share is None else f"<progress value='{share:.4f}' max='1' style='width:160px'></progress> "
    page = f"<div style='font:13px/1.45 system-ui,sans-serif;opacity:.8'>{bar}{html.escape(text)}</div>"
    return {"text/plain": text, "text/html": page}


def _screen() -> str | None:
    """What is drawn on; None where nobody looks."""
    if sys.stderr is None or _place.quiet():
        return None
    if sys.stderr.isatty():
        return "terminal"
    return "notebook" if _place.in_notebook() else "log"


def _ascii() -> bool:
    return "utf" not in (getattr(sys.stderr, "encoding", None) or "utf-8").lower()


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
