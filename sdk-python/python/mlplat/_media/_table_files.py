"""The files of a table, and their way back.

The process that started the run writes `<name>.json` (or .parquet, .csv), which anything reads. What does not fit into that
file, and what other processes log, goes into files of `<name>.json.parts/`, each of one process.

Invariant: a file is written by one process only, and anew only while it is small. So no process overwrites the rows of
another one, and adding a row to a long table costs as much as adding one to a short table.
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timezone

from .. import _arguments, _native
from .._errors import ArrowError, MisuseError, MlplatError
from .._scratch import Scratch
from .._table import Table
from . import _csv, _names, _tables
from ._text import utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from .._active import ActiveRunBase
    from .._spool import Item

ENDINGS = frozenset({".json", ".parquet", ".csv"})
_PARTS = ".parts"
_FORMAT = {"format": "mlplat-table-part", "version": 1}
_MARK = b"mlplat.logged"
_FULL = 64 << 10
"""Bytes of a file from which on the next rows begin another one."""


class _Writing:
    """The file of a table that this process is filling."""

    __slots__ = ("logged", "path", "replaces", "schema", "table")

    def __init__(self, schema: Any) -> None:
        self.path = ""
        """Empty where the next rows begin a file."""
        self.table: Any = None
        self.logged: list[tuple[int, int]] = []
        """Of each call: when, and how many rows."""
        self.replaces: int | None = None
        """Rows that were logged before this moment are not part of the table any more."""
        self.schema = schema
        """Of Parquet: all columns so far."""


_open: dict[tuple[str, str], _Writing] = {}
"""Of each table of each run under way."""
_writer = os.urandom(4).hex()
"""Tells the files of this process from those of others, which may have its number on another machine."""
_last = 0


def table_path(artifact_file: str) -> str:
    """Where a table of this name is."""
    return _names.single(artifact_file, "tables", ENDINGS, ".json")


def table_items(run: ActiveRunBase, data: object, artifact_file: str, append: bool) -> list[Item]:
    """The files of `log_table` to be written. One call at a time."""
    name = table_path(artifact_file)
    ending = _names.split(name, ENDINGS)[1]
    fresh: Any = _tables.arrow(data) if ending == ".parquet" else _tables.split_form(data)
    now = _moment()
    before = _open.get((run.id, name)) if append else None
    writing = before or _Writing(None)
    if ending == ".parquet":
        writing.schema = _unified(writing.schema, fresh.schema)
    items: list[Item] = []
    if not writing.path:
        _begin(writing, run, name, ending, now, first=before is None)
        if not append:
            writing.replaces = now
        if writing.path == name and not append:
            items = [_said_replaced(name, now)]
    whole = fresh if writing.table is None else _tables.joined([writing.table, fresh])
    logged = [*writing.logged, (now, _rows(fresh))]
    content = _content(writing, name, ending, whole, logged)
    writing.table, writing.logged = whole, logged
    items.insert(0, (content, writing.path))
    if len(content) >= _FULL:
        writing.path, writing.table, writing.logged, writing.replaces = "", None, [], None
    _open[run.id, name] = writing
    return items


def _begin(writing: _Writing, run: ActiveRunBase, name: str, ending: str, now: int, first: bool) -> None:
    # A resumed run, or one whose other processes are known, may have rows under this name that are not ours.
    alone = run._fresh and run._pid == os.getpid() and os.environ.get("MLPLAT_RUN_ID") != run.id
    if first and alone:
        writing.path = name
    else:
        writing.path = f"{name}{_PARTS}/{now:016d}_{_writer}{'.parquet' if ending == '.parquet' else '.json'}"


def _moment() -> int:
    """Microseconds since 1970, later each time."""
    global _last
    _last = max(_last + 1, time.time_ns() // 1000)
    return _last


def _unified(before: Any, fresh: Any) -> Any:
    if before is None or before == fresh:
        return fresh
    pyarrow = _arguments.package("pyarrow", "a table in Parquet")
    try:
        return pyarrow.unify_schemas([before, fresh], promote_options="permissive")
    except (ValueError, TypeError) as error:
        raise MisuseError(f"the rows do not fit those logged before: {error}") from None


def _rows(table: Any) -> int:
    return len(table["data"]) if isinstance(table, dict) else table.num_rows


def _content(writing: _Writing, name: str, ending: str, table: Any, logged: list[tuple[int, int]]) -> bytes:
    about = {**_FORMAT, "logged": logged, "replaces": writing.replaces}
    if ending == ".parquet":
        kept = {**(table.schema.metadata or {}), _MARK: json.dumps(about).encode()}
        return _tables.encoded(table.replace_schema_metadata(kept), ending)
    if writing.path == name:
        return _tables.encoded(table, ending)
    return utf8(json.dumps({**about, **_tables.in_json(table)}, ensure_ascii=False, separators=(",", ":")))


def _said_replaced(name: str, now: int) -> Item:
    """A file for a table that began anew under its own name, where parts of others may stay behind."""
    said = {**_FORMAT, "columns": [], "data": [], "logged": [], "replaces": now, "by": name}
    return json.dumps(said).encode(), f"{name}{_PARTS}/replaced_{_writer}.json"


def forget(run_id: str) -> None:
    """A run has ended: nothing is added to its tables any more."""
    for held in [held for held in list(_open) if held[0] == run_id]:
        _open.pop(held, None)


def table_steps(
    client: _native.Client, run_id: str, artifact_file: str
) -> Generator[_native.Call[Any], Any, Table]:
    """A table of a run, with the rows of all processes in the order in which they were logged."""
    name = table_path(artifact_file)
    folder = name + _PARTS
    parts = yield _native.list_artifacts(client, run_id, folder)
    with Scratch() as scratch:
        if not parts:
            local = yield _native.download_artifact(client, run_id, name, scratch)
            return _alone(local, name)
        own = [found for found in (yield _native.list_artifacts(client, run_id, name)) if found.path == name]
        local = (yield _native.download_artifact(client, run_id, name, scratch)) if own else None
        held = yield _native.download_artifact(client, run_id, folder, os.path.join(scratch, "parts"))
        return _together(local, own[0].created_at if own else None, held, name)


def _alone(local: str, name: str) -> Table:
    with _Readable(name):
        if name.lower().endswith(".csv"):
            return _csv.table(local)
        table = _loaded(local)[0]
        if isinstance(table, dict):
            return _tables.of_split_form(table)
        return Table(_native.from_arrow(table.replace_schema_metadata(None)))


def _together(local: str | None, written: datetime | None, folder: str, name: str) -> Table:
    """The rows of all files, without those that were replaced."""
    pieces: list[tuple[int, str, Any]] = []
    replaced, by_own = 0, False
    for part in sorted(os.listdir(folder)):
        with _Readable(f"{name}{_PARTS}/{part}"):
            table, about = _loaded(os.path.join(folder, part))
            pieces += _pieces(table, about["logged"], part)
            if (about.get("replaces") or 0) > replaced:
                replaced, by_own = about["replaces"], about.get("by") == name
    pieces = [piece for piece in pieces if piece[0] >= replaced]
    if local is not None and written is not None:
        with _Readable(name):
            table, about = _loaded(local)
            if about:
                pieces += [piece for piece in _pieces(table, about["logged"], "") if piece[0] >= replaced]
            elif by_own or written > _time(replaced):
                # JSON and CSV do not say when their rows were logged: they are those of the process that began.
                pieces.append((0, "", table))
    pieces.sort(key=lambda piece: piece[:2])
    tables = [piece[2] for piece in pieces]
    with _Readable(name):
        if name.lower().endswith(".parquet"):
            empty = _arguments.package("pyarrow", "a table in Parquet").table({})
            return Table(_native.from_arrow(_tables.joined(tables) if tables else empty))
        whole = _tables.joined(tables) if tables else {"columns": [], "data": []}
        if not name.lower().endswith(".csv"):
            return _tables.of_split_form(whole)
        import io

        # As if it had been one file.
        return _csv.table(io.BytesIO(_csv.encoded(whole)))


def _time(moment: int) -> datetime:
    return datetime.fromtimestamp(moment / 1_000_000, timezone.utc)


def _pieces(table: Any, logged: list[tuple[int, int]], file: str) -> list[tuple[int, str, Any]]:
    """What each call logged: when, in which file, and its rows."""
    pieces: list[tuple[int, str, Any]] = []
    at = 0
    for moment, rows in logged:
        if isinstance(table, dict):
            piece = {"columns": table["columns"], "data": table["data"][at : at + rows]}
        else:
            piece = table.slice(at, rows)
        pieces.append((moment, file, piece))
        at += rows
    return pieces


def _loaded(local: str) -> tuple[Any, dict[str, Any]]:
    """The table of a file, and what the file says of itself."""
    ending = os.path.splitext(local)[1].lower()
    if ending == ".parquet":
        parquet = _arguments.package("pyarrow.parquet", "a table in Parquet")
        table = parquet.read_table(local, memory_map=False)
        metadata = dict(table.schema.metadata or {})
        about = json.loads(metadata.pop(_MARK, b"{}"))
        return table.replace_schema_metadata(metadata or None), about
    if ending == ".csv":
        return _csv.texts(local), {}
    with open(local, encoding="utf-8") as file:
        held = json.load(file)
    about = held if held.get("format") == _FORMAT["format"] else {}
    return _tables.of_json(held), about


class _Readable:
    """What goes wrong inside is because this file is no table."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        wrong = (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError)
        if isinstance(error, wrong) and not isinstance(error, MlplatError):
            raise ArrowError(f"{self._path} is no table: {error}") from None


def _forked() -> None:
    """The files of the parent are not this process's to fill."""
    global _writer
    _open.clear()
    _writer = os.urandom(4).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
