"""Arrays of any library, as numpy's."""

from __future__ import annotations

from .. import _arguments
from .._errors import WrongTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def numpy(what: str) -> Any:
    """The package numpy."""
    return _arguments.package("numpy", what)


def is_array(value: object) -> bool:
    """Whether something is an array: of numpy, torch, tensorflow, jax, …"""
    return hasattr(value, "__array__") and hasattr(value, "shape")


def array(value: Any, what: str) -> Any:
    """An array as numpy's; lists of numbers too."""
    if hasattr(value, "detach"):
        # torch: from any device; its bfloat16 has no twin.
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    try:
        found = numpy(what).asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WrongTypeError(f"{what} is a {type(value).__name__} that is no array: {error}") from None
    if found.dtype.kind not in "biuf":
        raise WrongTypeError(f"{what} is of type {found.dtype}; give numbers")
    return found
