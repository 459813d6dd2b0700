"""Tables in CSV, which has no types: an empty cell is null, and an empty text is a pair of quotes.

Infinities are `inf` and `-inf`, and NaN is `NaN`, as polars, pyarrow and pandas take them for numbers.
Python's `csv` writes null and the empty text alike before 3.12, so cells are written here; pyarrow reads them, and polars does as well.
"""

from __future__ import annotations

import csv
import json

from .. import _arguments, _native
from .._table import Table
from ._text import utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

_QUOTED = frozenset('",\r\n')


def encoded(table: dict[str, Any]) -> bytes:
    """The content of a file."""
    rows = [table["columns"], *table["data"]]
    return utf8("".join(",".join(map(_cell, row)) + "\r\n" for row in rows))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value != value:
        return "NaN"
    text = json.dumps(value) if isinstance(value, (list, dict)) else str(value)
    if text and _QUOTED.isdisjoint(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def table(file: str | BinaryIO) -> Table:
    """The table of a file, with the types that its cells look like."""
    return Table(_native.from_arrow(_read(file)))


def texts(path: str) -> dict[str, Any]:
    """Its columns and rows, with every cell as it is written."""
    with open(path, encoding="utf-8", newline="") as file:
        names = next(csv.reader(file))
    read = _read(path, names)
    columns = [column.to_pylist() for column in read.columns]
    return {"columns": names, "data": [list(row) for row in zip(*columns, strict=True)]}


def _read(file: str | BinaryIO, as_texts: list[str] | None = None) -> Any:
    reader = _arguments.package("pyarrow.csv", "a table in CSV")
    pyarrow = _arguments.package("pyarrow", "a table in CSV")
    types = {} if as_texts is None else dict.fromkeys(as_texts, pyarrow.string())
    # Texts like NA and null are texts, and a row of one empty cell is a row.
    return reader.read_csv(
        file,
        parse_options=reader.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=reader.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
