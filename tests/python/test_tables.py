"""Tables in and out: every kind of table, every kind of value, nothing lost on the way."""

from __future__ import annotations

import math
import sys
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import mlplat
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from mlplat import Table, _arguments, _native
from mlplat.features import OnDemandFeatureView

UTC = timezone.utc


def table_of(value: object) -> Table:
    return Table(_native.from_arrow(_arguments.table(value, "the table")))


VALUES = {
    "b": [True, None],
    "i": [1, None],
    "f": [1.5, None],
    "s": ["ä", None],
    "raw": [b"\x00", None],
    "utc": [datetime(2013, 1, 1, 12, tzinfo=UTC), None],
    "plain": [datetime(2013, 1, 1, 12, 0, 0, 1), None],
    "day": [date(1969, 12, 31), None],
    "span": [timedelta(days=-1, microseconds=3), None],
    "nothing": [None, None],
}


def test_a_dict_of_columns_becomes_a_table_and_back():
    table = table_of(VALUES)
    assert table.schema == {
        "b": "Boolean",
        "i": "Int64",
        "f": "Float64",
        "s": "Utf8",
        "raw": "Binary",
        "utc": 'Timestamp(µs, "UTC")',
        "plain": "Timestamp(µs)",
        "day": "Date32",
        "span": "Duration(µs)",
        "nothing": "Null",
    }
    assert table.to_dicts() == [{name: values[at] for name, values in VALUES.items()} for at in range(2)]
    assert table.to_arrow().to_pylist() == table.to_dicts()
    assert list(table) == table.to_dicts()
    assert len(table) == table.num_rows == 2


def test_other_dicts_become_tables():
    assert table_of([{"a": 1, "b": "x"}, {"a": 2, "b": None}]).to_dicts() == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": None},
    ]
    mixed = table_of(
        {"a": [1, 2.5], "n": np.array([1, 2], dtype="int32"), "p": pl.Series([3, 4]), "q": pa.array([5, 6])}
    )
    assert mixed.to_dicts() == [{"a": 1.0, "n": 1, "p": 3, "q": 5}, {"a": 2.5, "n": 2, "p": 4, "q": 6}]
    times = table_of({"t": np.array(["2013-01-01T00:00:00.000000001"], dtype="datetime64[ns]")})
    assert times.schema == {"t": "Timestamp(ns)"}
    zone = table_of({"t": [datetime(2013, 7, 1, 8, tzinfo=ZoneInfo("America/New_York"))]})
    assert zone.schema == {"t": 'Timestamp(µs, "America/New_York")'}
    assert zone.to_dicts()[0]["t"] == datetime(2013, 7, 1, 12, tzinfo=UTC)
    assert table_of({"big": [2**63, 1]}).to_dicts() == [{"big": 2**63}, {"big": 1}]


@pytest.mark.parametrize(
    "make",
    [
        lambda table: table,
        lambda table: table.to_batches()[0],
        lambda table: table.to_reader(),
        pl.from_arrow,
        lambda table: pl.DataFrame(table).lazy(),
        lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    ],
    ids=[
        "pyarrow.Table",
        "pyarrow.RecordBatch",
        "pyarrow.RecordBatchReader",
        "polars",
        "lazy polars",
        "pandas",
    ],
)
def test_tables_of_all_libraries_are_understood(make):
    source = pa.table({"k": ["a", None], "t": pa.array([1, 2], pa.timestamp("us", "UTC")), "x": [1.5, None]})
    assert table_of(make(source)).to_dicts() == source.to_pylist()


def test_the_index_of_pandas_is_no_column():
    frame = pd.DataFrame({"a": [1, 2, 3]}).query("a > 1")
    assert table_of(frame).to_dicts() == [{"a": 2}, {"a": 3}]


def test_duckdb_reads_and_gives_tables():
    duckdb = pytest.importorskip("duckdb")
    table = table_of({"a": [1, 2, 3]})
    connection = duckdb.connect()
    connection.register("numbers", table)
    assert connection.sql("SELECT sum(a) FROM numbers").fetchall() == [(6,)]
    relation = duckdb.sql("SELECT 1 AS one, 'x' AS text")
    assert table_of(relation).to_dicts() == [{"one": 1, "text": "x"}]


def test_nothing_is_copied_on_the_way_to_pyarrow_and_polars():
    column = pa.array(np.arange(1000.0))
    table = table_of(pa.table({"x": column}))
    given = table.to_arrow()["x"].chunk(0)
    assert given.buffers()[1].address == column.buffers()[1].address
    assert table.to_polars()["x"].to_list() == column.to_pylist()


def test_null_stays_null_in_all_libraries():
    table = table_of({"i": [2**53 + 1, None], "f": [math.nan, None], "b": [True, None], "s": ["x", None]})
    frame = table.to_pandas()
    assert frame.dtypes.astype(str).to_dict() | {"s": ""} == {
        "i": "Int64",
        "f": "float64",
        "b": "boolean",
        "s": "",
    }
    assert frame["i"][0] == 2**53 + 1
    assert frame.iloc[1].isna().all()
    assert table.to_polars()["f"].is_null().to_list() == [False, True]
    arrow = table.to_pandas(dtype_backend="pyarrow")
    assert str(arrow.dtypes["i"]) == "int64[pyarrow]"
    assert arrow["i"].isna().tolist() == [False, True]
    full = table_of({"i": [1, 2], "b": [True, False]}).to_pandas()
    assert full.dtypes.astype(str).to_dict() == {"i": "int64", "b": "bool"}


def test_all_arrow_types_become_python_objects():
    arrays = {
        "dictionary": pa.array(["a", "b", None]).dictionary_encode(),
        "large": pa.array(["a", None, "c"], pa.large_string()),
        "view": pa.array(["a", None, "c"], pa.string_view()),
        "list": pa.array([[1, None], None, []]),
        "struct": pa.array([{"x": 1}, None, {"x": None}]),
        "decimal": pa.array([Decimal("1.50"), None, Decimal("-0.25")]),
        "half": pa.array([np.float16(0.5), None, np.float16(1)]),
        "u8": pa.array([255, None, 0], pa.uint8()),
        "ns": pa.array([1_000, None, -1_000], pa.timestamp("ns")),
        "ms": pa.array([1, None, -1], pa.timestamp("ms", "Europe/Berlin")),
        "date64": pa.array([date(2020, 1, 1), None, date(1960, 1, 1)], pa.date64()),
        "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    }
    source = pa.table(arrays)
    assert table_of(source).to_dicts() == source.to_pylist()


def test_tables_are_shown_short():
    table = table_of({"number": list(range(100)), "text": ["x" * 100] * 100})
    text = repr(table)
    assert text.startswith("<Table: 100 rows, 2 columns>")
    assert len(text.splitlines()) == 13
    assert "…" in text
    assert "<script>" not in table_of({"a": ["<script>"]})._repr_html_()


def test_wide_tables_are_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "50")
    text = repr(table_of({f"column{at}": [at] for at in range(20)}))
    assert all(len(line) <= 50 for line in text.splitlines()[:3])
    assert "and 15 more columns: column5, column6" in text


@pytest.mark.parametrize("name", ["pyarrow", "polars", "pandas"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, name, None)
    table = table_of({"a": [1]})
    convert = {"pyarrow": table.to_arrow, "polars": table.to_polars, "pandas": table.to_pandas}[name]
    with pytest.raises(mlplat.MissingPackageError, match=f"pip install {name}"):
        convert()


def test_request_columns_take_python_types():
    view = OnDemandFeatureView(
        "v", features={"a": "x + 1"}, request_columns={"x": float, "y": "Timestamp(µs)", "z": str}
    )
    assert view.request_columns == {"x": "Float64", "y": "Timestamp(µs)", "z": "Utf8"}
