"""Random numbers: logging scores and predicts by code of users, and draws none that the training would have got.

Invariant: a program trains the same, bit for bit, with and without autologging.
"""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_DEPTH = 6
_STEPS = 100


@contextlib.contextmanager
def untouched(estimator: Any = None) -> Iterator[None]:
    """Leaves the generators of Python, numpy and PyTorch, and those that the estimator has as params, as they were."""
    ways_back: list[tuple[Callable[[Any], object], Any]] = []
    # Logging never fails a training, and a generator that cannot be read has not been seen yet.
    for generators in (_of_modules(), _of_params(estimator)):
        with contextlib.suppress(Exception):
            ways_back.extend(generators)
    try:
        yield
    finally:
        for restore, state in ways_back:
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
