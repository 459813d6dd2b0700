"""The columns of a series of a metric, checked and brought into the form that the native part takes.

Invariant: what is no whole number, number or time is refused here, and never becomes one on the way: numpy makes an integer of
a time that is none (NaT), of a float, and of an unsigned one that is too large, without a word.
"""

from __future__ import annotations

from ._arguments import items, nanos, package
from ._errors import MisuseError, WrongTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST = 2**63 - 1
# The years 1 to 9999, in microseconds since 1970: what a datetime can be.
_FIRST_TIME, _LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999


def steps(values: object) -> object:
    """A column of whole numbers."""
    kind = _arrow_type(values)
    if kind is not None:
        # The native part takes times for numbers, and cuts off what is behind the point.
        if any(word in kind for word in ("time", "float", "double", "decimal")):
            raise WrongTypeError(f"steps are {kind}; give whole numbers")
        if "uint64" in kind:
            _check_greatest(_greatest(values))
        return values
    if not _is_array(values):
        return _as_list(values, "steps")
    array = _array(values, "steps")
    _check_unmasked(array, "steps")
    if array.dtype.kind == "O":
        return list(array)
    if array.dtype.kind not in "iub":
        raise WrongTypeError(f"steps are {array.dtype}; give whole numbers")
    if array.dtype.kind == "u" and array.size:
        _check_greatest(array.max())
    return array.astype("int64", copy=False).tobytes()


def numbers(values: object) -> object:
    """A column of values."""
    if _arrow_type(values) is not None:
        return values
    if not _is_array(values):
        return _as_list(values, "values")
    array = _array(values, "values")
    # Texts, times and complex numbers would become floats, in some way.
    if array.dtype.kind in "USMmc":
        raise WrongTypeError(f"values are {array.dtype}; give numbers")
    try:
        floats = array.astype("float64", copy=False)
        # What lies below a mask is no value.
        return (floats.filled(float("nan")) if hasattr(floats, "filled") else floats).tobytes()
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongTypeError(f"values are not numbers: {error}") from None


def times(values: object) -> object:
    """A column of times, as microseconds since 1970."""
    kind = _arrow_type(values)
    if kind is not None:
        if kind and "timestamp" not in kind and "datetime" not in kind:
            raise WrongTypeError(f"timestamps are {kind}; give times with a date")
        return values
    dtype = getattr(values, "dtype", None)
    kind = getattr(dtype, "kind", None)
    if kind not in ("M", "O", None):
        raise WrongTypeError(f"timestamps are {dtype}; give datetime64")
    _check_unmasked(values, "timestamps")
    if kind != "M":
        return [nanos(value, "one of timestamps") // 1000 for value in items(values, "timestamps")]
    if _root(values) == "pandas":
        # A zone is taken off on the way; what is left is UTC.
        values = values.to_numpy("datetime64[us]")  # pyright: ignore
    array = _array(values, "timestamps")
    if (array != array).any():
        raise MisuseError("timestamps have NaT, no time, among them; leave these rows out")
    micros = array.astype("datetime64[us]").astype("int64")
    if micros.size and not _FIRST_TIME <= micros.min() <= micros.max() <= _LAST_TIME:
        raise MisuseError("timestamps are outside of the years 1 to 9999")
    return micros.tobytes()


def _root(values: object) -> str:
    return type(values).__module__.split(".")[0]


def _arrow_type(values: object) -> str | None:
    """What something that speaks Arrow calls its type, if anything; None for what does not speak it."""
    # The stream of pandas has an index, or names the column.
    streams = hasattr(values, "__arrow_c_stream__") and _root(values) != "pandas"
    if not streams and not hasattr(values, "__arrow_c_array__"):
        return None
    kind = getattr(values, "type", None) or getattr(values, "dtype", None)
    return "" if kind is None else str(kind).lower()


def _greatest(values: Any) -> object:
    if hasattr(values, "max"):
        return values.max()
    if _root(values) == "pyarrow":
        return package("pyarrow.compute", "a column of pyarrow").max(values).as_py()
    return None


def _check_greatest(greatest: Any) -> None:
    if greatest is not None and greatest > _MOST:
        raise MisuseError(f"steps go up to {greatest}, which does not fit into a signed 64-bit integer")


def _check_unmasked(values: Any, what: str) -> None:
    """Refuses a masked array of numpy that hides something."""
    if hasattr(values, "filled") and _root(values) == "numpy" and values.mask.any():
        raise MisuseError(f"{what} are masked at {int(values.mask.sum())} places; leave these rows out")


def _is_array(values: object) -> bool:
    return hasattr(values, "__array__") or (hasattr(values, "detach") and hasattr(values, "cpu"))


def _array(values: Any, what: str) -> Any:
    """A column of numpy."""
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu()  # a torch tensor
    try:
        # Any array, so that a masked one keeps its mask.
        numpy = package("numpy", f"a column of {_root(values)}")
        array = (numpy.asanyarray if hasattr(values, "filled") else numpy.asarray)(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WrongTypeError(f"{what} are not numbers: {error}") from None
    if array.ndim != 1:
        raise MisuseError(f"{what} have {array.ndim} dimensions; give one column")
    return array


def _as_list(values: object, what: str) -> object:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise WrongTypeError(f"{what} is a {type(values).__name__}; give an array or a list of numbers")
    return list(values)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
