"""Tables: results that speak Arrow and become pandas, polars or pyarrow when asked to."""

from __future__ import annotations

from . import _arguments, _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Literal

    import pandas
    import polars
    import pyarrow

_SHOWN_ROWS = 10
_CELL_WIDTH = 40


class Table:
    """A table that never changes.

    It speaks the Arrow PyCapsule interface, so pyarrow, polars, pandas, duckdb and others take it as it is, without a
    copy. None of them is imported before it is asked for.
    """

    __slots__ = ("_batches",)

    def __init__(self, batches: _native.Batches) -> None:
        self._batches = batches

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._batches.num_rows

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return [name for name, _ in self._batches.columns]

    @property
    def schema(self) -> dict[str, str]:
        """Names of the columns with their Arrow types."""
        return dict(self._batches.columns)

    def to_arrow(self) -> pyarrow.Table:
        """A `pyarrow.Table`, without a copy."""
        return _arguments.package("pyarrow", "to_arrow()").table(self)

    def to_polars(self) -> polars.DataFrame:
        """A `polars.DataFrame`, without a copy."""
        return _arguments.package("polars", "to_polars()").DataFrame(self)

    def to_pandas(self, *, dtype_backend: Literal["numpy", "pyarrow"] = "numpy") -> pandas.DataFrame:
        """A `pandas.DataFrame`.

        With numpy, null is what pandas has for it: NaN in floats, NaT in times, NA in integers and booleans (which
        become `Int64`, `boolean` and their like where there are nulls). With `dtype_backend="pyarrow"` nothing is
        copied or converted.
        """
        pandas = _arguments.package("pandas", "to_pandas()")
        _arguments.package("pyarrow", "to_pandas()")
        table = self.to_arrow()
        if dtype_backend == "pyarrow":
            return table.to_pandas(types_mapper=pandas.ArrowDtype)
        frame = table.to_pandas(split_blocks=True)
        nullable = {
            "bool": pandas.BooleanDtype(),
            "int8": pandas.Int8Dtype(),
            "int16": pandas.Int16Dtype(),
            "int32": pandas.Int32Dtype(),
            "int64": pandas.Int64Dtype(),
            "uint8": pandas.UInt8Dtype(),
            "uint16": pandas.UInt16Dtype(),
            "uint32": pandas.UInt32Dtype(),
            "uint64": pandas.UInt64Dtype(),
        }
        for at, field in enumerate(table.schema):
            column = table.column(at)
            # numpy would make floats of these, and round large integers.
            dtype = nullable.get(str(field.type)) if column.null_count else None
            if dtype is not None:
                frame.isetitem(at, column.to_pandas(types_mapper={field.type: dtype}.get))
        return frame

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dicts of Python objects; null is None."""
        return self._batches.to_dicts()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule interface."""
        return self._batches.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """The Arrow PyCapsule interface."""
        return self._batches.__arrow_c_schema__()

    def __len__(self) -> int:
        return self._batches.num_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_dicts())

    def __repr__(self) -> str:
        names = self.column_names
        rows = [[_short(cell) for cell in row] for row in self._batches.to_texts(_SHOWN_ROWS)]
        widths = [max([len(name), *(len(row[at]) for row in rows)]) for at, name in enumerate(names)]
        shown = _fitting(widths, _terminal_width())
        lines = [
            "  ".join(row[at].ljust(widths[at]) for at in range(shown)).rstrip() for row in (names, *rows)
        ]
        if shown < len(names):
            lines.append(f"and {len(names) - shown} more columns: {', '.join(names[shown:])}")
        if len(self) > len(rows):
            lines.append("…")
        return "\n".join([f"<{self._title()}>", *lines])

    def _repr_html_(self) -> str:
        import html

        cells = self._batches.to_texts(_SHOWN_ROWS)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.column_names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_short(cell))}</td>" for cell in row) + "</tr>"
            for row in cells
        )
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<small>{html.escape(self._title())}</small>"
        )

    def _title(self) -> str:
        return f"{type(self).__name__}: {len(self)} rows, {len(self.column_names)} columns"


class TrainingSet(Table):
    """Entity rows with their features, as they were known at the time of each row."""

    __slots__ = ("_retrieved",)

    def __init__(self, retrieved: _native.Retrieved) -> None:
        super().__init__(retrieved.table)
        self._retrieved = retrieved

    @property
    def name(self) -> str:
        """Name of the training set in the lineage."""
        return self._retrieved.name

    @property
    def retrieval_id(self) -> str:
        """Id of the retrieval, a UUIDv7; also its OpenLineage runId."""
        return self._retrieved.retrieval_id

    @property
    def snapshots(self) -> _native.Snapshots:
        """What the sources were when they were read; `historical(…, snapshots=…)` reads the same again."""
        return self._retrieved.snapshots

    def _title(self) -> str:
        return f"TrainingSet {self.name}: {len(self)} rows, {len(self.column_names)} columns"


class OnlineFeatures(Table):
    """The rows of an online request with their features."""

    __slots__ = ("_answer",)

    def __init__(self, answer: _native.OnlineAnswer) -> None:
        super().__init__(answer.table)
        self._answer = answer

    @property
    def statuses(self) -> list[dict[str, str]]:
        """Why each value is what it is, one dict per row: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE."""
        return self._answer.statuses


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((120, 24)).columns


def _fitting(widths: list[int], width: int) -> int:
    """How many columns fit beside each other; at least one."""
    used = 0
    for at, column in enumerate(widths):
        used += column + 2
        if used - 2 > width and at > 0:
            return at
    return len(widths)


def _short(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= _CELL_WIDTH else text[: _CELL_WIDTH - 1] + "…"
