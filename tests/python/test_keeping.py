"""Finding, comparing and keeping runs."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import mlplat
import mlplat.aio
import pytest
from mlplat import _native


def started(**options) -> mlplat.ActiveRun:
    run = mlplat.start_run(**options)
    run.end()
    return run


def test_columns_pages_and_objects(project):
    for number in range(7):
        with mlplat.start_run(experiment="e", name=f"r{number}") as run:
            run.log_params({"lr": 0.1 * number, "depth": 3})
            run.log_metrics({"loss": number, "acc": 1})
            run.log_metric("loss", 10 - number)
    table = mlplat.search_runs(
        "min(metrics.loss) < 3", columns=["metrics.loss", "params.none"], order_by="name"
    )
    assert table.column_names[-2:] == ["metrics.loss", "params.none"]
    assert [row["name"] for row in table] == ["r0", "r1", "r2"]
    assert [row["metrics.loss"] for row in table] == [10, 9, 8]
    assert "params.lr" not in mlplat.search_runs(columns=[]).column_names

    pages = list(mlplat.iter_runs(order_by="metrics.loss DESC", page_size=3))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [row["metrics.loss"] for page in pages for row in page] == [10, 9, 8, 7, 6, 5, 4]
    found = mlplat.find_runs("NOT (params.depth != 3) AND name LIKE 'r%'", limit=2, order_by="name DESC")
    assert [(run.name, run.metric_summaries["loss"].min) for run in found] == [("r6", 4), ("r5", 5)]
    with pytest.raises(mlplat.MisuseError, match="page_size"):
        mlplat.iter_runs(page_size=0)
    with pytest.raises(mlplat.MisuseError, match="view"):
        mlplat.search_runs(view="some")


def test_delete_restore_move_and_trees(project):
    with mlplat.start_run(experiment="e", name="outer") as outer, mlplat.start_run(name="inner") as inner:
        inner.log_metric("loss", 0.5)
    assert [run.name for run in mlplat.child_runs(outer)] == ["inner"]
    lines = mlplat.run_tree(outer).splitlines()
    assert lines[0].startswith("outer FINISHED")
    assert lines[1].startswith("└─ inner FINISHED")
    assert mlplat.delete_runs(outer, nested=True) == 2
    assert len(mlplat.search_runs()) == 0
    assert len(mlplat.search_runs(view="deleted")) == 2
    with pytest.raises(mlplat.NotFoundError):
        mlplat.get_run(outer.id)
    assert mlplat.get_run(outer.id, view="all").deleted_at is not None
    assert mlplat.restore_runs([outer, inner.id]) == 2
    assert mlplat.move_runs(inner, "other") == 1
    assert mlplat.get_run(inner.id).experiment == "other"

    assert mlplat.delete_experiment("other").deleted_at is not None
    assert [e.name for e in mlplat.list_experiments(view="deleted")] == ["other"]
    mlplat.restore_experiment("other")
    renamed = mlplat.update_experiment("other", new_name="better", description="**bold**", tags={"a": 1})
    assert (renamed.name, renamed.description, renamed.tags) == ("better", "**bold**", {"a": "1"})
    assert mlplat.move_experiment("better", "e") == 1
    assert mlplat.get_run(inner.id).experiment == "e"
    with pytest.raises(mlplat.FailedPreconditionError):
        mlplat.delete_experiment("default")


def test_params_and_tags_can_be_deleted(project):
    with mlplat.start_run() as run:
        run.log_params({"a": 1, "b": 2})
        run.set_tags({"c": 3})
    assert (mlplat.delete_params(run, ["a", "x"]), mlplat.delete_tags(run, "c")) == (1, 1)
    assert (run.refresh().params, run.refresh().tags) == ({"b": "2"}, {})


def test_garbage(project):
    run = started()
    mlplat.delete_runs(run)
    assert mlplat.collect_garbage().runs == 0
    assert mlplat.collect_garbage(0, dry_run=True).runs == 1
    assert mlplat.collect_garbage(0).runs == 1
    with pytest.raises(mlplat.NotFoundError):
        mlplat.get_run(run.id, view="all")


def test_comparison(project):
    with mlplat.start_run(name="a") as first:
        first.log_params({"lr": 0.1, "depth": 3})
        first.log_metric("loss", 0.5)
    with mlplat.start_run(name="<b>") as second:
        second.log_params({"lr": 0.2, "depth": 3})
    comparison = mlplat.compare_runs([first, second])
    assert comparison.column_names == ["kind", "key", "differs", "a", "<b>"]
    differences = {(row["kind"], row["key"]): (row["a"], row["<b>"]) for row in comparison.differences}
    assert differences["param", "lr"] == ("0.1", "0.2")
    assert differences["metric", "loss"] == ("0.5", None)
    assert ("param", "depth") not in differences
    flags = [row["differs"] for row in comparison]
    assert flags == sorted(flags, reverse=True)
    page = comparison._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "≠ param" in repr(comparison)
    twins = mlplat.compare_runs([started(name="same"), started(name="same")])
    assert len(set(twins.column_names)) == 5


def test_comparison_of_close_metrics(project):
    runs = []
    for value, loss in ((1000000.1, 0.1 + 0.2), (1000000.2, 0.3)):
        with mlplat.start_run() as run:
            run.log_metrics(
                {"count": value, "loss": loss, "third": 1 / 3, "none": math.nan, "zero": 0.0 * loss}
            )
        runs.append(run)
    comparison = mlplat.compare_runs(runs)
    first, second = comparison.column_names[3:]
    found = {
        row["key"]: (row[first], row[second]) for row in comparison.differences if row["kind"] == "metric"
    }
    assert found == {
        "count": ("1000000.1", "1000000.2"),
        "loss": ("0.30000000000000004", "0.3"),
    }
    third = next(row for row in comparison if row["key"] == "third")
    assert (third[first], third["differs"]) == ("0.333333", False)


def test_notes_are_escaped(project):
    with mlplat.start_run(description="# Notes\n<script>alert(1)</script>") as run:
        pass
    page = run.refresh()._repr_html_()
    assert "Notes" in page
    assert "<script>" not in page


def test_command_line(project, capsys):
    from mlplat._cli import main

    with mlplat.start_run(experiment="e", name="a") as first:
        first.log_param("lr", 0.1)
    with mlplat.start_run(experiment="e", name="b") as second:
        second.log_param("lr", 0.2)
    common = ["--url", mlplat.connect().url, "--project", project]

    def call(*arguments: str) -> str:
        assert main([*arguments, *common]) == 0
        return capsys.readouterr().out

    assert "param" in call("runs", "compare", first.id, second.id)
    assert json.loads(call("runs", "compare", first.id, second.id, "--json"))[0]["kind"] == "param"
    assert call("runs", "tree", first.id).startswith("a FINISHED")
    assert call("runs", "delete", first.id) == "1 run deleted\n"
    assert first.id in call("runs", "list", "--deleted")
    assert first.id not in call("runs", "list")
    assert call("runs", "restore", first.id) == "1 run restored\n"
    assert call("runs", "move", first.id, "--to", "f") == "1 run moved to f\n"
    call("experiments", "rename", "f", "g")
    call("experiments", "delete", "g")
    assert "g" in call("experiments", "list", "--deleted")
    call("experiments", "restore", "g")
    assert "0 runs" in call("gc", "--dry-run")
    assert main(["runs", "delete", str(uuid.uuid4()), *common]) == 1


def test_labels_and_metrics_of_a_run_that_has_ended(project):
    failed = mlplat.start_run()
    failed.set_tags({"a": 1, "b": 2})
    failed.log_metric("loss", 0.5, step=7)
    failed.end("FAILED", "out of memory")
    run = mlplat.get_run(failed.id)
    run.set_tag("reviewed", True)
    run.set_tags({"b": 3, "owner": "ann"})
    run.delete_tags(["a", "no such label"])
    assert run.tags == {"b": "3", "owner": "ann", "reviewed": "True"}
    run.log_metric("loss", 0.25)
    run.log_metrics({"test/f1": 0.9, "loss": 0.125}, timestamp="2020-01-01T00:00:00Z")
    run.log_metrics({"test/f1": 0.8}, step=40)
    assert [(row["step"], row["value"]) for row in run.metric_history("loss")] == [
        (7, 0.5),
        (8, 0.25),
        (9, 0.125),
    ]
    assert run.metrics == {"loss": 0.125, "test/f1": 0.8}
    # It stays as it was otherwise, for everybody.
    again = mlplat.find_runs("tags.owner = 'ann'")[0]
    assert (again.status, again.ended_at, again.tags) == ("FAILED", run.ended_at, run.tags)
    with pytest.raises(mlplat.MisuseError, match="number"):
        run.log_metric("loss", "low")
    mlplat.delete_runs(run)
    run.set_tag("why", "deleted")
    assert run.deleted_at is not None


def test_points_of_an_ended_run_have_few_writers(project, monkeypatch):
    with mlplat.start_run() as active:
        pass
    run, sent = mlplat.get_run(active.id), []
    import_batch = _native.import_batch

    def noted(client, run_id, number, *content):
        sent.append(number)
        return import_batch(client, run_id, number, *content)

    monkeypatch.setattr(_native, "import_batch", noted)
    for step in range(5):
        run.log_metrics({"a": step, "b": step}, step)
    assert len({writer for writer, _, _ in sent}) == 1
    assert [(first, last) for _, first, last in sent] == [(n, n + 1) for n in range(1, 11, 2)]
    # Calls at the same time have a writer each, so that none of them overtakes another.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda step: run.log_metric("a", step, step), range(5, 45)))

    async def add():
        again = await mlplat.aio.get_run(active.id)
        await asyncio.gather(*(again.log_metric("a", step, step) for step in range(45, 65)))

    asyncio.run(add())
    assert [row["value"] for row in mlplat.get_run(run.id).metric_history("a")] == list(range(65))
    # What the server has of a call that failed is not known.
    with pytest.raises(mlplat.MlplatError):
        run.log_metrics({"a\n": 1.0}, 65)
    process, idle = run._writers
    assert (process, len({writer for writer, _ in idle})) == (os.getpid(), len(idle))
    assert all(first > 1 for _, first in idle)
    with pytest.raises(TypeError):
        copy.deepcopy(run)


def test_the_files_of_all_experiments_of_a_project_are_in_one_place(project):
    first, second = (mlplat.create_experiment(name) for name in ("first", "second"))
    assert first.artifact_location == second.artifact_location != ""
    assert mlplat.get_experiment("first").artifact_location == first.artifact_location
    mlplat.create_project(f"{project}-other")
    mlplat.connect(project=f"{project}-other")
    assert mlplat.create_experiment("first").artifact_location != first.artifact_location


def test_after_the_last_step_that_there_is_none_comes_by_itself(project):
    with mlplat.start_run() as active:
        active.log_metric("m", 1.0, step=2**63 - 1)
    run = mlplat.get_run(active.id)
    with pytest.raises(mlplat.MisuseError, match=r"`m` has the last step.*give a step"):
        run.log_metrics({"other": 1.0, "m": 2.0})
    assert run.metrics == {"m": 1.0}
    run.log_metric("m", 3.0, step=2**63 - 1)
    assert mlplat.get_run(active.id).metrics == {"m": 3.0}


def test_labels_of_an_ended_run_for_asyncio(project):
    async def add() -> mlplat.aio.Run:
        async with mlplat.aio.start_run() as active:
            await active.set_tags({"a": 1, "b": 2})
        run = await mlplat.aio.get_run(active.id)
        await run.set_tag("c", 3)
        await run.set_tags({"d": 4})
        await run.delete_tags("a")
        await run.log_metric("late", 1.0)
        await run.log_metrics({"late": 2.0})
        return run

    run = asyncio.run(add())
    assert (run.status, run.tags) == ("FINISHED", {"b": "2", "c": "3", "d": "4"})
    assert (run.metrics, run.metric_summaries["late"].last_step) == ({"late": 2.0}, 1)
