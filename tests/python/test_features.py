"""The feature store through the API: definitions, training sets, materialization, online features."""

from __future__ import annotations

import io
import sys
import time
import types
from datetime import datetime, timedelta, timezone
from pathlib import Path

import mlplat
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlplat import features
from mlplat.features import (
    Entity,
    FeatureService,
    FeatureView,
    OnDemandFeatureView,
    ParquetSource,
    SqlSource,
)

pytestmark = pytest.mark.usefixtures("project")


def at(hour: float, day: int = 1) -> datetime:
    return datetime(2013, 1, day, tzinfo=timezone.utc) + timedelta(hours=hour)


@pytest.fixture
def weather(tmp_path: Path) -> FeatureView:
    """Hourly weather at two airports, applied."""
    rows = {
        "origin": ["JFK", "JFK", "JFK", "LGA"],
        "time_hour": [at(1), at(2), at(3), at(1)],
        "temp": [39.0, None, 37.5, 40.0],
        "wind_speed": [10, 11, 12, 13],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "weather.parquet")
    origin = Entity("origin", join_keys=["origin"])
    view = FeatureView(
        "weather",
        entities=[origin],
        ttl=timedelta(hours=3),
        features=["temp", "wind_speed"],
        source=ParquetSource(tmp_path / "weather.parquet", timestamp="time_hour"),
    )
    features.apply([origin, view])
    return view


ENTITIES = {
    "origin": ["JFK", "LGA", "EWR", None, "JFK"],
    "event_timestamp": [at(1.5), at(4), at(1), at(1), at(2)],
    "label": ["a", "b", "c", "d", "e"],
}


def test_training_set(weather: FeatureView):
    train = features.historical(ENTITIES, ["weather:temp", "weather:wind_speed"])
    assert train.column_names == ["origin", "event_timestamp", "label", "temp", "wind_speed"]
    found = train.to_dicts()
    assert [row["label"] for row in found] == ["a", "b", "c", "d", "e"]
    assert [row["temp"] for row in found] == [39.0, 40.0, None, None, None]
    assert [row["wind_speed"] for row in found] == [10, 13, None, None, 11]
    assert train.name
    assert train.retrieval_id
    assert "weather" in repr(train.snapshots)
    assert train.name in repr(train)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "dicts", "lazy", "reader"])
def test_entity_tables_of_all_kinds(weather: FeatureView, kind: str):
    frame = pl.DataFrame(ENTITIES)
    table = {
        "pandas": lambda: frame.to_pandas(),
        "polars": lambda: frame,
        "pyarrow": lambda: frame.to_arrow(),
        "dicts": lambda: frame.to_dicts(),
        "lazy": lambda: frame.lazy(),
        "reader": lambda: frame.to_arrow().to_reader(max_chunksize=2),
    }[kind]()
    train = features.historical(table, ["weather:temp"], timestamp="event_timestamp")
    assert train.to_polars()["temp"].to_list() == [39.0, 40.0, None, None, None]
    assert train.to_polars()["label"].to_list() == ENTITIES["label"]


def test_input_columns_pass_unchanged(weather: FeatureView):
    times = pa.array([1_357_002_000_000_000_001], pa.timestamp("ns", "America/New_York"))
    table = pa.table(
        {
            "origin": pa.array(["JFK"]).dictionary_encode(),
            "event_timestamp": times,
            "list": pa.array([[1, 2]]),
            "half": pa.array([1.5], pa.float32()),
        }
    )
    train = features.historical(table, ["weather:temp"]).to_arrow()
    assert train.select(table.column_names).to_pylist() == table.to_pylist()
    assert [field.type for field in train.schema][1:4] == [field.type for field in table.schema][1:4]


def test_names_and_collisions(weather: FeatureView, tmp_path: Path):
    pl.DataFrame({"origin": ["JFK"], "temp": [1.0]}).write_parquet(tmp_path / "other.parquet")
    other = FeatureView("other", entities=["origin"], source=ParquetSource(tmp_path / "other.parquet"))
    features.apply(other)
    wanted = ["weather:temp", "other:temp"]
    with pytest.raises(mlplat.InvalidArgumentError, match="other"):
        features.historical(ENTITIES, wanted)
    train = features.historical(ENTITIES, wanted, full_names=True)
    assert train.column_names[3:] == ["weather__temp", "other__temp"]


def test_views_services_and_selections_are_features(weather: FeatureView):
    service = FeatureService("svc", [weather["temp"]])
    features.apply(service)
    for wanted in (
        weather,
        [weather],
        [weather[["temp", "wind_speed"]]],
        ["weather:temp", weather["wind_speed"]],
    ):
        assert features.historical(ENTITIES, wanted).column_names[3:] == ["temp", "wind_speed"]
    for wanted in (service, "svc", ["svc"], "weather:temp"):
        assert features.historical(ENTITIES, wanted).column_names[3:] == ["temp"]
    read_back = features.get_feature_view("weather")
    assert features.historical(ENTITIES, read_back).column_names[3:] == ["temp", "wind_speed"]
    # A view that does not list its features here has those that the server found.
    bare = FeatureView("weather", source="weather", entities=["origin"])
    assert features.historical(ENTITIES, bare).column_names[3:] == ["temp", "wind_speed"]


def test_a_view_under_other_keys(weather: FeatureView):
    table = {"from": ["JFK"], "to": ["LGA"], "event_timestamp": [at(1)]}
    origin = weather.with_join_keys({"origin": "from"}, name="origin")
    dest = weather.with_join_keys({"origin": "to"}, name="dest")
    train = features.historical(table, [origin["temp"], dest["temp"]], full_names=True)
    assert train.to_dicts()[0] | {"event_timestamp": None} == {
        "from": "JFK",
        "to": "LGA",
        "event_timestamp": None,
        "origin__temp": 39.0,
        "dest__temp": 40.0,
    }
    named = features.historical(table, ["dest:temp"], aliases=[dest])
    assert named.to_dicts()[0]["temp"] == 40.0


def test_known_at_and_created(tmp_path: Path):
    rows = {"k": [1, 1], "t": [at(1), at(1)], "c": [at(1), at(5)], "x": [1.0, 2.0]}
    pl.DataFrame(rows).write_parquet(tmp_path / "late.parquet")
    source = ParquetSource(tmp_path / "late.parquet", timestamp="t", created="c")
    features.apply(FeatureView("late", entities=[Entity("k")], source=source))
    table = {"k": [1, 1], "event_timestamp": [at(2), at(6)]}
    assert [r["x"] for r in features.historical(table, ["late:x"])] == [2.0, 2.0]
    assert [r["x"] for r in features.historical(table, ["late:x"], known_at="entity")] == [1.0, 2.0]


def test_window_and_sql_stand_in_for_entities(weather: FeatureView):
    window = features.historical(None, ["weather:temp"], start=at(2), end=at(3))
    assert sorted(window.to_polars()["temp"].to_list(), key=str) == [37.5, None]
    sql = "SELECT origin, time_hour AS event_timestamp FROM sources.weather WHERE origin = 'JFK' ORDER BY time_hour"
    train = features.historical(sql, ["weather:temp"])
    assert train.to_polars()["temp"].to_list() == [39.0, None, 37.5]


def test_snapshots_pin_the_files(weather: FeatureView, tmp_path: Path):
    first = features.historical(ENTITIES, ["weather:temp"])
    again = features.historical(ENTITIES, ["weather:temp"], snapshots=first.snapshots)
    assert again.to_arrow().equals(first.to_arrow())
    pl.DataFrame({"origin": ["JFK"], "time_hour": [at(1)], "temp": [0.0], "wind_speed": [0]}).write_parquet(
        tmp_path / "weather.parquet"
    )
    with pytest.raises(mlplat.FailedPreconditionError):
        features.historical(ENTITIES, ["weather:temp"], snapshots=first.snapshots)


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pl.DataFrame({"k": [1], "x": [5]}).write_parquet(tmp_path / "static.parquet")
    monkeypatch.chdir(tmp_path)
    source = ParquetSource("static.parquet")
    assert (source.path, source.name) == (str(tmp_path / "static.parquet"), "static")
    features.apply(FeatureView("v", entities=[Entity("k")], source=source))
    assert [r["x"] for r in features.historical({"k": [1, 2], "event_timestamp": [at(1)] * 2}, ["v:x"])] == [
        5,
        None,
    ]
    assert ParquetSource("s3://bucket/a.parquet").path == "s3://bucket/a.parquet"
    assert ParquetSource("data/*.parquet", name="all").path == str(tmp_path / "data" / "*.parquet")


def test_sql_sources_and_views_see_each_other(weather: FeatureView):
    busy = FeatureView(
        "busy",
        entities=["origin"],
        source=SqlSource(
            "SELECT origin, time_hour, wind_speed * 2 AS n FROM sources.weather", timestamp="time_hour"
        ),
    )
    assert busy.source_name == "busy"
    features.apply([busy])
    assert features.historical(ENTITIES, ["busy:n"]).to_polars()["n"].to_list() == [20, 26, None, None, 22]


def test_on_demand_features(weather: FeatureView):
    view = OnDemandFeatureView(
        "comfort",
        inputs=[weather["temp"]],
        request_columns={"shift": float},
        features={"shifted": "temp + shift"},
    )
    features.apply(view)
    table = {"origin": ["JFK"], "event_timestamp": [at(1)], "shift": [0.5]}
    train = features.historical(table, ["comfort:shifted"])
    assert train.to_dicts()[0]["shifted"] == 39.5
    with pytest.raises(mlplat.InvalidArgumentError, match="shift"):
        features.historical({"origin": ["JFK"], "event_timestamp": [at(1)]}, ["comfort:shifted"])
    features.materialize("weather", end=at(1))
    online = features.online([{"origin": "JFK", "shift": 0.5}], ["comfort:shifted"], at=at(1))
    assert online.to_dicts()[0]["shifted"] == 39.5


def test_apply_shows_the_diff(weather: FeatureView, capsys: pytest.CaptureFixture[str]):
    changed = FeatureView(
        "weather",
        entities=["origin"],
        ttl=timedelta(hours=1),
        features=["temp", "wind_speed"],
        source="weather",
    )
    diff = features.apply(changed, dry_run=True)
    assert (diff.dry_run, bool(diff)) == (True, True)
    [change] = [change for change in diff.changes if change.action != "UNCHANGED"]
    assert (change.kind, change.name, change.action) == ("feature view", "weather", "UPDATE")
    assert [field.field for field in change.fields] == ["ttl"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "~ feature view  weather" in shown.err
    assert "ttl" in shown.err
    assert "weather" in diff._repr_html_()
    assert not features.apply(weather)
    assert features.get_feature_view("weather").ttl == timedelta(hours=3)
    assert features.apply(changed)
    assert features.get_feature_view("weather").version == 2
    assert features.get_feature_view("weather", 1).ttl == timedelta(hours=3)


def test_prune_removes_what_is_not_named(weather: FeatureView):
    other = FeatureView("other", entities=["origin"], source="weather", features=["temp"])
    features.apply(other)
    assert [view.name for view in features.list_feature_views()] == ["other", "weather"]
    features.apply([weather], prune=True)
    assert [view.name for view in features.list_feature_views()] == ["weather"]


def test_definitions_are_read_back(weather: FeatureView):
    service = FeatureService("svc", [weather], description="d", tags={"a": 1}, owner="me")
    demand = OnDemandFeatureView("od", inputs=["weather:temp"], features={"y": "temp * 2"})
    features.apply([service, demand, SqlSource("SELECT 1 AS x", name="one")])
    [found] = features.list_feature_services()
    assert (found.features, found.description, found.tags, found.owner, found.version) == (
        ("weather:temp", "weather:wind_speed"),
        "d",
        {"a": "1"},
        "me",
        1,
    )
    assert found.applied_at is not None
    view = features.get_feature_view("weather")
    assert (view.ttl, view.join_keys, view.source_name) == (timedelta(hours=3), ("origin",), "weather")
    assert view.schema == {"temp": "Float64", "wind_speed": "Int64"}
    assert [entity.name for entity in features.list_entities()] == ["origin"]
    sources = {source.name: source for source in features.list_sources()}
    assert isinstance(sources["weather"], ParquetSource)
    assert isinstance(sources["one"], SqlSource)
    assert features.list_on_demand_feature_views()[0].expressions == [("y", "temp * 2")]


def test_apply_is_atomic_and_validated(weather: FeatureView, tmp_path: Path):
    good = Entity("fine")
    bad = FeatureView("bad", entities=["origin"], source="weather", features=["no_such_column"])
    with pytest.raises(mlplat.MlplatError, match="no_such_column"):
        features.apply([good, bad])
    assert [entity.name for entity in features.list_entities()] == ["origin"]
    with pytest.raises(mlplat.MlplatError, match="missing"):
        features.apply(ParquetSource(tmp_path / "missing.parquet", timestamp="t"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(mlplat.MlplatError, match="broken"):
        features.apply(
            FeatureView("b", entities=["origin"], source=ParquetSource(tmp_path / "broken.parquet"))
        )


def test_bad_retrievals_are_clear_errors(weather: FeatureView):
    with pytest.raises(mlplat.MlplatError, match="nothing"):
        features.historical(ENTITIES, ["nothing:x"])
    with pytest.raises(mlplat.MlplatError, match="nothing"):
        features.historical(ENTITIES, ["weather:nothing"])
    with pytest.raises(mlplat.MlplatError, match="origin"):
        features.historical({"event_timestamp": [at(1)]}, ["weather:temp"])
    with pytest.raises(mlplat.MlplatError, match="when"):
        features.historical(ENTITIES, ["weather:temp"], timestamp="when")
    with pytest.raises(mlplat.MlplatError, match="label"):
        features.historical(ENTITIES, ["weather:temp"], timestamp="label")
    with pytest.raises(mlplat.MlplatError, match="origin"):
        features.historical({"origin": [1], "event_timestamp": [at(1)]}, ["weather:temp"])


def test_a_table_that_fails_is_the_error_to_see(weather: FeatureView):
    def batches():
        yield pa.record_batch(
            {"origin": ["JFK"], "event_timestamp": pa.array([at(1)], pa.timestamp("us", "UTC"))}
        )
        raise ValueError("the table broke")

    schema = pa.schema({"origin": pa.string(), "event_timestamp": pa.timestamp("us", "UTC")})
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    with pytest.raises(mlplat.ArrowError, match="the table broke"):
        features.historical(reader, ["weather:temp"])


class Stderr(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def slow_rows(*pauses: float) -> pa.RecordBatchReader:
    """One entity row after each pause."""

    def batches():
        for pause in pauses:
            time.sleep(pause)
            yield pa.record_batch(
                {"origin": ["JFK"], "event_timestamp": pa.array([at(1)], pa.timestamp("us", "UTC"))}
            )

    schema = pa.schema({"origin": pa.string(), "event_timestamp": pa.timestamp("us", "UTC")})
    return pa.RecordBatchReader.from_batches(schema, batches())


def test_progress_in_a_terminal_is_one_line(weather: FeatureView, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CI", raising=False)
    stderr = Stderr(terminal=True)
    monkeypatch.setattr(sys, "stderr", stderr)
    features.historical(slow_rows(0.7, 0.3), ["weather:temp"])
    assert "mlplat: historical features: 1 entity rows sent" in stderr.getvalue()
    assert stderr.getvalue().endswith("\r\x1b[K")


def test_progress_in_a_notebook_is_one_line(weather: FeatureView, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CI", raising=False)
    drawn: list[str] = []
    place = types.SimpleNamespace(update=lambda bundle, raw: drawn.append(bundle["text/plain"]))

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> object:
        drawn.append(bundle["text/plain"])
        return place

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=True)  # type: ignore[attr-defined]
    shown = types.ModuleType("IPython.display")
    shown.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    stderr = Stderr(terminal=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    features.historical(slow_rows(0.7, 0.3), ["weather:temp"])
    assert len(drawn) > 1
    assert all(text.startswith("mlplat: historical features: 1 entity rows sent: ") for text in drawn)
    assert stderr.getvalue() == ""


def test_progress_in_a_log_is_a_line_from_time_to_time(weather: FeatureView, monkeypatch: pytest.MonkeyPatch):
    stderr = Stderr(terminal=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("CI", "true")
    features.historical(slow_rows(0.5, 10.5), ["weather:temp"])
    assert stderr.getvalue() == "", "nobody looks"
    monkeypatch.delenv("CI")
    features.historical(slow_rows(0.7, 0.3), ["weather:temp"])
    assert stderr.getvalue() == ""
    features.historical(slow_rows(0.5, 10.5), ["weather:temp"])
    assert stderr.getvalue() == "mlplat: historical features: 1 entity rows sent: 10 s\n"


def test_online_equals_offline(weather: FeatureView):
    [done] = features.materialize(["weather"], end=at(3))
    assert (done.feature_view, done.keys_written) == ("weather", 2)
    online = features.online([{"origin": "JFK"}], ["weather:temp"], at=at(3))
    assert online.to_dicts() == [{"origin": "JFK", "temp": 37.5}]
    assert online.statuses == [{"temp": "PRESENT"}]
    rows = [{"origin": key} for key in ("JFK", "LGA", "EWR")]
    for hour in (3, 4, 4.5, 6, 7):
        found = features.online(rows, weather, at=at(hour))
        table = {"origin": ["JFK", "LGA", "EWR"], "event_timestamp": [at(hour)] * 3}
        offline = features.historical(table, weather).to_polars().drop("event_timestamp")
        assert found.to_polars().to_dicts() == offline.to_dicts()
    late = features.online(rows, weather, at=at(4.5))
    assert [row["temp"] for row in late.statuses] == ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]


def test_online_takes_tables_of_all_kinds(weather: FeatureView):
    features.materialize(end=at(2))
    expected = [
        {"origin": "JFK", "temp": None, "wind_speed": 11},
        {"origin": "LGA", "temp": 40.0, "wind_speed": 13},
    ]
    keys = ["JFK", "LGA"]
    for rows in (
        [{"origin": key} for key in keys],
        {"origin": keys},
        pl.DataFrame({"origin": keys}),
        pd.DataFrame({"origin": keys}),
        pa.table({"origin": keys}),
    ):
        online = features.online(rows, weather, at=at(2))
        assert online.to_dicts() == expected
    assert online.statuses[0] == {"temp": "NULL_VALUE", "wind_speed": "PRESENT"}
    assert features.online({"origin": "LGA"}, "weather:temp", at=at(2)).to_dicts() == [
        {"origin": "LGA", "temp": 40.0}
    ]
    assert online.to_pandas()["wind_speed"].tolist() == [11, 13]


def test_incremental_materialization(weather: FeatureView):
    features.materialize("weather", end=at(1))
    assert features.online({"origin": "JFK"}, "weather:temp", at=at(1)).to_dicts()[0]["temp"] == 39.0
    features.materialize(weather, end=at(3))
    assert features.online({"origin": "JFK"}, "weather:temp", at=at(3)).to_dicts()[0]["temp"] == 37.5
    # An older window again: older rows never replace newer ones.
    features.materialize(weather, start=at(0), end=at(1))
    assert features.online({"origin": "JFK"}, "weather:temp", at=at(3)).to_dicts()[0]["temp"] == 37.5
    with pytest.raises(mlplat.NotFoundError, match="nothing"):
        features.materialize("nothing")


def test_asyncio_twins(weather: FeatureView):
    import asyncio

    async def work() -> None:
        aio = mlplat.aio.features
        train = await aio.historical(ENTITIES, ["weather:temp"])
        assert train.to_polars()["temp"].to_list() == [39.0, 40.0, None, None, None]
        await aio.apply(weather)
        await aio.materialize(weather, end=at(3))
        online = await aio.online({"origin": "JFK"}, weather, at=at(3))
        assert online.to_dicts() == [{"origin": "JFK", "temp": 37.5, "wind_speed": 12}]
        assert [view.name for view in await aio.list_feature_views()] == ["weather"]

    asyncio.run(work())


def test_sources_with_mapped_fields(tmp_path: Path):
    pl.DataFrame({"key": [1], "ts": [at(1)], "value": [7]}).write_parquet(tmp_path / "m.parquet")
    source = ParquetSource(
        tmp_path / "m.parquet", timestamp="t", field_mapping={"key": "k", "ts": "t", "value": "x"}
    )
    features.apply(FeatureView("m", entities=[Entity("k")], source=source))
    assert features.historical({"k": [1], "event_timestamp": [at(2)]}, ["m:x"]).to_dicts()[0]["x"] == 7


def test_globs_read_many_files(tmp_path: Path):
    for part in range(3):
        table = pa.table({"k": [part], "t": pa.array([at(1)], pa.timestamp("us", "UTC")), "x": [part * 10]})
        pq.write_table(table, tmp_path / f"part-{part}.parquet")
    source = ParquetSource(tmp_path / "part-*.parquet", timestamp="t", name="parts")
    features.apply(FeatureView("parts", entities=[Entity("k")], source=source))
    train = features.historical({"k": [2, 1, 0, 3], "event_timestamp": [at(2)] * 4}, ["parts:x"])
    assert train.to_polars()["x"].to_list() == [20, 10, 0, None]
