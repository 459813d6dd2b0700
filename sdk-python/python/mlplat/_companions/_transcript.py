"""What was printed, within bounds: the beginning and the end are kept, and the middle is counted."""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = 1 << 20
_TAIL = 4 << 20
_LONG_LINE = 1 << 11
_MAX_LINE = 1 << 16


class Transcript:
    """Text of a console as it would stand on a terminal: what a carriage return overwrites is gone.

    Memory is bounded, so it can stay with a run of weeks.
    """

    __slots__ = (
        "_begins",
        "_dropped",
        "_head",
        "_head_bytes",
        "_line",
        "_lock",
        "_tail",
        "_tail_bytes",
        "changes",
    )

    changes: int
    """Rises with every text, so that one can see whether there is something new."""

    def __init__(self, begins: Callable[[], None] | None = None) -> None:
        self._begins = begins
        # Signal handlers print too.
        self._lock = threading.RLock()
        self._head: list[str] = []
        self._head_bytes = 0
        self._tail: deque[str] = deque()
        self._tail_bytes = 0
        self._dropped = 0
        self._line = ""
        self.changes = 0

    def add(self, text: str) -> None:
        """Takes what was written."""
        with self._lock:
            self.changes += 1
            *whole, self._line = (self._line + text).split("\n")
            for line in whole:
                self._keep(_visible(line) + "\n")
            if len(self._line) > _LONG_LINE and "\r" in self._line:
                # Progress bars write one line for hours.
                self._line = "\r" + _visible(self._line)
            if len(self._line) > _MAX_LINE:
                self._keep(self._line)
                self._line = ""
        begins, self._begins = self._begins, None
        if begins is not None:
            begins()

    def _keep(self, line: str) -> None:
        size = len(line)
        if self._head_bytes + size <= _HEAD and not self._tail:
            self._head.append(line)
            self._head_bytes += size
            return
        self._tail.append(line)
        self._tail_bytes += size
        while self._tail_bytes > _TAIL:
            gone = self._tail.popleft()
            self._tail_bytes -= len(gone)
            self._dropped += len(gone)

    def text(self) -> str:
        """All that is kept."""
        with self._lock:
            gap = f"\n… {self._dropped} characters left out …\n\n" if self._dropped else ""
            return "".join(self._head) + gap + "".join(self._tail) + _visible(self._line)


def _visible(line: str) -> str:
    if "\r" not in line:
        return line
    kept = line.rstrip("\r").rsplit("\r", 1)[-1]
    # Written by progress bars after the return, to clear the line.
    return kept.removeprefix("\x1b[K").removeprefix("\x1b[2K")
