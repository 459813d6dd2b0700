"""What a run read: name, digest, columns, rows and source of a data set, whatever library holds it.

Digests are stable: the same rows have the same digest in pandas, polars and pyarrow, in whatever batches they come. Tables
are read in bounded memory, and of those with more than a million rows a part (the digest begins with `sampled-` then); of
large files likewise.
"""

from __future__ import annotations

import contextlib
import os

from . import _arguments, _native
from ._errors import MisuseError, MlplatError, WrongTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._types import PathLike

_READ = 1 << 20
_WHOLE = 1 << 30
"""Files up to this size are read whole; of larger ones as much, in pieces from all over."""
_FILES = 100_000
_ROWS = 1_000_000


def describe(
    dataset: object, context: str | None, name: str | None, source: PathLike | None, digest: str | None
) -> dict[str, object]:
    """An input as the native part takes it."""
    found = _described(dataset)
    if source is not None:
        found["source"], found["source_type"] = _source(_arguments.path(source, "source"))
    if digest is not None:
        found["digest"] = _arguments.text(digest, "digest")
    if name is not None:
        found["name"] = _arguments.text(name, "name")
    if not found["name"]:
        place = str(found["source"]).rstrip("/").rsplit("/", 1)[-1]
        found["name"] = place[:250] or "dataset"
    found["context"] = _arguments.optional_text(context, "context")
    return found


def _described(dataset: object) -> dict[str, object]:
    kind = type(dataset)
    module = kind.__module__.split(".")[0]
    if isinstance(dataset, (str, os.PathLike)):
        return _place(_arguments.path(dataset, "the data set"))
    if hasattr(dataset, "_fingerprint") and hasattr(dataset, "features"):
        return _hugging_face(dataset)
    if hasattr(dataset, "to_dict") and hasattr(dataset, "digest") and hasattr(dataset, "source"):
        return _mlflow(dataset)
    if module == "numpy" or (hasattr(dataset, "__array_interface__") and hasattr(dataset, "dtype")):
        return _array(dataset)
    if hasattr(dataset, "detach") and hasattr(dataset, "numpy"):
        return _array(dataset.detach().cpu().numpy())  # pyright: ignore[reportAttributeAccessIssue]
    if module == "pandas" and hasattr(dataset, "to_frame"):
        dataset = dataset.to_frame()  # pyright: ignore  # a Series is a frame of one column
    try:
        return _entry(*_native.table_digest(_arguments.table(dataset, "the data set")))
    except WrongTypeError:
        raise WrongTypeError(
            f"the data set is a {kind.__name__}; give a table of pandas, polars or pyarrow, an array, a path or URI, or a "
            "data set of Hugging Face"
        ) from None
    except MlplatError:
        raise
    except Exception:
        # A column of mixed objects, which Arrow cannot hold.
        if module != "pandas":
            raise
        return _objects(dataset)


def _entry(
    digest: str,
    rows: int | None = None,
    fields: list[tuple[str, str]] | None = None,
    source: str = "",
    source_type: str = "",
    name: str = "",
) -> dict[str, object]:
    return {
        "name": name,
        "digest": digest,
        "source": source,
        "source_type": source_type,
        "context": "",
        "fields": [(key[:1000], value[:1000]) for key, value in (fields or [])[:10_000]],
        "rows": rows,
    }


def _objects(frame: Any) -> dict[str, object]:
    """By what the values look like: the first million rows."""
    import hashlib

    digest = hashlib.sha256(repr(list(frame.columns)).encode())
    for at in range(len(frame.columns)):
        for value in frame.iloc[:_ROWS, at]:
            digest.update(repr(value).encode())
    fields = [(str(key), str(dtype)) for key, dtype in frame.dtypes.items()]
    prefix = "sampled-" if len(frame) > _ROWS else ""
    return _entry(prefix + digest.hexdigest()[:32], len(frame), fields)


def _array(array: Any) -> dict[str, object]:
    """By type, shape and bytes in C order, a slice at a time."""
    import hashlib

    numpy = _arguments.package("numpy", "an array")
    array = numpy.asarray(array)
    dtype = array.dtype.newbyteorder("<") if array.dtype.kind in "iufcmM" else array.dtype
    digest = hashlib.sha256(f"{dtype.str} {array.shape}".encode())
    if array.dtype.hasobject:
        digest.update(repr(array.tolist()).encode())
    elif array.ndim == 0 or not array.size:
        digest.update(array.astype(dtype).tobytes())
    else:
        step = max(1, _READ // max(1, array[:1].nbytes))
        blocks = range(0, len(array), step)
        most = max(1, _WHOLE // _READ)
        taken = blocks if len(blocks) <= most else [blocks[at * len(blocks) // most] for at in range(most)]
        for start in taken:
            digest.update(
                numpy.ascontiguousarray(array[start : start + step]).astype(dtype, copy=False).tobytes()
            )
        if len(taken) < len(blocks):
            fields = [("values", f"{array.dtype}{list(array.shape[1:])}")]
            return _entry("sampled-" + digest.hexdigest()[:32], len(array), fields)
    rows = len(array) if array.ndim else 1
    return _entry(digest.hexdigest()[:32], rows, [("values", f"{array.dtype}{list(array.shape[1:])}")])


def _hugging_face(dataset: Any) -> dict[str, object]:
    """`datasets.Dataset`: it knows its own fingerprint, which changes with its content and how it was made."""
    features = dataset.features or {}
    fields = [(str(key), str(getattr(of, "dtype", of))) for key, of in features.items()]
    info = getattr(dataset, "info", None)
    called = getattr(info, "dataset_name", None) or getattr(dataset, "builder_name", None) or ""
    config = getattr(dataset, "config_name", None)
    split = getattr(dataset, "split", None)
    source = f"hf://datasets/{called}" if called else ""
    if called and config and config != "default":
        source += f"/{config}"
    rows = getattr(dataset, "num_rows", None)
    name = f"{called} {split}" if called and split else called
    return _entry(str(dataset._fingerprint), rows, fields, source, "hugging_face", name)


def _mlflow(dataset: Any) -> dict[str, object]:
    """A data set of `mlflow.data`, which says all of it itself."""
    import json

    facts = dataset.to_dict()
    source = str(facts.get("source", ""))
    try:
        said = json.loads(source)
        source = str(said.get("uri") or said.get("path") or said.get("url") or source)
    except (ValueError, AttributeError):
        pass
    rows = None
    with contextlib.suppress(ValueError, AttributeError):
        rows = json.loads(facts.get("profile") or "{}").get("num_rows")
    fields: list[tuple[str, str]] = []
    try:
        columns = json.loads(facts.get("schema") or "{}").get("mlflow_colspec", [])
        fields = [(str(c.get("name", "")), str(c.get("type", ""))) for c in columns]
    except (ValueError, AttributeError, TypeError):
        pass
    kind = str(facts.get("source_type", ""))
    return _entry(str(facts["digest"]), rows, fields, source[:2000], kind[:100], str(facts["name"]))


def _source(place: str) -> tuple[str, str]:
    """A place and its kind; local paths become absolute, so that they mean the same to everybody."""
    scheme, has_scheme, rest = place.partition("://")
    if not has_scheme:
        return os.path.abspath(os.path.expanduser(place)), "local"
    if scheme == "file":
        return "/" + rest.lstrip("/"), "local"
    return place, {"hf": "hugging_face"}.get(scheme, scheme)


def _place(text: str) -> dict[str, object]:
    """A file or directory by its content; what lies elsewhere is not read."""
    source, kind = _source(text)
    if kind != "local":
        return _entry("", source=source, source_type=kind)
    if not os.path.exists(source):
        raise MisuseError(f"the data set {text} does not exist; give a path that does, or a URI")
    if os.path.isdir(source):
        return _entry(_directory_digest(source), source=source, source_type=kind)
    return _entry(_file_digest(source, _WHOLE), source=source, source_type=kind)


def _file_digest(path: str, most: int) -> str:
    import hashlib

    size = os.path.getsize(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if size <= most:
            while part := file.read(_READ):
                digest.update(part)
            return digest.hexdigest()[:32]
        pieces = max(2, most // _READ)
        for at in range(pieces):
            file.seek(at * (size - _READ) // (pieces - 1))
            digest.update(file.read(_READ))
    digest.update(str(size).encode())
    return "sampled-" + digest.hexdigest()[:32]


def _directory_digest(folder: str) -> str:
    """Names, sizes and contents of all files below it."""
    import hashlib

    files: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        files += [os.path.join(parent, name) for name in sorted(names)]
        if len(files) > _FILES:
            raise MisuseError(
                f"{folder} holds more than {_FILES} files; give a digest of your own with digest=…"
            )
    digest = hashlib.sha256()
    sampled = False
    share = max(_READ * 2, _WHOLE // max(1, len(files)))
    for file in files:
        if not os.path.isfile(file):
            continue
        name = os.path.relpath(file, folder).replace(os.sep, "/")
        of_file = _file_digest(file, share)
        sampled = sampled or of_file.startswith("sampled-")
        digest.update(f"{name}\0{os.path.getsize(file)}\0{of_file}\n".encode())
    return ("sampled-" if sampled else "") + digest.hexdigest()[:32]
