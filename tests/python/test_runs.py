"""Runs, params, metrics, search: the fixed names of the tracking API one by one."""

from __future__ import annotations

import asyncio
import inspect
import math
import pickle
import subprocess
import sys
import threading
import uuid
from datetime import datetime, timedelta, timezone

import mlplat
import mlplat.aio
import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import Server
from mlplat import _active

pytestmark = pytest.mark.usefixtures("project")


def test_a_run_from_start_to_end():
    with mlplat.start_run(experiment="delays", name="first", tags={"team": "air"}) as run:
        assert uuid.UUID(run.id).version == 7
        assert run.status == "RUNNING"
        run.log_params({"depth": 3})
        run.log_metric("mae", 14.2, step=1)
        run.log_metrics({"mae": 13.9, "rmse": 20.1}, step=2)
        run.set_tag("note", "x")
        assert mlplat.get_run(run.id).status == "RUNNING"
    assert run.status == "FINISHED"
    again = mlplat.get_run(run.id)
    assert again.status == "FINISHED"
    assert again.params == {"depth": "3"}
    assert again.metrics == {"mae": 13.9, "rmse": 20.1}
    assert again.tags == {"team": "air", "note": "x"}
    assert (again.experiment, again.name) == ("delays", "first")
    assert again.ended_at is not None
    assert again.ended_at >= again.started_at > datetime.now(timezone.utc) - timedelta(minutes=5)
    assert again == run
    assert again.metric_summaries["mae"].count == 2


def test_parts_of_a_history():
    with mlplat.start_run() as run:
        run.log_metrics({"m": 0.0}, step=0)
        for step in range(1, 100):
            run.log_metric("m", 1000.0 if step == 42 else float(step % 5), step=step)
    again = mlplat.get_run(run.id)
    last = again.metric_history("m", last=3).to_arrow()
    assert last["step"].to_pylist() == [97, 98, 99]
    chart = again.metric_history("m", buckets=5).to_arrow()
    assert 10 <= chart.num_rows <= 20
    assert 42 in chart["step"].to_pylist()
    assert 1000.0 in chart["value"].to_pylist()
    assert again.metric_history("m", branch=0, end_step=5).to_arrow().num_rows == 6
    assert again.branches == []
    with pytest.raises(mlplat.MisuseError):
        again.metric_history("m", last=0)
    with pytest.raises(mlplat.NotFoundError):
        again.metric_history("m", branch=1)


def test_a_range_without_steps_has_no_rows():
    with mlplat.start_run("e") as run:
        for step in range(5):
            run.log_metric("m", step)
    read = mlplat.get_run(run.id)
    whole = read.metric_history("m")
    for start, end in ((4, 3), (10, 20), (3, -3)):
        empty = read.metric_history("m", start_step=start, end_step=end, buckets=10)
        assert (len(empty), empty.schema) == (0, whole.schema)
    both = read.metric_histories(["m", "n"], start_step=2, end_step=1)
    assert {key: len(table) for key, table in both.items()} == {"m": 0, "n": 0}
    twin = asyncio.run(mlplat.aio.get_run(run.id))
    assert len(asyncio.run(twin.metric_history("m", start_step=1, end_step=0))) == 0


def test_metric_history_is_a_table():
    with mlplat.start_run("e") as run:
        for step, value in [(3, 3.0), (1, 1.0), (2, 2.0), (1, 1.5)]:
            run.log_metric("m", value, step=step)
    history = mlplat.get_run(run.id).metric_history("m")
    assert history.column_names == ["step", "timestamp", "value"]
    table = history.to_arrow()
    assert table["step"].to_pylist() == [1, 1, 2, 3]
    assert table["value"].to_pylist() == [1.0, 1.5, 2.0, 3.0]
    assert len(mlplat.get_run(run.id).metric_history("never")) == 0
    part = mlplat.get_run(run.id).metric_history("m", start_step=2, end_step=2)
    assert part.to_dicts()[0]["value"] == 2.0


def test_steps_are_counted_per_key():
    with mlplat.start_run("e") as run:
        run.log_metric("a", 1)
        run.log_metric("a", 2)
        run.log_metric("b", 1)
        run.log_metric("a", 3, step=10)
        run.log_metric("a", 4)
    history = mlplat.get_run(run.id).metric_history("a").to_arrow()
    assert history["step"].to_pylist() == [0, 1, 10, 11]
    assert mlplat.get_run(run.id).metric_history("b").to_arrow()["step"].to_pylist() == [0]


def test_last_value_and_extremes():
    with mlplat.start_run("e") as run:
        run.log_metric("m", 5.0, step=2)
        run.log_metric("m", math.nan, step=1)
        run.log_metric("m", 1.0, step=0)
        run.log_metric("same", 1.0, step=1)
        run.log_metric("same", 2.0, step=1)
    again = mlplat.get_run(run.id)
    assert again.metrics == {"m": 5.0, "same": 2.0}
    summary = again.metric_summaries["m"]
    assert (summary.last, summary.last_step, summary.min, summary.max, summary.count) == (5.0, 2, 1.0, 5.0, 3)


def test_a_param_logged_again_holds_the_last_value():
    with mlplat.start_run("e") as run:
        run.log_param("p", 1)
        run.log_param("p", [1, "x"])
        run.log_params({"none": None, "flag": True})
    assert mlplat.get_run(run.id).params == {"p": "[1, 'x']", "none": "None", "flag": "True"}


def test_numbers_of_all_kinds_are_metrics():
    class Scalar:
        def __float__(self) -> float:
            return 4.5

    class Tensor:
        """As those of torch: only `item` tells."""

        def item(self) -> float:
            return 11.0

    values = [1, True, 2.5, np.float32(0.5), np.int64(7), np.array(3.0), np.bool_(True), Scalar(), math.inf]
    values += [
        np.array([2.0]),
        np.array([[8]]),
        pl.Series([9.0]),
        pd.Series([10]),
        np.array([True]),
        Tensor(),
    ]
    with mlplat.start_run("e") as run:
        for value in values:
            run.log_metric("m", value)
        run.log_metrics({"array": np.array([2.0], "float16")})
    again = mlplat.get_run(run.id)
    logged = again.metric_history("m").to_arrow()["value"].to_pylist()
    assert logged == [1.0, 1.0, 2.5, 0.5, 7.0, 3.0, 1.0, 4.5, math.inf, 2.0, 8.0, 9.0, 10.0, 1.0, 11.0]
    assert again.metrics["array"] == 2.0


NO_NUMBERS = [
    "3.5", None, [1.0], {"a": 1}, np.array([1.0, 2.0]), np.array([]), np.array(["3.5"]), np.array([1j]), pl.Series([1, 2]),
    np.array([None]), np.array([[1.0]] * 2), np.array(["2020"], "M8[ns]"), 10**400, 1j,
]  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_refused_with_advice(value: object):
    with mlplat.start_run("e") as run, pytest.raises(mlplat.MlplatError, match="metric `m`"):
        run.log_metric("m", value)


def test_exception_fails_the_run():
    with pytest.raises(ZeroDivisionError), mlplat.start_run("e") as run:
        _ = 1 / 0
    again = mlplat.get_run(run.id)
    assert again.status == "FAILED"
    assert "ZeroDivisionError: division by zero" in again.status_message
    assert "test_runs.py" in again.status_message


def test_interrupt_kills_the_run():
    with pytest.raises(KeyboardInterrupt), mlplat.start_run("e") as run:
        raise KeyboardInterrupt
    assert mlplat.get_run(run.id).status == "KILLED"


def test_exit_without_error_finishes_the_run():
    with pytest.raises(SystemExit), mlplat.start_run("e") as run:
        sys.exit(0)
    assert mlplat.get_run(run.id).status == "FINISHED"


def test_module_functions_use_the_active_run(tmp_path):
    assert mlplat.active_run() is None
    (tmp_path / "f.txt").write_text("x")
    with mlplat.start_run("e") as run:
        assert mlplat.active_run() is run
        mlplat.log_metric("m", 1.0)
        mlplat.log_metrics({"n": 2.0})
        mlplat.log_param("p", 1)
        mlplat.log_params({"q": 2})
        mlplat.set_tag("t", "u")
        mlplat.set_tags({"v": "w"})
        mlplat.log_artifact(tmp_path / "f.txt")
        version = mlplat.publish_model("m", "f.txt")
    assert mlplat.active_run() is None
    again = mlplat.get_run(run.id)
    assert (again.metrics, again.params) == ({"m": 1.0, "n": 2.0}, {"p": "1", "q": "2"})
    assert again.tags == {"t": "u", "v": "w"}
    assert version.run_id == run.id
    with pytest.raises(mlplat.NoActiveRunError, match="start_run"):
        mlplat.log_metric("m", 1.0)


def test_a_run_started_without_with():
    run = mlplat.start_run("e")
    mlplat.log_metric("m", 1.0)
    mlplat.end_run()
    assert mlplat.get_run(run.id).status == "FINISHED"
    assert mlplat.active_run() is None


def test_runs_nest():
    with mlplat.start_run("e", "outer") as outer:
        with mlplat.start_run(name="inner") as inner:
            mlplat.log_metric("m", 1.0)
        mlplat.log_metric("n", 1.0)
    found = mlplat.get_run(inner.id)
    assert (found.parent_run_id, found.experiment, found.metrics) == (outer.id, "e", {"m": 1.0})
    assert mlplat.get_run(outer.id).metrics == {"n": 1.0}
    with mlplat.start_run("e", parent=outer) as late:
        pass
    assert mlplat.get_run(late.id).parent_run_id == outer.id


def test_a_run_of_another_project_is_no_parent(project: str):
    other = f"{project}-2"
    mlplat.create_project(other)
    with mlplat.start_run("e") as outer:
        mlplat.connect(project=other)
        with mlplat.start_run() as inner:
            # The training set is read in this project, where only this run exists.
            assert _active.active_run_id() == inner.id
            with pytest.raises(mlplat.MisuseError, match=f"project `{project}`"):
                mlplat.start_run(parent=outer)
            mlplat.connect()
            with mlplat.start_run() as child:
                assert _active.active_run_id() == child.id
            mlplat.connect(project=other)
        assert _active.active_run_id() == ""
        found = mlplat.get_run(inner.id)
        assert (found.parent_run_id, found.experiment, found.status) == (None, "default", "FINISHED")
    mlplat.connect()
    found = mlplat.get_run(child.id)
    assert (found.parent_run_id, found.experiment) == (outer.id, "e")


def test_a_run_of_another_server_is_no_parent(server: Server):
    with mlplat.start_run("e") as outer:
        assert _active._outer(mlplat.connect("http://127.0.0.1:1")) is None
        assert _active._outer(mlplat.connect(f"{server.url}/")) is outer


def test_a_run_that_is_active_already_is_not_started_again():
    with mlplat.start_run("e") as run:
        with (
            mlplat.start_run(),
            pytest.raises(mlplat.MisuseError, match=f"{run.id} is active .* already; use"),
        ):
            mlplat.start_run(run_id=run.id)
        with pytest.raises(mlplat.MisuseError, match="already; end it"):
            mlplat.start_run(run_id=run.id, resume_from=3)
    with mlplat.start_run(run_id=run.id) as again:
        assert again.parent_run_id is None


def test_threads_log_to_the_only_run():
    def work(thread: int) -> None:
        for step in range(20):
            mlplat.log_metric(f"m{thread}", step, step=step)

    with mlplat.start_run("e") as run:
        threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert mlplat.get_run(run.id).metrics == {f"m{at}": 19.0 for at in range(8)}


def test_threads_with_runs_of_their_own():
    found: dict[int, str] = {}

    def work(at: int) -> None:
        with mlplat.start_run("e", f"r{at}") as run:
            barrier.wait()
            mlplat.log_metric("at", at)
            found[at] = run.id

    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=work, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {at: mlplat.get_run(run_id).metrics["at"] for at, run_id in found.items()} == {
        0: 0.0,
        1: 1.0,
        2: 2.0,
    }
    assert all(mlplat.get_run(run_id).parent_run_id is None for run_id in found.values())


def test_a_run_that_another_thread_ended_is_not_active():
    run = mlplat.start_run("e")
    thread = threading.Thread(target=run.end)
    thread.start()
    thread.join()
    assert mlplat.active_run() is None
    with mlplat.start_run("e") as other:
        assert other.parent_run_id is None


def test_a_process_joins_a_run(monkeypatch: pytest.MonkeyPatch):
    code = (
        "import mlplat\n"
        "with mlplat.start_run('other', 'other') as run:\n"
        "    mlplat.log_metric('rank', 1.0)\n"
        "mlplat.log_metric('after', 2.0)\n"
        "print(run.id)\n"
    )
    with mlplat.start_run("e", "ranks") as run:
        monkeypatch.setenv("MLPLAT_RUN_ID", run.id)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == run.id
        again = mlplat.get_run(run.id)
        assert (again.status, again.name) == ("RUNNING", "ranks")
        assert again.metrics == {"rank": 1.0, "after": 2.0}


def test_a_forgotten_run_ends_with_the_process():
    code = "import mlplat; print(mlplat.start_run('e').id); {}"
    good = subprocess.run([sys.executable, "-c", code.format("")], capture_output=True, text=True, check=True)
    assert mlplat.get_run(good.stdout.strip()).status == "FINISHED"
    bad = subprocess.run([sys.executable, "-c", code.format("1/0")], capture_output=True, text=True)
    assert mlplat.get_run(bad.stdout.strip()).status == "FAILED"


THREAD = "import threading; t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()"
CAUGHT = "\ntry: sys.exit(3)\nexcept SystemExit: mlplat.start_run('e')"


@pytest.mark.parametrize(
    ("how", "code", "status", "message"),
    [
        ("sys.exit(3)", 3, "FAILED", "SystemExit: 3"),
        ("sys.exit('bad data')", 1, "FAILED", "SystemExit: bad data"),
        ("exit(3)", 3, "FAILED", "SystemExit: 3"),
        ("import argparse; argparse.ArgumentParser().error('x')", 2, "FAILED", "SystemExit: 2"),
        ("sys.exit()", 0, "FINISHED", ""),
        ("quit(0)", 0, "FINISHED", ""),
        (THREAD, 0, "FINISHED", ""),
        (CAUGHT, 0, "FINISHED", ""),
    ],
)
def test_the_exit_code_says_how_a_forgotten_run_ends(how: str, code: int, status: str, message: str):
    script = f"import mlplat, sys; print(mlplat.start_run('e').id, flush=True); {how}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    run = mlplat.get_run(done.stdout.strip())
    assert (run.status, run.status_message) == (status, message)


def test_sys_exit_stays_what_it_was():
    with mlplat.start_run("e"):
        assert (sys.exit.__name__, sys.exit.__module__) == ("exit", "sys")
        assert str(inspect.signature(sys.exit)) == "(status=None, /)"
        assert pickle.loads(pickle.dumps(sys.exit)) is sys.exit
        with pytest.raises(TypeError):
            sys.exit(1, 2)  # pyright: ignore[reportCallIssue]


def test_search_runs_is_a_table():
    for mae in (10.0, 20.0, 14.0):
        with mlplat.start_run("delays", f"mae {mae}") as run:
            run.log_metric("mae", mae)
            run.log_param("depth", int(mae))
    with mlplat.start_run("other") as run:
        run.log_metric("mae", 1.0)
    found = mlplat.search_runs("metrics.mae < 15", experiment="delays", order_by="metrics.mae ASC")
    assert found.to_arrow()["metrics.mae"].to_pylist() == [10.0, 14.0]
    assert found.to_pandas()["params.depth"].tolist() == ["10", "14"]
    assert found.to_polars()["status"].to_list() == ["FINISHED", "FINISHED"]
    newest_first = mlplat.search_runs(experiment="delays").to_arrow()["name"].to_pylist()
    assert newest_first == ["mae 14.0", "mae 20.0", "mae 10.0"]
    assert len(mlplat.search_runs(experiment=["delays", "other"])) == 4
    assert len(mlplat.search_runs(limit=2)) == 2
    assert len(mlplat.search_runs("metrics.mae > 1000")) == 0


def test_update_run_and_experiments():
    with mlplat.start_run("e", "a", description="d") as run:
        pass
    changed = mlplat.update_run(run, name="b", tags={"k": 1})
    assert (changed.name, changed.description, changed.tags) == ("b", "d", {"k": "1"})
    mlplat.create_experiment("f", description="notes")
    assert [e.name for e in mlplat.list_experiments()] == ["e", "f"]
    assert mlplat.get_experiment("f").description == "notes"


def test_timestamps():
    at = datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    with mlplat.start_run("e") as run:
        run.log_metric("m", 1.0, timestamp=at)
        run.log_metric("m", 1.0, timestamp="2020-01-02T01:04:05.678901")
    times = mlplat.get_run(run.id).metric_history("m").to_arrow()["timestamp"].to_pylist()
    assert times == [at, at]


def test_shown_in_notebooks_and_terminals():
    with mlplat.start_run("<b>", "a & b") as run:
        run.log_metric("m", 1.0)
    again = mlplat.get_run(run.id)
    assert repr(again).startswith("Run('a & b', experiment='<b>', status='FINISHED'")
    assert "&lt;b&gt;" in again._repr_html_()
    assert "<b>" not in again._repr_html_()
    table = mlplat.search_runs()
    assert "a & b" in repr(table)
    assert "a &amp; b" in table._repr_html_()


@pytest.mark.usefixtures("project")
def test_several_histories_come_in_one_call():
    with mlplat.start_run("e") as run:
        for step in range(5):
            run.log_metrics({"loss": 1 / (step + 1), "accuracy": step / 10, "other": 0.0}, step=step)
    again = mlplat.get_run(run.id)
    found = again.metric_histories(["loss", "accuracy", "loss", "never"], start_step=1, last=2)
    assert list(found) == ["loss", "accuracy", "never"]
    assert [row["step"] for row in found["loss"].to_dicts()] == [3, 4]
    assert [row["value"] for row in found["accuracy"].to_dicts()] == [0.3, 0.4]
    assert len(found["never"]) == 0
    everything = again.metric_histories()
    assert {key: len(points) for key, points in everything.items()} == {"loss": 5, "accuracy": 5, "other": 5}
    with mlplat.start_run("e") as empty:
        pass
    assert mlplat.get_run(empty.id).metric_histories() == {}
    with mlplat.start_run("e") as many:
        many.log_metrics({f"m{number}": float(number) for number in range(1200)}, step=0)
    last = mlplat.get_run(many.id).metric_histories()
    assert len(last) == 1200
    assert last["m1199"].to_dicts()[0]["value"] == 1199.0
    with pytest.raises(mlplat.MisuseError, match="keys"):
        again.metric_histories(3)  # pyright: ignore[reportArgumentType]
