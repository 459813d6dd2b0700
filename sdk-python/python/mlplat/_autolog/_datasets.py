"""What a training read, as inputs of its run: what `run.log_input` would say of it, in bounded time.

Invariant: nothing is consumed or changed. What cannot be described is left out, without a word; of what is large a part is
read, and the digest begins with `sampled-`.
"""

from __future__ import annotations

import contextlib
import os

from .. import _inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._session import Session

MOST = 1 << 26
"""Bytes that are read of one data set; a fraction of a second."""
_OBJECT = 100
"""About as many bytes of numbers are read in the time of one Python object."""
_ITEMS = 100_000
_WIDE = 2000
_FIELD_BYTES = 500_000
_MOST_EVALS = 20
_SAMPLED = "sampled-"


def log(
    session: Session,
    describe: Callable[[], dict[str, Any] | None],
    context: str = "training",
    name: str = "dataset",
) -> None:
    """Notes a data set for the run of the session; it is sent when :meth:`Session.send_inputs` is called."""
    if session.run is None or not session.options.log_datasets:
        return
    with contextlib.suppress(Exception):
        found = describe()
        if found is not None:
            found["name"] = found["name"] or name[:250]
            found["context"] = context
            found["fields"] = _few_fields(found["fields"])
            session.add_input(found)


def log_evals(
    session: Session, describe: Callable[[Any], dict[str, Any] | None], sets: list[tuple[str, Any]]
) -> None:
    """Notes what is evaluated during a training, by name."""
    for name, data in sets[:_MOST_EVALS]:
        log(session, lambda data=data: describe(data), "eval", name)


def pairs(features: Any, targets: Any) -> list[tuple[Any, Any]]:
    """Data to evaluate on, as estimators take it: one or several."""
    if features is None:
        return []
    if not isinstance(features, (list, tuple)):
        features, targets = [features], [targets]
    return list(zip(features, targets if targets is not None else [None] * len(features), strict=False))


def described(data: Any, target: Any = None) -> dict[str, Any] | None:
    """One entry of features and target; None where it is no data that can be described."""
    found = _described(data)
    if found is None or target is None:
        return found
    aim = _described(target)
    if aim is None:
        return found
    name = getattr(target, "name", None)
    for key, kind in aim["fields"]:
        # A column has its name; an array, which has one field for all, gets this.
        key = key if key != "values" and hasattr(target, "columns") else str(name or "target")
        found["fields"].append((key, kind.removesuffix("[]")))
    return {**found, "digest": combined(found["digest"], aim["digest"])}


def combined(*digests: str) -> str:
    """One digest of several."""
    import hashlib

    made = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:32]
    return _SAMPLED + made if any(digest.startswith(_SAMPLED) for digest in digests) else made


def sampled(found: dict[str, Any], rows: int) -> dict[str, Any]:
    """Says of the description of a part that it is one, of so many rows."""
    digest = combined(found["digest"], str(rows)).removeprefix(_SAMPLED)
    return {**found, "digest": _SAMPLED + digest, "rows": rows}


def without_digest(fields: list[tuple[str, str]], rows: int | None) -> dict[str, Any]:
    """Of data whose content is out of reach."""
    return _inputs._entry("", rows, fields)


def spread(rows: int, size: int) -> Any:
    """Rows from all over, so many that they have about `MOST` bytes of all that have `size`."""
    import numpy

    return numpy.linspace(0, rows - 1, max(1, rows * MOST // size), dtype=numpy.int64)


def _described(data: Any) -> dict[str, Any] | None:
    if isinstance(data, (str, os.PathLike)):
        return _file(os.fspath(data))
    if hasattr(data, "_fingerprint") and hasattr(data, "features"):
        return _inputs.describe(data, None, None, None, None) | {"context": ""}
    if isinstance(data, (list, tuple)):
        return _items(data)
    if hasattr(data, "indptr") and hasattr(data, "indices"):
        return _sparse(data)
    size = _size(data)
    if size is None:
        return None
    if size <= MOST:
        return _table(data)
    part = spread(data.shape[0], size)
    if hasattr(data, "iloc"):
        found = _table(data.iloc[part])
    else:
        found = _table(data.take(part) if hasattr(data, "schema") and hasattr(data, "take") else data[part])
    return sampled(found, data.shape[0])


def _size(data: Any) -> int | None:
    """About how many bytes are to be read; None of what is neither an array nor a table in memory."""
    shape = getattr(data, "shape", None)
    if not isinstance(shape, tuple) or not shape:
        return None
    if _is_pandas(data):
        kinds = [data.dtype] if len(shape) == 1 else list(data.dtypes)
        objects = sum(getattr(kind, "hasobject", False) for kind in kinds)
        used = data.memory_usage(index=False)
        return int(used if len(shape) == 1 else used.sum()) + objects * shape[0] * _OBJECT
    if hasattr(data, "estimated_size"):
        return int(data.estimated_size())  # polars
    if getattr(getattr(data, "dtype", None), "hasobject", False):
        return int(data.size) * _OBJECT
    # numpy, PyTorch, Arrow; others compute or read files when they are looked at.
    if not any(hasattr(data, name) for name in ("__array_interface__", "detach", "__arrow_c_stream__")):
        return None
    size = getattr(data, "nbytes", None)
    return size if isinstance(size, int) else None


def _is_pandas(data: Any) -> bool:
    return any(kind.__module__.split(".")[0] == "pandas" for kind in type(data).__mro__)


def _table(data: Any) -> dict[str, Any]:
    """As `run.log_input` has it; frames of pandas that are very wide, or where pyarrow is missing, otherwise."""
    import importlib
    import importlib.util

    if not _is_pandas(data):
        if len(getattr(data, "columns", ())) > _WIDE:
            kinds = getattr(data, "dtypes", None) or data.schema.types
            names = getattr(data, "column_names", None) or data.columns
            return without_digest(_fields(names, kinds), data.shape[0])
        return dict(_inputs.describe(data, None, "dataset", None, None), name="")
    frame = data if hasattr(data, "columns") else data.to_frame()
    fields = _fields(frame.columns, frame.dtypes)
    if frame.shape[1] > _WIDE:
        # One block of numbers is read as such. Column by column it would take long.
        if len({kind for _, kind in fields}) > 1 or frame.dtypes.iloc[0].kind not in "biuf":
            return without_digest(fields, len(frame))
        values = _inputs.describe(frame.to_numpy(), None, "dataset", None, None)
        return _inputs._entry(combined(str(values["digest"]), repr(fields)), len(frame), fields)
    if importlib.util.find_spec("pyarrow") is not None:
        return dict(_inputs.describe(data, None, "dataset", None, None), name="")
    import hashlib

    hashes: Any = importlib.import_module("pandas.util").hash_pandas_object
    digest = hashlib.sha256(hashes(frame, index=False).to_numpy().tobytes())
    digest.update(repr(fields).encode())
    return _inputs._entry("pandas-" + digest.hexdigest()[:32], len(frame), fields)


def _fields(names: Any, kinds: Any) -> list[tuple[str, str]]:
    return [(str(name), str(kind)) for name, kind in zip(names, kinds, strict=True)]


def _sparse(data: Any) -> dict[str, Any] | None:
    parts = [_described(part) for part in (data.data, data.indices, data.indptr)]
    digests = [part["digest"] for part in parts if part is not None]
    fields = [("values", f"{data.dtype}[{data.shape[1]}] sparse")]
    digest = combined(f"{data.format} {data.shape}", *digests)
    return _inputs._entry(digest, data.shape[0], fields)


def _items(data: Any) -> dict[str, Any]:
    """A list: what its items look like."""
    import hashlib

    step = max(1, -(-len(data) // _ITEMS))
    digest, read, whole = hashlib.sha256(), 0, step == 1
    for item in data[::step]:
        text = (item if isinstance(item, str) else repr(item)).encode("utf-8", "surrogatepass")
        digest.update(b"%d " % len(text) + text)
        read += len(text)
        if read > MOST:
            whole = False
            break
    kind = type(data[0]).__name__ if len(data) else ""
    found = _inputs._entry(digest.hexdigest()[:32], len(data), [("values", kind)])
    return found if whole else sampled(found, len(data))


def _file(path: str) -> dict[str, Any] | None:
    if not os.path.isfile(path):
        return None
    place = os.path.abspath(path)
    name = os.path.basename(place)
    return _inputs._entry(_inputs._file_digest(place, MOST), None, [], place, "local", name)


def _few_fields(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """As many as fit into a record; all of a table that is not extremely wide."""
    kept: list[tuple[str, str]] = []
    left = _FIELD_BYTES
    for name, kind in fields[:10_000]:
        left -= len(name.encode("utf-8", "replace")) + len(kind) + 10
        if left < 0:
            break
        kept.append((name[:1000], kind[:1000]))
    return kept
