"""Tables on their way into a run and back.

JSON files have the form {"columns": […], "data": [[…], …]}, which pandas reads with `orient="split"`. Parquet keeps all types.
"""

from __future__ import annotations

import json
import os
import time

from .. import _arguments, _native
from .._errors import ArrowError, MisuseError, MlplatError, NotFoundError, WrongTypeError
from .._scratch import Scratch
from .._table import Table
from . import _names
from ._text import plain, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._active import ActiveRunBase
    from .._spool import Item

ENDINGS = frozenset({".json", ".parquet", ".csv"})
_MAX_CELLS = 50_000_000
_MAX_KEPT = 32 << 20
"""Bytes of a file whose rows are kept in memory for those to come."""

_written: dict[tuple[str, str], Any] = {}
"""What the tables of each run under way hold so far, so that the next rows can be added."""
_large: set[tuple[str, str]] = set()
"""Tables that are too large for that."""


def table_items(run: ActiveRunBase, data: object, artifact_file: str, append: bool) -> list[Item]:
    """The file of `log_table`: all rows logged under this name, or the new ones alone. One call at a time."""
    path = _names.single(artifact_file, "tables", ENDINGS, ".json")
    ending = _names.split(path, ENDINGS)[1]
    fresh = _arrow(data) if ending == ".parquet" else _split_form(data)
    before = _written.get((run.id, path)) if append else None
    elsewhere = before is None and append and (not run._fresh or (run.id, path) in _large)
    if elsewhere:
        before, path = _of_earlier_process(run, path, ending)
    whole = fresh if before is None else _joined(before, fresh)
    content = _encoded(whole, ending)
    if len(content) <= _MAX_KEPT:
        _written[run.id, path] = whole
    else:
        # Memory is the training's; where rows are added, the table is read back.
        _written.pop((run.id, path), None)
        _large.add((run.id, path))
    return [(content, path)]


def forget(run_id: str) -> None:
    """A run has ended: nothing is added to its tables any more."""
    for held in [held for held in list(_written) if held[0] == run_id]:
        _written.pop(held, None)
    _large.difference_update([held for held in list(_large) if held[0] == run_id])


def _of_earlier_process(run: ActiveRunBase, path: str, ending: str) -> tuple[Any, str]:
    """The rows that another process logged to this table of the run. Where they cannot be read, they are left alone."""
    try:
        table = table_call(run._client, run.id, path).wait()
    except NotFoundError:
        return None, path
    except MlplatError:
        stem = path[: -len(ending)]
        return None, f"{stem}-{time.time_ns() // 1_000_000}{ending}"
    if ending == ".parquet":
        return _arguments.package("pyarrow", "a table in Parquet").table(table), path
    return _split_form(table), path


def _arrow(data: object) -> Any:
    pyarrow = _arguments.package("pyarrow", "a table in Parquet")
    if hasattr(data, "get_dataframe"):
        data = data.get_dataframe()  # pyright: ignore  # wandb.Table
    return pyarrow.table(_arguments.table(_wrapped(data), "data"))


def _wrapped(data: object) -> object:
    """A dict of single values is a table of one row, as with MLflow."""
    if isinstance(data, dict) and data:
        lists = [
            hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) for value in data.values()
        ]
        if not any(lists):
            return {key: [value] for key, value in data.items()}
    return data


def _split_form(data: Any) -> dict[str, list[Any]]:
    """Columns and rows of any table."""
    data = _wrapped(data)
    if hasattr(data, "get_dataframe"):
        data = data.get_dataframe()
    if isinstance(data, dict):
        columns = [_arguments.text(name, "a column of data") for name in data]
        cells = [_cells(name, column) for name, column in data.items()]
        if len({len(column) for column in cells}) > 1:
            sizes = ", ".join(f"{name}: {len(column)}" for name, column in zip(columns, cells, strict=True))
            raise MisuseError(f"the columns of data have different lengths ({sizes})")
        rows = [list(row) for row in zip(*cells, strict=True)]
    elif isinstance(data, (list, tuple)):
        columns, rows = _arguments.rows(data, "data")
    elif hasattr(data, "columns") and hasattr(data, "itertuples"):
        # pandas
        columns = [str(name) for name in data.columns]
        rows = [list(row) for row in data.itertuples(index=False, name=None)]
    elif hasattr(data, "__arrow_c_stream__") or hasattr(data, "collect_schema"):
        batches = _native.from_arrow(_arguments.table(data, "data"))
        columns = [name for name, _ in batches.columns]
        rows = [[row[name] for name in columns] for row in batches.to_dicts()]
    else:
        raise WrongTypeError(
            f"data is a {type(data).__name__}; give a dict of columns, a list of dicts, or a table of pandas, polars or pyarrow"
        )
    if len(rows) * len(columns) > _MAX_CELLS:
        raise MisuseError(f"a table of {len(rows)} x {len(columns)} cells; log it as .parquet")
    return {"columns": columns, "data": [[_cell(value) for value in row] for row in rows]}


def _cells(name: object, column: Any) -> list[Any]:
    if hasattr(column, "tolist"):
        return column.tolist() if not hasattr(column, "detach") else column.detach().cpu().tolist()
    if isinstance(column, (str, bytes)) or not hasattr(column, "__iter__"):
        raise WrongTypeError(f"column `{name}` of data is a {type(column).__name__}; give a list of values")
    return list(column)


def _cell(value: Any) -> Any:
    # The missing values of pandas are objects of their own, and equal to nothing.
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return plain(value)


def _joined(before: Any, fresh: Any) -> Any:
    if not isinstance(before, dict):
        pyarrow = _arguments.package("pyarrow", "a table in Parquet")
        try:
            return pyarrow.concat_tables([before, fresh], promote_options="permissive")
        except (ValueError, TypeError) as error:
            raise MisuseError(f"the rows do not fit those logged before: {error}") from None
    columns = list(dict.fromkeys([*before["columns"], *fresh["columns"]]))
    if columns == before["columns"] == fresh["columns"]:
        return {"columns": columns, "data": before["data"] + fresh["data"]}
    rows: list[list[Any]] = []
    for part in (before, fresh):
        at = [part["columns"].index(name) if name in part["columns"] else None for name in columns]
        rows += [[None if i is None else row[i] for i in at] for row in part["data"]]
    return {"columns": columns, "data": rows}


def _encoded(table: Any, ending: str) -> bytes:
    import io

    if ending == ".parquet":
        parquet = _arguments.package("pyarrow.parquet", "a table in Parquet")
        file = io.BytesIO()
        parquet.write_table(table, file, compression="zstd")
        return file.getvalue()
    if ending == ".csv":
        import csv

        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(table["columns"])
        writer.writerows(
            [json.dumps(cell) if isinstance(cell, (list, dict)) else cell for cell in row]
            for row in table["data"]
        )
        return utf8(text.getvalue())
    return utf8(json.dumps(table, ensure_ascii=False, separators=(",", ":")))


def table_call(client: _native.Client, run_id: str, artifact_file: str) -> _native.Call[Table]:
    """A table of a run, as it was logged."""
    path = _names.single(artifact_file, "tables", ENDINGS, ".json")
    scratch = Scratch()

    def read(local: str) -> Table:
        with scratch:
            return _read(local, path)

    return _native.download_artifact(client, run_id, path, scratch.path).then(read)


def stacked(tables: list[Table]) -> Table:
    """Tables of several runs as one; what one of them does not have is null in its rows."""
    if len(tables) == 1:
        return tables[0]
    parts = [_split_form(table) for table in tables]
    whole: dict[str, list[Any]] = {"columns": [], "data": []}
    for part in parts:
        whole = _joined(whole, part)
    return _of_split_form(whole)


def _of_split_form(held: dict[str, Any]) -> Table:
    columns, rows = held["columns"], held["data"]
    cells = [[row[at] for row in rows] for at in range(len(columns))]
    pairs = zip(columns, cells, strict=True)
    return Table(_native.from_columns([(str(name), _uniform(column)) for name, column in pairs]))


def _read(local: str, path: str) -> Table:
    ending = os.path.splitext(path)[1].lower()
    try:
        if ending == ".parquet":
            parquet = _arguments.package("pyarrow.parquet", "a table in Parquet")
            return Table(_native.from_arrow(parquet.read_table(local, memory_map=False)))
        if ending == ".csv":
            reader = _arguments.package("pyarrow.csv", "a table in CSV")
            return Table(_native.from_arrow(reader.read_csv(local)))
        with open(local, encoding="utf-8") as file:
            return _of_split_form(json.load(file))
    except MlplatError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise ArrowError(f"{path} is no table: {error}") from None


def _uniform(cells: list[Any]) -> list[Any]:
    """A column of one type: JSON lets a column mix them, tables do not."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    if kinds <= {int} or kinds <= {float} or kinds <= {str} or kinds <= {bool}:
        return cells
    return [cell if cell is None or isinstance(cell, str) else json.dumps(cell) for cell in cells]
