"""What callers give, checked and brought into the form that the native part takes.

Every error raised here says which argument is wrong and what to give instead.
"""

from __future__ import annotations

import operator
import os
from datetime import date, datetime, timedelta, timezone

from . import _native
from ._errors import MissingPackageError, MisuseError, WrongTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def package(name: str, what: str) -> Any:
    """An optional package, imported where it is needed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        root = name.split(".")[0]
        root = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}.get(root, root)
        raise MissingPackageError(f"{what} needs {root}: pip install {root}") from error


def text(value: object, what: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise WrongTypeError(f"{what} is a {type(value).__name__}; give a str")
    if not value:
        raise MisuseError(f"{what} is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            # Half of a character, or a file name that is not UTF-8.
            raise MisuseError(f"{what} is {value!r}, which is not valid Unicode") from None
    return value


def optional_text(value: object, what: str) -> str:
    """A text; None is the empty one."""
    if value is None or (isinstance(value, str) and not value):
        return ""
    return text(value, what)


def texts(values: object, what: str) -> list[str]:
    """A list of texts; a single text is a list of one."""
    if isinstance(values, str):
        return [text(values, what)]
    return [text(value, what) for value in items(values, what)]


def items(values: object, what: str) -> Iterable[object]:
    """Something that can be iterated over, but is no text."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise WrongTypeError(f"{what} is a {type(values).__name__}; give a list")
    return iter(values)  # pyright: ignore[reportCallIssue, reportArgumentType]


def run_id(value: object, what: str) -> str:
    """A run, or its id."""
    return text(getattr(value, "id", value), what)


def run_ids(values: object, what: str) -> list[str]:
    """One run or several, or their ids."""
    if isinstance(values, str) or hasattr(values, "id"):
        return [run_id(values, what)]
    return [run_id(value, what) for value in items(values, what)]


def labels(values: Mapping[str, object] | None, what: str) -> dict[str, str]:
    """A mapping of texts; values become text."""
    if values is None:
        return {}
    if not hasattr(values, "items"):
        raise WrongTypeError(f"{what} is a {type(values).__name__}; give a dict")
    return {text(key, f"a key of {what}"): _label(key, value, what) for key, value in values.items()}


def _label(key: object, value: object, what: str) -> str:
    try:
        found = str(value)
    except Exception as error:
        # Whatever goes wrong in code that is not ours.
        raise WrongTypeError(
            f"`{key}` of {what} is a {type(value).__name__} that does not become text ({error!r}); give a text"
        ) from error
    return optional_text(found, what)


def path(value: str | os.PathLike[str], what: str) -> str:
    """A path as text."""
    try:
        found = os.fspath(value)
    except TypeError:
        raise WrongTypeError(f"{what} is a {type(value).__name__}; give a str or pathlib.Path") from None
    if isinstance(found, bytes):
        found = os.fsdecode(found)
    return text(found, what)


def number(key: str, value: object) -> float:
    """The value of a metric: whatever has a float value, arrays and tensors of one element included."""
    scalar, failure = _only_element(value)
    if isinstance(scalar, (str, bytes)) or not hasattr(type(scalar), "__float__"):
        raise WrongTypeError(
            f"metric `{key}` is a {type(value).__name__}, and metrics are numbers; log it with log_param or set_tag"
        ) from failure
    try:
        return float(scalar)  # pyright: ignore[reportArgumentType]
    except OverflowError:
        raise MisuseError(f"metric `{key}` does not fit into a 64-bit float") from None
    except Exception as error:
        # Also what is raised by code that is not ours.
        said = error if isinstance(error, (TypeError, ValueError, RuntimeError)) else repr(error)
        raise WrongTypeError(
            f"metric `{key}` is a {type(value).__name__} without a single float value ({said}); "
            "log one number per call, e.g. its mean"
        ) from error


def _only_element(value: object) -> tuple[object, Exception | None]:
    """The element of an array, tensor or series that has exactly one; else what is given, and why it has none."""
    try:
        item = getattr(value, "item", None)
        # Times of numpy may come out as plain integers.
        if not callable(item) or getattr(getattr(value, "dtype", None), "kind", None) in ("m", "M"):
            return value, None
        return item(), None
    except Exception as error:
        return value, error


def integer(value: object, what: str) -> int:
    """A whole number, numpy's included."""
    try:
        found = operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        found = None
    if found is None or isinstance(value, bool):
        raise WrongTypeError(f"{what} is a {type(value).__name__}; give an int")
    if not -(2**63) <= found < 2**63:
        raise MisuseError(f"{what} is {found}, which does not fit into 64 bits")
    return found


def flag(value: object, what: str) -> bool:
    """True or False, numpy's included."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise WrongTypeError(f"{what} is a {type(value).__name__}; give True or False")
    return bool(value)


def optional_integer(value: object, what: str, least: int = -(2**63)) -> int | None:
    """A whole number; None stays None."""
    if value is None:
        return None
    found = integer(value, what)
    if found < least:
        raise MisuseError(f"{what} is {found}; the least is {least}")
    return found


def optional_count(value: object, what: str, most: int, least: int = 1) -> int | None:
    """A whole number from `least` to `most`, or None."""
    if value is None:
        return None
    count = integer(value, what)
    if not least <= count <= most:
        raise MisuseError(f"{what} must be {least} to {most:,}, not {count}")
    return count


def count(value: object, what: str) -> int:
    """A whole number that is not negative."""
    found = integer(value, what)
    if found < 0:
        raise MisuseError(f"{what} is {found}; give 0 or more")
    return found


def pairs(metrics: Mapping[str, object]) -> list[tuple[str, object]]:
    """Keys and values of a mapping that is no dict."""
    if not hasattr(metrics, "items"):
        raise WrongTypeError(f"metrics is a {type(metrics).__name__}; give a dict")
    return list(metrics.items())


def optional_seconds(value: object, what: str) -> timedelta | None:
    """A length of time, in seconds or as a timedelta; None stays None."""
    if value is None:
        return None
    if not isinstance(value, timedelta):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise WrongTypeError(f"{what} is a {type(value).__name__}; give seconds or a timedelta")
        try:
            value = timedelta(seconds=value)
        except (ValueError, OverflowError):
            raise MisuseError(f"{what} is {value}; give seconds") from None
    return max(value, timedelta())


def nanos(value: object, what: str) -> int:
    """A time as nanoseconds since 1970 UTC; without a zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise MisuseError(
                f"{what} is {value!r}; give a datetime, or a text like 2013-07-01T12:00:00+00:00"
            ) from None
    if not isinstance(value, datetime) and isinstance(value, date):
        value = datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    if type(value).__name__ == "datetime64":
        return _numpy_nanos(value, what)
    if not isinstance(value, datetime):
        raise WrongTypeError(f"{what} is a {type(value).__name__}; give a datetime")
    if value != value:
        raise MisuseError(f"{what} is NaT, no time; give a datetime")
    # pandas.Timestamp is a datetime with nanoseconds.
    extra: int = getattr(value, "nanosecond", 0)
    plain = datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond,
        tzinfo=timezone.utc,
    )  # fmt: skip
    offset = value.utcoffset()
    since = plain - _EPOCH - (offset or timedelta())
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000 + extra


def _numpy_nanos(value: Any, what: str) -> int:
    """As :func:`nanos` for a numpy.datetime64, without importing numpy."""
    if value != value:
        raise MisuseError(f"{what} is NaT, no time; give a datetime")
    # In nanoseconds years after 2262 would silently become others.
    if str(value.dtype) in ("datetime64[ns]", "datetime64[ps]", "datetime64[fs]", "datetime64[as]"):
        return int(value.astype("datetime64[ns]").astype("int64"))
    return int(value.astype("datetime64[us]").astype("int64")) * 1000


def optional_nanos(value: object, what: str) -> int | None:
    """As :func:`nanos`; None stays None."""
    return None if value is None else nanos(value, what)


def duration(value: object, what: str) -> timedelta:
    """A length of time."""
    if not isinstance(value, timedelta):
        raise WrongTypeError(
            f"{what} is a {type(value).__name__}; give a datetime.timedelta, e.g. timedelta(hours=3)"
        )
    if value <= timedelta():
        raise MisuseError(f"{what} is {value}; it must be longer than nothing")
    return value


def absolute(location: str | os.PathLike[str]) -> str:
    """A path or glob that the server can find: addresses stay, local paths become absolute."""
    found = path(location, "the path of a source")
    if found.startswith("file://"):
        found = found[len("file://") :]
    elif "://" in found:
        return found
    return os.path.abspath(os.path.expanduser(found))


def table(value: object, what: str) -> object:
    """A table that speaks Arrow: as it is, or made of a pandas frame, a dict of columns, or a list of dicts."""
    if type(value).__module__.split(".")[0] == "pandas":
        # pandas would give its index away as a column of its own.
        pyarrow = package("pyarrow", "a pandas frame")
        return pyarrow.Table.from_pandas(value, preserve_index=False)
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        return value
    if hasattr(value, "collect_schema"):
        return value.collect()  # pyright: ignore  # polars.LazyFrame
    if isinstance(value, dict):
        return columns(value, what)
    if isinstance(value, (list, tuple)):
        names, cells = rows(value, what)
        return _native.from_columns([(name, [row[at] for row in cells]) for at, name in enumerate(names)])
    raise WrongTypeError(
        f"{what} is a {type(value).__name__}; give a table of pyarrow, polars or pandas, a dict of columns, or a list of "
        "dicts"
    )


def columns(value: Mapping[str, object], what: str) -> _native.Batches:
    """A dict of columns as a table."""
    pairs: list[tuple[str, object]] = []
    for name, column in value.items():
        module = type(column).__module__.split(".")[0]
        if module in ("numpy", "pandas"):
            # These do not speak Arrow by themselves.
            pyarrow = package("pyarrow", f"a column of {module}")
            column = pyarrow.array(column, from_pandas=True)
        elif isinstance(column, (str, bytes)) or not hasattr(column, "__iter__"):
            raise WrongTypeError(
                f"column `{name}` of {what} is a {type(column).__name__}; give a list of values"
            )
        pairs.append((text(name, f"a column of {what}"), column))
    return _native.from_columns(pairs)


def rows(value: object, what: str) -> tuple[list[str], list[list[object]]]:
    """Rows given as dicts: names of the columns, and one list of values per row."""
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        source = table(value, what)
        value = _native.from_arrow(source).to_dicts()
    elif isinstance(value, dict):
        # A dict of lists is a table, a dict of values is one row.
        if any(isinstance(column, (list, tuple)) for column in value.values()):
            value = columns(value, what).to_dicts()
        else:
            value = [value]
    names: list[str] = []
    found: list[dict[str, object]] = []
    for row in items(value, what):
        if not isinstance(row, dict):
            raise WrongTypeError(
                f'a row of {what} is a {type(row).__name__}; give dicts, e.g. {{"origin": "JFK"}}'
            )
        found.append(row)
        names.extend(text(name, f"a column of {what}") for name in row if name not in names)
    for at, row in enumerate(found):
        missing = [name for name in names if name not in row]
        if missing:
            raise MisuseError(f"row {at} of {what} has no `{missing[0]}`, which other rows have")
    return names, [[row[name] for name in names] for row in found]
