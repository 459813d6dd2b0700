"""How a run ends whose block was left, or whose process ended: the status, and why."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_CELL = re.compile(r"[/\\]ipykernel_[0-9]+[/\\]|^<ipython-input")


def outcome(
    kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
) -> tuple[str, str]:
    """Status and message of a run whose block was left in this way."""
    if kind is None or (issubclass(kind, SystemExit) and getattr(error, "code", None) in (None, 0)):
        return "FINISHED", ""
    text = f"{kind.__qualname__}: {error}" if str(error) else kind.__qualname__
    killed = ("KeyboardInterrupt", "CancelledError", "GeneratorExit")
    if issubclass(kind, KeyboardInterrupt) or kind.__name__ in killed:
        return "KILLED", text
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        # The file of a cell of a notebook is a name that nobody knows, and soon gone.
        place = (
            f"line {traceback.tb_lineno} of the cell"
            if _CELL.search(file)
            else f"{file}:{traceback.tb_lineno}"
        )
        text += f" ({place})"
    # The server takes 10,000 characters.
    return "FAILED", text[:9000]
