"""Threads that a training starts, and the tasks it gives to a pool of threads, are part of that training.

Invariant: only what is started or handed over inside of a session carries it; threads of users that train side by side
have none, and keep runs of their own. A session that has ended counts no more, however long a thread of it lives.
"""

from __future__ import annotations

import functools
import operator
import sys

from . import _patches, _session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAME = "threads"


def install(module: str) -> None:
    """Patches what this module has brought."""
    if module == "threading":
        thread = sys.modules[module].Thread
        _patches.replace(_NAME, thread, "start", _start(thread.start))
    elif module == "concurrent.futures.thread":
        pool = sys.modules[module].ThreadPoolExecutor
        _patches.replace(_NAME, pool, "submit", _submit(pool.submit))


class Inside:
    """A function that is called inside of a session, whichever thread calls it. In another process it is itself."""

    def __init__(self, session: _session.Guard, function: Callable[..., Any]) -> None:
        self._session = session
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = _session.enter(self._session)
        try:
            return self._function(*args, **kwargs)
        finally:
            _session.leave(token)

    def __reduce__(self) -> Any:
        return operator.itemgetter(0), ((self._function,),)


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = _session.current()
        if session is None:
            return original(self, *args, **kwargs)
        work, own = Inside(session, self.run), vars(self)

        def run() -> None:
            # First, for a thread that knows of itself would not be freed.
            own.pop("run", None)
            work()

        own["run"] = run
        try:
            return original(self, *args, **kwargs)
        except BaseException:
            own.pop("run", None)
            raise

    return start


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        session = _session.current()
        if session is None:
            return original(self, function, *args, **kwargs)
        # The task carries the session. The thread that is started for it does not: its next task may be another's.
        token = _session.enter(None)
        try:
            return original(self, Inside(session, function), *args, **kwargs)
        finally:
            _session.leave(token)

    return submit
