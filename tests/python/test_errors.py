"""Misuse and failures: each one class of exception with a reason, and a text that says what to do."""

from __future__ import annotations

import pickle
import socket
from datetime import timedelta

import mlplat
import pytest
from mlplat.features import Entity, FeatureView, ParquetSource, SqlSource

UNKNOWN = "01941f29-7c00-7000-8000-000000000000"


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    mlplat.connect(address, timeout=2)
    with pytest.raises(mlplat.UnavailableError, match="is it running") as caught:
        mlplat.get_run(UNKNOWN)
    assert caught.value.reason == "SERVER_UNREACHABLE"
    assert isinstance(caught.value, ConnectionError)


def test_a_server_that_does_not_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mlplat.connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=timedelta(seconds=0.3))
        with pytest.raises(mlplat.MlplatError) as caught:
            mlplat.server_info()
    assert isinstance(caught.value, (mlplat.DeadlineExceededError, mlplat.UnavailableError))


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x/path", 5, "http://x:99999"])
def test_bad_addresses(url: object):
    with pytest.raises(mlplat.MisuseError):
        mlplat.connect(url)  # type: ignore[arg-type]


@pytest.mark.usefixtures("project")
class TestServerErrors:
    def test_unknown_run(self):
        with pytest.raises(mlplat.NotFoundError, match=UNKNOWN) as caught:
            mlplat.get_run(UNKNOWN)
        assert caught.value.reason == "RUN_NOT_FOUND"
        assert caught.value.request_id

    def test_bad_run_id(self):
        with pytest.raises(mlplat.MisuseError, match="not the id of a run"):
            mlplat.get_run("nonsense")

    def test_bad_filter(self):
        with pytest.raises(mlplat.InvalidArgumentError) as caught:
            mlplat.search_runs("metrics.mae <")
        assert caught.value.violations
        assert caught.value.violations[0].field == "filter"

    def test_several_bad_fields_at_once(self):
        with pytest.raises(mlplat.InvalidArgumentError) as caught:
            mlplat.start_run("x" * 300, "y" * 300)
        assert {violation.field for violation in caught.value.violations} >= {"experiment", "name"}

    def test_a_run_that_has_ended(self):
        with mlplat.start_run("e") as run:
            pass
        # What was logged before may arrive late, but the end is the end.
        run.log_metric("m", 1.0)
        with pytest.raises(mlplat.FailedPreconditionError, match="FINISHED"):
            run.end("FAILED")

    def test_names_that_are_taken(self, project: str):
        mlplat.create_experiment("e")
        with pytest.raises(mlplat.AlreadyExistsError, match="e"):
            mlplat.create_experiment("e")
        with pytest.raises(mlplat.AlreadyExistsError):
            mlplat.create_project(project)

    def test_unknown_project(self):
        mlplat.connect(project="nowhere")
        with pytest.raises(mlplat.NotFoundError, match="nowhere"):
            mlplat.search_runs()

    def test_unknown_feature_view(self):
        with pytest.raises(mlplat.NotFoundError, match="nothing"):
            mlplat.features.get_feature_view("nothing")


MISUSE = {
    "entity without keys": lambda: Entity("e", join_keys=[]),
    "entity keys of the wrong type": lambda: Entity("e", join_keys=3),  # type: ignore[arg-type]
    "source without a good name": lambda: ParquetSource("data/*.parquet"),
    "created without timestamp": lambda: ParquetSource("x.parquet", created="c"),
    "source of the wrong type": lambda: FeatureView("v", source=3),  # type: ignore[arg-type]
    "ttl of the wrong type": lambda: FeatureView("v", source="s", ttl=3),  # type: ignore[arg-type]
    "negative ttl": lambda: FeatureView("v", source="s", ttl=timedelta(days=-1)),
    "view name with a colon": lambda: FeatureView("a:b", source="s"),
    "entity of the wrong type": lambda: FeatureView("v", source="s", entities=[3]),  # type: ignore[list-item]
    "source that nobody names": lambda: mlplat.features.apply([SqlSource("SELECT 1")]),
    "two sources of one name": lambda: mlplat.features.apply(
        [ParquetSource("a/x.parquet"), ParquetSource("b/x.parquet")]
    ),
    "something else to apply": lambda: mlplat.features.apply(["x"]),  # type: ignore[list-item]
    "no features": lambda: mlplat.features.historical({"e": [1]}, []),
    "feature of the wrong type": lambda: mlplat.features.historical({"e": [1]}, [3]),  # type: ignore[list-item]
    "no entity rows": lambda: mlplat.features.historical(None, ["v:f"]),
    "entity rows twice": lambda: mlplat.features.historical({"e": [1]}, ["v:f"], start="2020-01-01"),
    "entity table of the wrong type": lambda: mlplat.features.historical(3, ["v:f"]),  # type: ignore[arg-type]
    "columns of two lengths": lambda: mlplat.features.historical({"e": [1], "f": [1, 2]}, ["v:f"]),
    "a column of two types": lambda: mlplat.features.historical({"e": [1, "x"]}, ["v:f"]),
    "a value that is none": lambda: mlplat.features.historical({"e": [object()]}, ["v:f"]),
    "bad known_at": lambda: mlplat.features.historical({"e": [1]}, ["v:f"], known_at="x"),
    "bad time": lambda: mlplat.features.historical(None, ["v:f"], start="yesterday"),
    "time of the wrong type": lambda: mlplat.features.online([{"e": 1}], ["v:f"], at=3),  # type: ignore[arg-type]
    "rows of the wrong type": lambda: mlplat.features.online([3], ["v:f"]),  # type: ignore[list-item]
    "rows with other columns": lambda: mlplat.features.online([{"e": 1}, {"f": 1}], ["v:f"]),
    "unknown feature of a view": lambda: FeatureView("v", source="s", features=["a"])["b"],
    "run id of the wrong type": lambda: mlplat.get_run(3),  # type: ignore[arg-type]
    "lineage of something": lambda: mlplat.lineage.upstream(3),  # type: ignore[arg-type]
    "lineage of an unknown kind": lambda: mlplat.lineage.upstream("planet:mars"),
    "lineage of a model without version": lambda: mlplat.lineage.upstream("model:m"),
    "params of the wrong type": lambda: mlplat.search_runs(3),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", MISUSE)
def test_misuse_is_an_mlplat_error(what: str):
    mlplat.connect("http://127.0.0.1:1")
    with pytest.raises(mlplat.MisuseError) as caught:
        MISUSE[what]()
    assert isinstance(caught.value, mlplat.MlplatError)
    assert caught.value.reason == "MISUSE"
    assert len(str(caught.value)) > 15


def test_definitions_do_not_change():
    entity = Entity("e", join_keys=["k"])
    with pytest.raises(AttributeError, match="does not change"):
        entity.name = "other"  # type: ignore[misc]
    assert entity == Entity("e", join_keys=["k"])
    assert entity != Entity("e", join_keys=["l"])
    assert hash(entity) == hash(Entity("e", join_keys=["k"]))
    view = FeatureView("v", source=ParquetSource("/x.parquet"), entities=[entity])
    assert "FeatureView('v'" in repr(view)
    assert "<table>" in view._repr_html_()


def test_errors_have_one_root_and_can_be_pickled():
    classes = [
        value for value in vars(mlplat).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(classes) > 15
    for kind in classes:
        assert issubclass(kind, mlplat.MlplatError)
        error = kind("text", reason="R")
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.reason) == (kind, "text", "R")
