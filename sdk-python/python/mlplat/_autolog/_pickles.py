"""Pickles of classes that carry patches: what cloudpickle stores by value is stored as it was before it was patched.

Invariant: a pickle that is loaded elsewhere needs no mlplat, and logs nothing.
"""

from __future__ import annotations

import functools
import io
import types

from ._patches import original_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def without_patches(cloudpickle: Any) -> Any:
    """The module cloudpickle, as far as it pickles, without the patches."""
    if not hasattr(cloudpickle.Pickler, "reducer_override"):
        return cloudpickle  # an implementation of Python whose pickles are another matter
    pickler = _pickler_class(cloudpickle)

    def dump(thing: object, file: Any, protocol: int | None = None) -> None:
        pickler(file, protocol=protocol).dump(thing)

    def dumps(thing: object, protocol: int | None = None) -> bytes:
        buffer = io.BytesIO()
        dump(thing, buffer, protocol)
        return buffer.getvalue()

    return types.SimpleNamespace(__name__=cloudpickle.__name__, Pickler=pickler, dump=dump, dumps=dumps)


@functools.cache
def _pickler_class(cloudpickle: Any) -> Any:
    class Pickler(cloudpickle.Pickler):
        """Stores a patched function of a script or notebook as the function that it wraps."""

        def reducer_override(self, obj: Any) -> Any:
            reduced = super().reducer_override(obj)
            if reduced is NotImplemented or not isinstance(obj, types.FunctionType):
                return reduced
            original = original_of(obj)
            return reduced if original is None else self.reducer_override(original)

    return Pickler
