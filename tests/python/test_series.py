"""`log_series`: columns of all kinds, and what is refused of them."""

from __future__ import annotations

from datetime import datetime

import mlplat
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest


@pytest.mark.usefixtures("project")
def test_series():
    steps = np.arange(200_000)
    values = np.sin(steps / 100)
    times = (np.datetime64("2024-01-01T00:00:00", "us") + steps).astype("datetime64[us]")
    with mlplat.start_run("e") as run:
        run.log_series("numpy", steps, values, times)
        run.log_series("float32", steps[::2], values[:100_000].astype("float32"))
        run.log_series("arrow", pa.array([3, 1]), pa.chunked_array([[1.5], [None]]))
        run.log_series("polars", pl.Series([1, 2]), pl.Series([1.0, 2.0]))
        run.log_series("list", [5, 6], [1, 2.5], ["2024-01-01", "2024-01-02"])
        mlplat.log_series("counted", None, [1.0, 2.0, 3.0])
        run.log_series("none", [], [])
        for bad in (lambda: run.log_series("m", [1], [1.0, 2.0]), lambda: run.log_series("a`b", [1], [1.0])):
            with pytest.raises(mlplat.MlplatError):
                bad()
        for bad in ("text", ["x"], np.zeros((2, 2)), 3):
            with pytest.raises(mlplat.MlplatError):
                run.log_series("m", None, bad)
        with pytest.raises(mlplat.MisuseError):
            run.log_series("m", [0.5], [1.0])
    again = mlplat.get_run(run.id)
    history = again.metric_history("numpy").to_arrow()
    assert history["step"].to_numpy().tolist() == steps.tolist()
    assert (history["value"].to_numpy() == values).all()
    assert (history["timestamp"].to_numpy().astype("datetime64[us]") == times).all()
    assert again.metric_history("float32").num_rows == 100_000
    arrow = again.metric_history("arrow").to_dicts()
    assert [row["step"] for row in arrow] == [1, 3]
    assert np.isnan(arrow[0]["value"])
    assert again.metrics["polars"] == 2.0
    assert again.metric_history("list").to_dicts()[1]["timestamp"].isoformat() == "2024-01-02T00:00:00+00:00"
    assert again.metric_history("counted").to_arrow()["step"].to_pylist() == [0, 1, 2]
    assert "m" not in again.metrics


DAY = "2024-01-01"
TIMES = {
    "numpy": np.array([DAY], "M8[ns]"),
    "index": pd.to_datetime([DAY]),
    "series": pd.Series(pd.to_datetime([DAY])),
    "zone": pd.Series(pd.to_datetime([DAY]).tz_localize("Europe/Berlin").tz_convert("UTC")),
    "objects": pd.Series([datetime(2024, 1, 1)], dtype=object),
    "texts": pd.Series([DAY]),
    "pyarrow": pa.array([datetime(2024, 1, 1)], pa.timestamp("s")),
    "chunked": pa.chunked_array([pa.array([datetime(2024, 1, 1)], pa.timestamp("ns", "UTC"))]),
    "pandas_arrow": pd.Series(pa.array([datetime(2024, 1, 1)], pa.timestamp("ns")), dtype="timestamp[ns][pyarrow]"),
    "polars": pl.Series([datetime(2024, 1, 1)]),
}  # fmt: skip
NO_TIMES = {
    "numpy": np.array([DAY, "NaT"], "M8[ns]"),
    "index": pd.to_datetime([DAY, None]),
    "series": pd.Series(pd.to_datetime([DAY, None])),
    "objects": pd.Series([datetime(2024, 1, 1), pd.NaT], dtype=object),
    "pyarrow": pa.array([1, None], pa.timestamp("us")),
    "pandas_arrow": pd.Series(pa.array([1, None], pa.timestamp("us")), dtype="timestamp[us][pyarrow]"),
    "polars": pl.Series([datetime(2024, 1, 1), None]),
    "list": [datetime(2024, 1, 1), pd.NaT],
    "far": np.array([DAY, "20000-01-01"], "M8[D]"),
    "columns": np.array([[DAY, DAY]], "M8[us]"),
    "integers": np.array([1, 2]),
    "pandas_integers": pd.Series([1, 2]),
    "pyarrow_integers": pa.array([1, 2]),
    "polars_dates": pl.Series([datetime(2024, 1, 1).date()] * 2),
    "polars_times": pl.Series([datetime(2024, 1, 1).time()] * 2),
}
NO_STEPS = {
    "numpy": np.array([1, 2**63], "u8"),
    "pandas": pd.Series([1, 2**63], dtype="UInt64"),
    "pyarrow": pa.array([1, 2**63], pa.uint64()),
    "chunked": pa.chunked_array([pa.array([1, 2**63], pa.uint64())]),
    "polars": pl.Series([1, 2**63], dtype=pl.UInt64),
    "pandas_arrow": pd.Series([1, 2**63], dtype="uint64[pyarrow]"),
    "list": [1, 2**63],
    "fractions": np.array([1, 0.5], dtype=object),
    "pyarrow_fractions": pa.array([1, 0.5]),
    "polars_fractions": pl.Series([1, 0.5], dtype=pl.Float32),
    "duration": np.array([1, 2], "m8[s]"),
    "text": np.array(["1", "2"]),
}


@pytest.mark.usefixtures("project")
def test_series_take_times_of_all_kinds():
    with mlplat.start_run("e") as run:
        for key, times in TIMES.items():
            run.log_series(key, np.array([1], "u8"), [1.0], times)
    again = mlplat.get_run(run.id)
    found = {key: again.metric_history(key).to_dicts()[0]["timestamp"].isoformat() for key in TIMES}
    assert found == dict.fromkeys(TIMES, "2024-01-01T00:00:00+00:00") | {"zone": "2023-12-31T23:00:00+00:00"}


@pytest.mark.usefixtures("project")
def test_series_refuse_what_would_become_another_number():
    with mlplat.start_run("e") as run:
        for key, times in NO_TIMES.items():
            with pytest.raises(mlplat.MisuseError, match="timestamps"):
                run.log_series(f"times/{key}", [1, 2], [1.0, 2.0], times)
        for key, steps in NO_STEPS.items():
            with pytest.raises(mlplat.MisuseError, match="steps"):
                run.log_series(f"steps/{key}", steps, [1.0, 2.0])
        for key, times in TIMES.items():
            with pytest.raises(mlplat.MisuseError, match="steps"):
                run.log_series(f"steps/times/{key}", times, [1.0])
            with pytest.raises(mlplat.MisuseError, match="values"):
                run.log_series(f"values/times/{key}", None, times)
        with pytest.raises(mlplat.MisuseError, match="values are complex128"):
            run.log_series("values", None, np.array([1j]))
        with pytest.raises(mlplat.MisuseError, match="steps go up to 9223372036854775808"):
            run.log_series("steps", NO_STEPS["pyarrow"], [1.0, 2.0])
    assert mlplat.get_run(run.id).metrics == {}


@pytest.mark.usefixtures("project")
def test_series_take_nothing_from_below_a_mask():
    mask = [False, True]
    days = np.array(["2024-01-01", "2024-01-02"], "M8[s]")
    with mlplat.start_run("e") as run:
        run.log_series("whole", None, np.ma.array([1, 999], mask=mask))
        run.log_series("floats", [1, 2], np.ma.array([1.0, 999.0], "f4", mask=mask))
        run.log_series("objects", None, np.ma.array([1.0, 999.0], object, mask=mask))
        run.log_series("open", np.ma.array([3, 4]), np.ma.array([1.0, 2.0]), np.ma.array(days))
        for dtype in ("i8", "u8", object):
            with pytest.raises(mlplat.MisuseError, match="steps are masked at 1 places"):
                run.log_series("bad", np.ma.array([1, 2], dtype, mask=mask), [1.0, 2.0])
        for dtype in ("M8[s]", object):
            with pytest.raises(mlplat.MisuseError, match="timestamps are masked at 1 places"):
                run.log_series("bad", [1, 2], [1.0, 2.0], np.ma.array(days.astype(dtype), mask=mask))
    again = mlplat.get_run(run.id)
    for key in ("whole", "floats", "objects"):
        first, second = again.metric_history(key).to_arrow()["value"].to_pylist()
        assert first == 1.0
        assert np.isnan(second)
    assert again.metric_history("open").to_arrow()["step"].to_pylist() == [3, 4]
    assert "bad" not in again.metrics
