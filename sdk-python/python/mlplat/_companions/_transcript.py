"""What was printed, within bounds: the beginning and the end are kept, and the middle is counted."""

from __future__ import annotations

import re
import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._kept import Kept

_HEAD = 1 << 20
_TAIL = 4 << 20
_MAX_LINE = 1 << 16
_ROWS = 64
"""Lines that the cursor may come back to."""
_MAX_MOVE = 10_000
_MAX_CELL = 64

_TOKENS = re.compile("[^\n\r\b\x1b]+|\x1b\\[[0-9;?]*[@-~]|.", re.DOTALL)
_TORN = re.compile("\x1b(\\[[0-9;?]{0,30})?\\Z")
_CONTROL = re.compile("[\r\b\x1b]")


class Transcript:
    """Text of a console as it would stand on a terminal: what was overwritten is gone, also in the lines above, which nested
    progress bars go back to.

    Memory is bounded, so it can stay with a run of weeks.
    """

    __slots__ = (
        "_begins",
        "_colours",
        "_column",
        "_dropped",
        "_head",
        "_head_bytes",
        "_kept",
        "_lock",
        "_row",
        "_rows",
        "_tail",
        "_tail_bytes",
        "_torn",
        "changes",
    )

    changes: int
    """Rises with every text, so that one can see whether there is something new."""

    def __init__(self, begins: Callable[[], None] | None = None, kept: Kept | None = None) -> None:
        self._begins = begins
        self._kept = kept
        # Signal handlers print too.
        self._lock = threading.RLock()
        self._head: list[str] = []
        self._head_bytes = 0
        self._tail: deque[str] = deque()
        self._tail_bytes = 0
        self._dropped = 0
        # A line is a text, or once it has colours a list of characters with the colours behind them.
        self._rows: list[str | list[str]] = [""]
        self._row = 0
        self._column = 0
        self._colours = ""
        self._torn = ""
        self.changes = 0

    def add(self, text: str) -> None:
        """Takes what was written."""
        with self._lock:
            self.changes += 1
            if self._kept is not None and self._kept.add(text):
                self._kept.renew(self.text() + text)
            if self._torn:
                text, self._torn = self._torn + text, ""
            if _CONTROL.search(text) is None:
                first, *lines = text.split("\n")
                self._write(first)
                for line in lines:
                    self._next_line()
                    self._write(line)
            else:
                torn = _TORN.search(text)
                if torn is not None:
                    text, self._torn = text[: torn.start()], torn[0]
                for token in _TOKENS.findall(text):
                    self._take(token)
        begins, self._begins = self._begins, None
        if begins is not None:
            begins()

    def _take(self, token: str) -> None:
        if token == "\n":
            self._next_line()
        elif token == "\r":
            self._column = 0
        elif token == "\b":
            self._column = max(0, self._column - 1)
        elif token[0] == "\x1b" and len(token) > 2:
            self._command(token[-1], token[2:-1], token)
        else:
            self._write(token)

    def _command(self, name: str, given: str, token: str) -> None:
        """An escape sequence; those that move the cursor or erase something, and colours."""
        if name == "m":
            self._colour(token)
            return
        number = min(int(given), _MAX_MOVE) if given.isdecimal() else 0
        by = max(1, number)
        if name in "AF":
            self._row = max(0, self._row - by)
        elif name in "BE":
            self._row = min(len(self._rows) - 1, self._row + by)
        elif name == "C":
            self._column = min(self._column + by, _MAX_LINE)
        elif name == "D":
            self._column = max(0, self._column - by)
        elif name == "G":
            self._column = by - 1
        elif name == "K":
            self._erase(number)
        elif name == "J" and number == 0:
            self._erase(0)
            del self._rows[self._row + 1 :]
        if name in "EF":
            self._column = 0

    def _erase(self, what: int) -> None:
        line = self._rows[self._row]
        if what == 0:
            self._rows[self._row] = line[: self._column]
        elif what == 2 or self._column + 1 >= len(line):
            self._rows[self._row] = ""
        else:
            rest = list(line[self._column + 1 :])
            self._rows[self._row] = [" "] * (self._column + 1) + rest

    def _colour(self, token: str) -> None:
        at = self._column
        if at == 0:
            self._colours = (self._colours + token)[-_MAX_CELL:] if self._colours else token
            return
        # It stands behind the character before it, so that it goes when that one is overwritten.
        cells = list(self._rows[self._row])
        cells += [" "] * (at - len(cells))
        if len(cells[at - 1]) < _MAX_CELL:
            cells[at - 1] += token
        self._rows[self._row] = cells

    def _write(self, text: str) -> None:
        if not text:
            return
        line, at = self._rows[self._row], self._column
        end = at + len(text)
        if isinstance(line, str) and not self._colours:
            if at == len(line):
                line += text
            else:
                over = end >= len(line)
                line = line[:at].ljust(at) + text + line[end:]
                # Spaces that clear what was there.
                line = line.rstrip(" ") if over else line
        else:
            new = list(text)
            if self._colours:
                new[0], self._colours = self._colours + new[0], ""
            line = [*line[:at], *[" "] * (at - len(line)), *new, *line[end:]]
        self._rows[self._row] = line
        self._column = end
        if len(line) > _MAX_LINE:
            for row in self._rows[:-1]:
                self._keep("".join(row) + "\n")
            self._keep("".join(self._rows[-1]))
            self._rows[:] = [""]
            self._row = self._column = 0

    def _next_line(self) -> None:
        self._row += 1
        self._column = 0
        if self._row == len(self._rows):
            self._rows.append("")
            if self._row >= _ROWS:
                self._keep("".join(self._rows.pop(0)) + "\n")
                self._row -= 1

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
            rows = "\n".join("".join(row) for row in self._rows)
            return "".join(self._head) + gap + "".join(self._tail) + rows
