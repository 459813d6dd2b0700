"""Whether the process ends by `sys.exit` (or `exit` and `quit`), and with what code.

Python calls no hook for SystemExit and has forgotten it when `atexit` runs, so these functions are wrapped. Invariant: they
do what they did before. `raise SystemExit(3)`, and a `sys.exit` that was imported by name before, cannot be seen.
"""

from __future__ import annotations

import builtins
import functools
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_last: SystemExit | None = None


def listen() -> None:
    """Wraps the functions; to be called once."""
    sys.exit = _heard(sys.exit)
    # `exit` and `quit` are of one class. IPython has others, which do not end the process by themselves.
    quitter = type(getattr(builtins, "exit", None))
    if quitter.__module__ == "_sitebuiltins":
        quitter.__call__ = _heard(quitter.__call__)


def _heard(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def exit(*arguments: Any, **named: Any) -> Any:
        global _last
        try:
            return original(*arguments, **named)
        except SystemExit as error:
            # In another thread it ends only that one. A new one, as the traceback would keep everything alive.
            if threading.current_thread() is threading.main_thread():
                _last = SystemExit(error.code)
            raise

    return exit


def forget() -> None:
    """The process goes on, so whatever exit there was has been caught."""
    global _last
    _last = None


def last() -> SystemExit | None:
    """What the process ends with, to be asked at its end."""
    return _last
