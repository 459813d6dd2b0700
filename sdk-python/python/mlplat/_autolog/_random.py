"""Random numbers: logging scores and predicts by code of users, and draws none that the training would have got.

Invariant: a program trains the same, bit for bit, with and without autologging, as long as one thread at a time draws from
the generators that all threads share. Where others may have drawn from these meanwhile, they stay as they are: put back, they
would give the others the same numbers again.
"""

from __future__ import annotations

import contextlib
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_DEPTH = 6
_STEPS = 100
# Threads of ours and of notebooks, which draw nothing.
_DRAW_NOTHING = ("mlplat-", "IOPub", "Heartbeat")

_lock = threading.Lock()
# Trainings that go on, and their threads.
_trainings: dict[object, int] = {}
_quiet_times: set[_QuietTime] = set()


def training_begins(training: object) -> None:
    """A training that is logged draws from now on, for all that other threads know."""
    mine = threading.get_ident()
    with _lock:
        _trainings[training] = mine
        for other in _quiet_times:
            other.alone = other.alone and other.thread == mine


def training_is_over(training: object) -> None:
    """It draws no more."""
    with _lock:
        _trainings.pop(training, None)


def forget() -> None:
    """To be called in a process that was forked off: the threads of the others are not in it."""
    global _lock
    _lock = threading.Lock()
    _trainings.clear()
    _quiet_times.clear()


class _QuietTime:
    """While logging works; `alone` until it is known that another thread draws meanwhile."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._work = _work_of_others()
        with _lock:
            self.alone = all(thread == self.thread for thread in _trainings.values())
            _quiet_times.add(self)

    def end(self) -> None:
        with _lock:
            _quiet_times.discard(self)
        if self.alone and self._work:
            after = _work_of_others()
            self.alone = all(after.get(thread) == work for thread, work in self._work.items())


def _work_of_others() -> dict[int, object]:
    """What tells by a change that another thread has run."""
    mine = threading.get_ident()
    return {
        thread.ident: _work(thread)
        for thread in threading.enumerate()
        if thread.ident not in (None, mine) and not thread.name.startswith(_DRAW_NOTHING)
    }


def _work(thread: threading.Thread) -> object:
    try:
        # A thread that has run had to wait again for the interpreter, or for something else.
        with open(f"/proc/self/task/{thread.native_id}/status", encoding="utf-8") as file:
            return file.read().partition("voluntary_ctxt_switches:")[2]
    except OSError:
        # Not Linux. What libraries start for themselves are daemons nearly always; a new object equals no other.
        return None if thread.daemon else object()


@contextlib.contextmanager
def untouched(estimator: Any = None) -> Iterator[None]:
    """Leaves the generators of Python, numpy and PyTorch, and those that the estimator has as params, as they were."""
    shared: list[tuple[Callable[[Any], object], Any]] = []
    own: list[tuple[Callable[[Any], object], Any]] = []
    # Before the generators are read: what is drawn from then on counts.
    time = _QuietTime()
    # Logging never fails a training, and a generator that cannot be read has not been seen yet.
    for ways_back, generators in ((shared, _of_modules()), (own, _of_params(estimator))):
        with contextlib.suppress(Exception):
            ways_back.extend(generators)
    try:
        yield
    finally:
        time.end()
        for restore, state in (*shared, *own) if time.alone else own:
            with contextlib.suppress(Exception):
                restore(state)


def _of_modules() -> Iterator[tuple[Callable[[Any], object], Any]]:
    # What nobody has imported nobody has drawn from.
    if (random := sys.modules.get("random")) is not None:
        yield random.setstate, random.getstate()
    if (numpy := sys.modules.get("numpy.random")) is not None:
        yield numpy.set_state, numpy.get_state(legacy=False)
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "set_rng_state"):
        yield torch.set_rng_state, torch.get_rng_state()


def _of_params(value: Any, depth: int = 0) -> Iterator[tuple[Callable[[Any], object], Any]]:
    numpy = sys.modules.get("numpy.random")
    if numpy is None or depth > _DEPTH:
        return
    if isinstance(value, numpy.RandomState):
        if value is getattr(numpy.mtrand, "_rand", None):
            return  # that of the module
        yield value.set_state, value.get_state(legacy=False)
    elif isinstance(value, numpy.Generator):
        bits = value.bit_generator
        yield lambda state: setattr(bits, "state", state), bits.state
    elif hasattr(value, "get_params") and hasattr(value, "__dict__"):
        # Not by that method, which draws in xgboost. What a fit has made has names of its own.
        for name, held in list(vars(value).items()):
            if not name.endswith("_") and not name.startswith("_"):
                yield from _of_params(held, depth + 1)
    elif isinstance(value, (list, tuple)) and len(value) <= _STEPS:
        # The steps of a pipeline and their names.
        for item in value:
            yield from _of_params(item, depth + 1)
