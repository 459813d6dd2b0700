"""`mlplat import mlflow`, from databases and folders written here as MLflow writes them; the real ones are in heavy/."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlplat
import pytest
from import_stores import (
    CHILD,
    FIRST,
    GONE,
    POINTS,
    START,
    break_off,
    check_first,
    insert_points,
    points_of,
    run_cli,
    run_id,
    same,
    summary,
    write_artifacts,
    write_database,
)
from mlplat._connection import client
from mlplat._import import _batches
from mlplat._import._flat_yaml import parse_flat_yaml
from mlplat._import._mlflow import open_store
from mlplat._import._summary import Wish
from mlplat._import._writer import import_all

pytestmark = pytest.mark.usefixtures("project")

# SQLite


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write_database(tmp_path / "store")


def test_a_database(database: Path):
    uri = f"sqlite:///{database}"
    said = run_cli("import", "mlflow", uri)
    assert "2 runs of 1 experiments imported, 0 were there already, 2 left out" in said
    assert "1,006 points, 2 files (8 bytes)" in said
    check_first()
    assert mlplat.get_experiment("delays: 1").tags["team"] == "ads"
    with pytest.raises(mlplat.NotFoundError):
        mlplat.get_run(run_id(GONE))


def test_a_second_import_changes_nothing(database: Path):
    uri = f"sqlite:///{database}"
    summary("mlflow", uri)
    mlplat.update_run(
        run_id(FIRST), description="mine now", tags={**mlplat.get_run(run_id(FIRST)).tags, "team/x": "mine"}
    )
    again = summary("mlflow", uri)
    assert (again["runs"], again["unchanged"], again["points"], again["files"]) == (0, 2, 0, 0)
    run = mlplat.get_run(run_id(FIRST))
    assert (run.description, run.tags["team/x"]) == ("mine now", "mine")
    # Also where the mark of a complete import is lost.
    kept = {key: value for key, value in run.tags.items() if key != "import.complete"}
    mlplat.update_run(run, description="# Notes", tags={**kept, "team/x": "ädß"})
    again = summary("mlflow", uri)
    assert (again["runs"], again["points"], again["files"]) == (1, 0, 0)
    check_first()


def test_a_store_that_grew_gives_what_is_new(database: Path, monkeypatch: pytest.MonkeyPatch):
    uri = f"sqlite:///{database}"
    monkeypatch.setattr(_batches, "_POINTS_PER_BATCH", 503)
    assert import_all(client(), open_store(uri), Wish()).points == 1006
    more = [("loss", 0.5 + step, START + step, 2000 + step) for step in range(600)]
    with sqlite3.connect(database) as db:
        insert_points(db, more)
    assert import_all(client(), open_store(uri), Wish()).points == 600
    run = mlplat.get_run(run_id(FIRST))
    wanted = [(step, value, millis) for name, value, millis, step in (*POINTS, *more) if name == "loss"]
    assert same(points_of(run, "loss"), wanted)


def test_an_interrupted_import_goes_on(database: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_batches, "_POINTS_PER_BATCH", 100)
    store = open_store(f"sqlite:///{database}")
    whole = store.streams

    def torn(run: Any) -> Iterator[Any]:
        for name, points in whole(run):
            yield name, (next(points) if at < 450 else break_off() for at in range(10_000))

    monkeypatch.setattr(store, "streams", torn)
    with pytest.raises(KeyboardInterrupt):
        import_all(client(), store, Wish())
    assert mlplat.get_run(run_id(FIRST)).status == "RUNNING"
    assert mlplat.get_run(run_id(FIRST)).metric_summaries["loss"].count == 400
    assert import_all(client(), open_store(f"sqlite:///{database}"), Wish()).points == 606
    check_first()


def test_a_dry_run_writes_nothing_and_a_filter_chooses(database: Path):
    told = summary("mlflow", str(database), "--dry-run", "--deleted")
    assert (told["experiments"], told["runs"], told["points"]) == (2, 3, 1006)
    assert mlplat.list_experiments() == []
    said = run_cli("import", "mlflow", str(database), "--experiment", "nothing", code=1)
    assert "there is no experiment 'nothing'" in said
    assert summary("mlflow", str(database), "--experiment", "delays: 1", "--no-artifacts")["files"] == 0


def test_data_sets_become_inputs(database: Path):
    with sqlite3.connect(database) as db:
        db.executescript(
            """
            CREATE TABLE datasets (dataset_uuid TEXT, experiment_id INTEGER, name TEXT, digest TEXT,
                dataset_source_type TEXT, dataset_source TEXT);
            CREATE TABLE inputs (input_uuid TEXT, source_type TEXT, source_id TEXT, destination_type TEXT,
                destination_id TEXT);
            CREATE TABLE input_tags (input_uuid TEXT, name TEXT, value TEXT);
            """
        )
        db.execute(
            "INSERT INTO datasets VALUES ('d1', 1, 'train', 'abc', 's3', '{\"uri\": \"s3://b/train\"}')"
        )
        db.execute("INSERT INTO inputs VALUES ('i1', 'DATASET', 'd1', 'RUN', ?)", (FIRST,))
        db.execute("INSERT INTO input_tags VALUES ('i1', 'mlflow.data.context', 'training')")
    summary("mlflow", str(database))
    [found] = mlplat.get_run(run_id(FIRST)).inputs
    assert (found.name, found.digest, found.source, found.source_type, found.context) == (
        "train", "abc", "s3://b/train", "s3", "training",
    )  # fmt: skip


def test_files_that_are_on_another_machine_are_said(database: Path, tmp_path: Path):
    """Only `mlflow.db` was copied; what it names is not here, until its folder is given."""
    copied = tmp_path / "copied" / "mlflow.db"
    copied.parent.mkdir()
    database.rename(copied)
    away = database.parent.rename(tmp_path / "away")
    # As `mlflow ui` leaves it: of no use.
    (copied.parent / "mlruns").mkdir()
    said = run_cli("import", "mlflow", str(copied), code=1)
    assert f"files at {database.parent}/mlruns, if there are any, are not on this machine" in said
    run = mlplat.get_run(run_id(FIRST))
    assert (run.status, list(run.artifacts())) == ("FINISHED", [])
    assert "--artifacts-root" in run.tags["import.left_out"]
    assert "import.left_out" in mlplat.get_run(run_id(CHILD)).tags, "nobody knows whether it has any"
    told = summary("mlflow", str(copied), "--artifacts-root", str(away / "mlruns"))
    assert (told["files"], told["errors"]) == (2, [])
    assert "import.left_out" not in check_first().tags


def test_a_store_without_files_has_none_to_miss(database: Path):
    """MLflow makes `mlruns` with the first file; a tag may say that there was one."""
    shutil.rmtree(database.parent / "mlruns")
    uri = f"{database.parent}/mlruns/1/{FIRST}/artifacts"
    with sqlite3.connect(database) as db:
        db.execute(
            "UPDATE runs SET artifact_uri = ? || run_uuid || '/artifacts'", (f"{database.parent}/mlruns/1/",)
        )
    assert summary("mlflow", str(database))["errors"] == []
    with sqlite3.connect(database) as db:
        db.execute(
            "INSERT INTO tags VALUES ('mlflow.loggedArtifacts', ?, ?)", ('[{"path": "t.json"}]', FIRST)
        )
    said = run_cli("import", "mlflow", str(database), code=1)
    assert f"there is no folder {uri}, but the store says that files were logged into it" in said


def test_deleted_runs_stay_deleted(database: Path):
    assert summary("mlflow", str(database), "--deleted")["runs"] == 3
    names = {row["name"] for row in mlplat.search_runs().to_dicts()}
    assert names == {"first", "child"}
    again = summary("mlflow", str(database), "--deleted")
    assert (again["runs"], again["unchanged"]) == (0, 3)


def test_what_is_no_store_is_said(tmp_path: Path):
    (tmp_path / "x.db").write_text("no database")
    for uri, text in (
        (f"sqlite:///{tmp_path}/none.db", "there is no file"),
        (f"sqlite:///{tmp_path}/x.db", "is not a SQLite database"),
        (str(tmp_path), "is not a folder of MLflow"),
        (str(tmp_path / "nowhere"), "neither an MLflow database nor an mlruns folder"),
        ("postgresql://host/db", "start `mlflow server"),
        ("http://127.0.0.1:1", "cannot be reached"),
    ):
        said = run_cli("import", "mlflow", uri, code=1)
        assert text in said
        assert "Traceback" not in said
    assert "no offline run" in run_cli("import", "wandb", str(tmp_path), code=1)


def test_the_same_store_by_another_way_is_not_doubled(database: Path, folder: Path):
    summary("mlflow", str(database))
    said = run_cli("import", "mlflow", str(folder), code=1)
    assert f"it was imported from mlflow-database:{database}, and goes on only from there" in said
    check_first()


# Folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    write(root / "0" / "meta.yaml", "experiment_id: '0'\nlifecycle_stage: active\nname: Default\n")
    experiment = root / "77"
    write(experiment / "meta.yaml", "experiment_id: '77'\nlifecycle_stage: active\nname: 'delays: 1'\n")
    write(experiment / "tags" / "team", "ads")
    for key, name, status in ((FIRST, "first", 3), (CHILD, "child", 4)):
        run = experiment / key
        write(
            run / "meta.yaml",
            f"artifact_uri: /elsewhere/mlruns/77/{key}/artifacts\nend_time: {START + 60_000}\nlifecycle_stage: active\n"
            f"run_id: {key}\nrun_name: {name}\nstart_time: {START}\nstatus: {status}\ntags: []\nuser_id: root\n",
        )
    first = experiment / FIRST
    write_artifacts(first / "artifacts")
    for key in ("loss", "odd/x y"):
        lines = [f"{millis} {value!r} {step}\n" for name, value, millis, step in POINTS if name == key]
        write(first / "metrics" / key, "".join(lines))
    write(first / "params" / "depth", "3")
    write(first / "params" / "long", "x" * 3000)
    write(first / "tags" / "team" / "x", "ädß")
    write(first / "tags" / "mlflow.note.content", "# Notes")
    write(experiment / CHILD / "tags" / "mlflow.parentRunId", FIRST)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_folder(folder: Path):
    told = summary("mlflow", folder.as_uri())
    assert (told["runs"], told["points"], told["files"]) == (2, 1006, 2)
    check_first()
    with (folder / "77" / FIRST / "metrics" / "loss").open("a") as file:
        file.write(f"{START} 0.25 9999\n")
    assert summary("mlflow", str(folder))["points"] == 1
    assert mlplat.get_run(run_id(FIRST)).metrics["loss"] == 0.25


def test_a_damaged_folder_is_said_and_the_rest_imported(folder: Path):
    with (folder / "77" / FIRST / "metrics" / "loss").open("a") as file:
        file.write("no point\n")
    said = run_cli("import", "mlflow", str(folder), code=1)
    assert "is not a point of a metric: 'no point" in said
    assert mlplat.get_run(run_id(CHILD)).status == "FAILED"


def test_the_yaml_of_mlflow():
    text = (
        "name: 'it''s: a\n  long\n\n  one'\nuser: \"\\u00fc \\\"x\\\" a\\\n  \\ b\"\nplain: some words that\n  go on\n"
        'slash: "ends in \\\\\\\n  here"\n'
        "tags:\n  mlflow.data.context: training\nempty: ''\nnothing: null\nlist: []\nmap: {}\nnumber: 7\n"
    )
    assert parse_flat_yaml(text) == {
        "name": "it's: a long\none",
        "user": 'ü "x" a b',
        "plain": "some words that go on",
        "slash": "ends in \\here",
        "tags.mlflow.data.context": "training",
        "empty": "",
        "number": "7",
    }


def test_files_of_a_folder_that_are_elsewhere_are_said(folder: Path):
    """MLflow makes the folder `artifacts` of a run also where its experiment has another place for them."""
    (folder / "77" / CHILD / "artifacts").mkdir()
    meta = folder / "77" / CHILD / "meta.yaml"
    meta.write_text(meta.read_text().replace("/elsewhere/mlruns/77/", "/elsewhere/own/"))
    said = run_cli("import", "mlflow", str(folder), code=1)
    assert "files at /elsewhere/own, if there are any, are not on this machine" in said
    assert "import.left_out" in mlplat.get_run(run_id(CHILD)).tags
