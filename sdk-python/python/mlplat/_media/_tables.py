"""The forms of tables: what is given, what is in a file, and what is given back. `_table_files.py` names and joins the files.

JSON files have the form {"columns": […], "data": [[…], …]}, which pandas reads with `orient="split"`. Parquet keeps all types.
"""

from __future__ import annotations

import json

from .. import _arguments, _native
from .._errors import MisuseError, WrongTypeError
from .._table import Table
from ._text import plain, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_CELLS = 50_000_000


def arrow(data: object) -> Any:
    """Any table as pyarrow's."""
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


def split_form(data: Any) -> dict[str, list[Any]]:
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


def joined(parts: list[Any]) -> Any:
    """Tables of one form as one, with all their columns."""
    if len(parts) == 1:
        return parts[0]
    if not isinstance(parts[0], dict):
        pyarrow = _arguments.package("pyarrow", "a table in Parquet")
        try:
            return pyarrow.concat_tables(parts, promote_options="permissive")
        except (ValueError, TypeError) as error:
            raise MisuseError(f"the rows do not fit those logged before: {error}") from None
    columns = list(dict.fromkeys(name for part in parts for name in part["columns"]))
    rows: list[list[Any]] = []
    for part in parts:
        if part["columns"] == columns:
            rows += part["data"]
            continue
        places = {name: at for at, name in enumerate(part["columns"])}
        at = [places.get(name) for name in columns]
        rows += [[None if i is None else row[i] for i in at] for row in part["data"]]
    return {"columns": columns, "data": rows}


def encoded(table: Any, ending: str) -> bytes:
    """The content of a file with this ending."""
    import io

    if ending == ".parquet":
        parquet = _arguments.package("pyarrow.parquet", "a table in Parquet")
        file = io.BytesIO()
        parquet.write_table(table, file, compression="zstd")
        return file.getvalue()
    if ending == ".csv":
        from . import _csv

        return _csv.encoded(table)
    return utf8(json.dumps(table, ensure_ascii=False, separators=(",", ":")))


def stacked(tables: list[Table]) -> Table:
    """Tables of several runs as one; what one of them does not have is null in its rows."""
    if len(tables) == 1:
        return tables[0]
    if not tables:
        return of_split_form({"columns": [], "data": []})
    return of_split_form(joined([split_form(table) for table in tables]))


def of_split_form(held: dict[str, Any]) -> Table:
    """The table of columns and rows."""
    columns, rows = held["columns"], held["data"]
    cells = [[row[at] for row in rows] for at in range(len(columns))]
    pairs = zip(columns, cells, strict=True)
    return Table(_native.from_columns([(str(name), _uniform(column)) for name, column in pairs]))


def _uniform(cells: list[Any]) -> list[Any]:
    """A column of one type: JSON lets a column mix them, tables do not."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    if kinds <= {int} or kinds <= {float} or kinds <= {str} or kinds <= {bool}:
        return cells
    return [cell if cell is None or isinstance(cell, str) else json.dumps(cell) for cell in cells]
