"""The forms of tables: what is given, what is in a file, and what is given back. `_table_files.py` names and joins the files.

JSON files have the form {"columns": […], "data": [[…], …]}, which pandas reads with `orient="split"`. Parquet keeps all types.

JSON has no NaN and no infinities: they are the texts "NaN", "Infinity" and "-Infinity" in a column of numbers, which pandas
takes for what they are too. A column of texts that looks like one is named under "texts" in the file.
"""

from __future__ import annotations

import json
import math

from .. import _arguments, _native
from .._errors import MisuseError, MlplatError, WrongTypeError
from .._table import Table
from ._text import plain, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_MAX_CELLS = 50_000_000
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def arrow(data: object) -> Any:
    """Any table as pyarrow's."""
    pyarrow = _arguments.package("pyarrow", "a table in Parquet")
    if hasattr(data, "get_dataframe"):
        data = data.get_dataframe()  # pyright: ignore  # wandb.Table
    try:
        table = pyarrow.table(_arguments.table(_wrapped(data), "data"))
    except MlplatError:
        raise
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise _no_parquet(error) from None
    # What polars gives fits to no rows of others.
    views = {"string_view": pyarrow.large_string(), "binary_view": pyarrow.large_binary()}
    for at, field in enumerate(table.schema):
        if str(field.type) in views:
            column = field.with_type(views[str(field.type)])
            table = table.set_column(at, column, table.column(at).cast(column.type))
    return table


def _no_parquet(error: Exception) -> MisuseError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MisuseError(
        f"data does not go into Parquet ({said}); make each column of one type, or log it as .json, which takes mixed ones"
    )


def _wrapped(data: object) -> object:
    """A dict of single values is a table of one row, as with MLflow; what a row of dicts lacks is null, as with pandas."""
    if isinstance(data, (list, tuple)) and all(isinstance(row, dict) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        if any(len(row) < len(names) for row in data):
            return [{name: row.get(name) for name in names} for row in data]
        return data
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
        rows = [_of_pandas(row) for row in data.itertuples(index=False, name=None)]
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
    if hasattr(column, "isna") and hasattr(column, "tolist"):
        return _of_pandas(column.tolist())
    if hasattr(column, "tolist"):
        return column.tolist() if not hasattr(column, "detach") else column.detach().cpu().tolist()
    if isinstance(column, (str, bytes)) or not hasattr(column, "__iter__"):
        raise WrongTypeError(f"column `{name}` of data is a {type(column).__name__}; give a list of values")
    return list(column)


def _of_pandas(cells: Any) -> list[Any]:
    """Cells where NaN is what pandas has for null."""
    return [None if isinstance(cell, float) and cell != cell else cell for cell in cells]


def _cell(value: Any) -> Any:
    # The missing values of pandas are objects of their own, and equal to nothing.
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return float(value) if isinstance(value, float) else plain(value)


def in_json(table: dict[str, Any]) -> dict[str, Any]:
    """Columns and rows as JSON has them."""
    texts: list[str] = []
    odd: set[int] = set()
    for at, name in enumerate(table["columns"]):
        if _looks_like_numbers(row[at] for row in table["data"]):
            texts.append(name)
        if any(isinstance(row[at], float) and not math.isfinite(row[at]) for row in table["data"]):
            odd.add(at)
    held = {"columns": table["columns"], "data": table["data"]}
    if odd:
        held["data"] = [
            [_text(cell) if at in odd else cell for at, cell in enumerate(row)] for row in held["data"]
        ]
    return {**held, "texts": texts} if texts else held


def of_json(held: dict[str, Any]) -> dict[str, Any]:
    """Columns and rows of what `in_json` made."""
    columns, rows, texts = held["columns"], held["data"], held.get("texts", ())
    odd = {
        at
        for at, name in enumerate(columns)
        if name not in texts and _looks_like_numbers(row[at] for row in rows)
    }
    if odd:
        rows = [[_number(cell) if at in odd else cell for at, cell in enumerate(row)] for row in rows]
    return {"columns": columns, "data": rows}


def _looks_like_numbers(cells: Iterable[Any]) -> bool:
    """Whether there are texts among these cells, all of them names of numbers that JSON does not have, and else numbers."""
    found = False
    for cell in cells:
        if isinstance(cell, str):
            if cell not in _NOT_FINITE:
                return False
            found = True
        elif cell is not None and type(cell) not in (int, float):
            return False
    return found


def _text(cell: Any) -> Any:
    if not isinstance(cell, float) or math.isfinite(cell):
        return cell
    return "NaN" if cell != cell else "Infinity" if cell > 0 else "-Infinity"


def _number(cell: Any) -> Any:
    return _NOT_FINITE[cell] if isinstance(cell, str) else cell


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
        try:
            parquet.write_table(table, file, compression="zstd")
        except (ValueError, TypeError, NotImplementedError) as error:
            raise _no_parquet(error) from None
        return file.getvalue()
    if ending == ".csv":
        from . import _csv

        return _csv.encoded(table)
    return utf8(json.dumps(in_json(table), ensure_ascii=False, separators=(",", ":")))


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


def _uniform(cells: list[Any]) -> Any:
    """A column of one type: JSON lets a column mix them, tables do not, and the cells of such a one become texts."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    if kinds <= {int} or kinds <= {float} or kinds <= {str} or kinds <= {bool}:
        return cells
    if kinds <= {list} or kinds <= {dict}:
        nested = _nested(cells)
        if nested is not None:
            return nested
    return [cell if cell is None or isinstance(cell, str) else json.dumps(cell) for cell in cells]


def _nested(cells: list[Any]) -> Any:
    """Lists or dicts as Arrow has them; None where that would make others of them, or pyarrow is missing."""
    try:
        import pyarrow

        column = pyarrow.array(cells)
    except (ImportError, ValueError, TypeError, OverflowError, NotImplementedError):
        return None
    return column if _same(column.to_pylist(), cells) else None


def _same(one: Any, other: Any) -> bool:
    """Equality that tells true from 1."""
    return json.dumps(one) == json.dumps(other)
