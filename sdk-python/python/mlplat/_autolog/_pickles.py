"""Pickles of classes that carry patches: what cloudpickle stores by value is stored as it was before it was patched.

Invariant: a pickle that is loaded elsewhere needs no mlplat, and logs nothing. What is stored by name stays so.
"""

from __future__ import annotations

import copy
import functools
import sys

from . import _patches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# cloudpickle, and the copies of it that other packages bring along.
_COPIES = ("cloudpickle", "joblib.externals.cloudpickle", "ray.cloudpickle", "pyspark.cloudpickle")
# Where its pickler is now, and where it was before version 3.
MODULES = tuple(f"{one}.{module}" for one in _COPIES for module in ("cloudpickle", "cloudpickle_fast"))


def install(module: str) -> None:
    """Patches the pickler of a copy of cloudpickle: the one place where all see functions of scripts and notebooks."""
    for name in ("Pickler", "CloudPickler"):
        pickler = getattr(sys.modules[module], name, None)
        reduce = vars(pickler).get("_function_reduce") if isinstance(pickler, type) else None
        # Both names may be of one class, and both modules have it.
        if reduce is not None and _patches.original_of(reduce) is None:
            _patches.replace("pickles", pickler, "_function_reduce", _as_before(reduce))


def _as_before(reduce: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @functools.wraps(reduce)
    def _function_reduce(self: Any, obj: Any) -> Any:
        original = _patches.original_of(obj)
        reduced = reduce(self, obj)
        if original is None or reduced is NotImplemented:
            return reduced  # none of ours, or found by its name
        reduced = _function_reduce(self, original)
        # Only the original has a name; a copy of a function is the function.
        return (copy.copy, (original,)) if reduced is NotImplemented else reduced

    return _function_reduce
