"""A second import of an MLflow store in which something was changed since the first one."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import mlplat
import pytest
from import_stores import (
    CHILD,
    FIRST,
    GONE,
    START,
    break_off,
    check_first,
    points_of,
    run_cli,
    run_id,
    summary,
    write_database,
)
from mlplat import _native
from mlplat._connection import client
from mlplat._import._mlflow import open_store
from mlplat._import._summary import Wish
from mlplat._import._writer import import_all

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write_database(tmp_path / "store")


def change(database: Path, *statements: str) -> None:
    with sqlite3.connect(database) as db:
        for statement in statements:
            db.execute(statement)


def artifacts(database: Path) -> Path:
    return database.parent / "mlruns" / "1" / FIRST / "artifacts"


def test_what_was_changed_comes_over(database: Path):
    assert summary("mlflow", str(database), "--deleted")["runs"] == 3
    first, child, gone = run_id(FIRST), run_id(CHILD), run_id(GONE)
    change(
        database,
        f"UPDATE tags SET value = 'new' WHERE key = 'team/x' AND run_uuid = '{FIRST}'",
        f"UPDATE tags SET value = 'other notes' WHERE key = 'mlflow.note.content' AND run_uuid = '{FIRST}'",
        f"UPDATE runs SET name = 'renamed' WHERE run_uuid = '{FIRST}'",
        f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = '{CHILD}'",
        f"UPDATE runs SET lifecycle_stage = 'active' WHERE run_uuid = '{GONE}'",
    )
    (artifacts(database) / "late.txt").write_text("late")
    (artifacts(database) / "a.txt").write_text("HELLO")
    told = summary("mlflow", str(database), "--deleted")
    assert (told["runs"], told["unchanged"], told["points"], told["files"]) == (3, 0, 0, 2)
    run = mlplat.get_run(first)
    assert (run.name, run.description, run.tags["team/x"]) == ("renamed", "other notes", "new")
    assert {file.path for file in run.artifacts()} == {"a.txt", "dir/b.bin", "late.txt"}
    assert run.read_artifact("a.txt") == b"HELLO"
    assert mlplat.get_run(child, view="deleted").id == child
    assert mlplat.get_run(gone).name == "gone"
    assert summary("mlflow", str(database), "--deleted")["unchanged"] == 3


def test_what_was_changed_back_comes_over_too(database: Path):
    summary("mlflow", str(database))
    for value in ("new", "ädß"):
        change(database, f"UPDATE tags SET value = '{value}' WHERE key = 'team/x'")
        summary("mlflow", str(database))
        assert mlplat.get_run(run_id(FIRST)).tags["team/x"] == value
    change(database, "DELETE FROM tags WHERE key = 'team/x'")
    summary("mlflow", str(database))
    assert "team/x" not in mlplat.get_run(run_id(FIRST)).tags


def test_what_was_changed_in_mlplat_stays(database: Path):
    """Also where the source has changed in another respect."""
    summary("mlflow", str(database))
    mlplat.update_run(run_id(FIRST), name="mine")
    (artifacts(database) / "late.txt").write_text("late")
    change(database, "UPDATE tags SET value = 'other notes' WHERE key = 'mlflow.note.content'")
    assert summary("mlflow", str(database))["files"] == 1
    run = mlplat.get_run(run_id(FIRST))
    assert (run.name, run.description) == ("mine", "other notes")


def test_a_deleted_run_that_was_changed_stays_deleted(database: Path):
    summary("mlflow", str(database), "--deleted")
    [gone] = [row["run_id"] for row in mlplat.search_runs(view="deleted").to_dicts()]
    change(database, f"UPDATE runs SET name = 'renamed' WHERE run_uuid = '{GONE}'")
    summary("mlflow", str(database), "--deleted")
    assert mlplat.get_run(gone, view="deleted").name == "renamed"


def test_files_that_could_not_be_read_come_with_the_root(database: Path, tmp_path: Path):
    root = tmp_path / "kept"
    shutil.move(database.parent / "mlruns", root)
    change(database, "UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/' || run_uuid || '/artifacts'")
    said = run_cli("import", "mlflow", str(database), code=1)
    assert "give the folder with --artifacts-root" in said
    assert "2 runs of 1 experiments imported" in said
    assert mlplat.get_run(run_id(FIRST)).status == "FINISHED"
    assert "there is no folder" in run_cli(
        "import", "mlflow", str(database), "--artifacts-root", "/none", code=1
    )
    told = summary("mlflow", str(database), "--artifacts-root", str(root))
    assert (told["runs"], told["files"], told["errors"]) == (2, 2, [])
    check_first()
    assert summary("mlflow", str(database), "--artifacts-root", str(root))["unchanged"] == 2


def test_a_file_that_cannot_be_stored_takes_no_other_with_it(database: Path):
    bad = artifacts(database) / "dir" / "a\\b.txt"
    bad.write_text("x")
    (artifacts(database) / "dir" / "link.bin").symlink_to("b.bin")
    for _ in range(2):
        said = run_cli("import", "mlflow", str(database), code=1)
        assert "file 'dir/a\\\\b.txt' of run 'first'" in said
        check_first(more={"dir/link.bin": 3})
    bad.unlink()
    assert summary("mlflow", str(database))["errors"] == []
    assert summary("mlflow", str(database))["unchanged"] == 2


def set_end(database: Path, key: str, status: str, end: int | None) -> None:
    with sqlite3.connect(database) as db:
        db.execute("UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?", (status, end, key))


def end_of(key: str, *, view: str = "active") -> tuple[str, int | None]:
    """Status, and milliseconds after the start."""
    run = mlplat.get_run(run_id(key), view=view)
    ended = None if run.ended_at is None else round(run.ended_at.timestamp() * 1000) - START
    return run.status, ended


def test_a_run_that_ended_otherwise_since(database: Path):
    """As where a run was killed, resumed, and finished in the end."""
    set_end(database, FIRST, "KILLED", START + 10_000)
    summary("mlflow", str(database))
    assert end_of(FIRST) == ("KILLED", 10_000)
    points = points_of(mlplat.get_run(run_id(FIRST)), "loss")
    for status, end in (("RUNNING", None), ("FINISHED", 60_000), ("FINISHED", 90_000), ("FAILED", 20_000)):
        set_end(database, FIRST, status, None if end is None else START + end)
        told = summary("mlflow", str(database))
        assert (told["runs"], told["unchanged"], told["points"], told["errors"]) == (1, 1, 0, [])
        assert end_of(FIRST) == (status, end)
        assert summary("mlflow", str(database))["unchanged"] == 2
    run = mlplat.get_run(run_id(FIRST))
    assert points_of(run, "loss") == points
    assert (run.branches, run.params["depth"], run.name) == ([], "3", "first")


def test_a_run_that_was_running_ends(database: Path):
    set_end(database, FIRST, "RUNNING", None)
    summary("mlflow", str(database))
    assert end_of(FIRST) == ("RUNNING", None)
    set_end(database, FIRST, "FINISHED", START + 60_000)
    assert summary("mlflow", str(database))["errors"] == []
    check_first()


def test_an_end_before_the_start_is_said(database: Path):
    """As clocks make it that are set back."""
    set_end(database, FIRST, "FINISHED", START - 2500)
    note = (
        f"run 'first' ({FIRST}) of 'delays: 1' ended 2.5 s before it began there; here it ends when it began"
    )
    assert note in summary("mlflow", str(database), "--dry-run")["notes"]
    told = summary("mlflow", str(database))
    assert (told["errors"], note in told["notes"]) == ([], True)
    assert end_of(FIRST) == ("FINISHED", 0)
    told = summary("mlflow", str(database))
    assert (told["unchanged"], note in told["notes"]) == (2, False)


def test_an_import_that_broke_off_before_the_end_is_done_again(
    database: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also where the source is by then what it was before."""
    summary("mlflow", str(database))
    set_end(database, FIRST, "FAILED", START + 70_000)
    with monkeypatch.context() as patch:
        patch.setattr(_native, "import_end", lambda *_: break_off())
        with pytest.raises(KeyboardInterrupt):
            import_all(client(), open_store(str(database)), Wish())
    assert end_of(FIRST) == ("RUNNING", None)
    set_end(database, FIRST, "FINISHED", START + 60_000)
    assert summary("mlflow", str(database))["errors"] == []
    check_first()


def test_how_a_run_ended_in_mlplat_stays(database: Path):
    """Until it ends otherwise in the source."""
    set_end(database, FIRST, "RUNNING", None)
    summary("mlflow", str(database))
    with mlplat.start_run(run_id=run_id(FIRST)):
        pass
    status, ended = end_of(FIRST)
    assert status == "FINISHED"
    change(database, f"UPDATE tags SET value = 'new' WHERE key = 'team/x' AND run_uuid = '{FIRST}'")
    assert summary("mlflow", str(database))["errors"] == []
    assert mlplat.get_run(run_id(FIRST)).tags["team/x"] == "new"
    assert end_of(FIRST) == (status, ended)
    set_end(database, FIRST, "KILLED", START + 30_000)
    assert summary("mlflow", str(database))["errors"] == []
    assert end_of(FIRST) == ("KILLED", 30_000)


def test_a_deleted_run_that_ended_otherwise_stays_deleted(database: Path):
    summary("mlflow", str(database))
    key = run_id(FIRST)
    mlplat.delete_runs(key)
    set_end(database, FIRST, "FAILED", START + 70_000)
    assert summary("mlflow", str(database))["errors"] == []
    run = mlplat.get_run(key, view="deleted")
    assert run.status == "FAILED"


# Experiments


def rename(database: Path, name: str, key: int = 1) -> None:
    change(database, f"UPDATE experiments SET name = '{name}' WHERE experiment_id = {key}")


def names() -> set[str]:
    return {experiment.name for experiment in mlplat.list_experiments()}


def test_tags_and_notes_of_an_experiment_come_over(database: Path):
    summary("mlflow", str(database))
    before = mlplat.get_experiment("delays: 1")
    assert (before.description, before.tags["team"]) == ("", "ads")
    change(
        database,
        "UPDATE experiment_tags SET value = 'search' WHERE key = 'team'",
        "INSERT INTO experiment_tags VALUES ('due', 'May', 1), ('mlflow.note.content', '# Delays', 1)",
    )
    assert summary("mlflow", str(database))["errors"] == []
    found = mlplat.get_experiment("delays: 1")
    assert (found.id, found.description) == (before.id, "# Delays")
    assert (found.tags["team"], found.tags["due"]) == ("search", "May")
    assert found.tags["mlflow.artifact_location"] == "/elsewhere/mlruns/1"
    assert found.tags["import.source"] == f"mlflow-database:{database}#1"
    change(database, "DELETE FROM experiment_tags")
    summary("mlflow", str(database))
    found = mlplat.get_experiment("delays: 1")
    assert (found.description, found.tags.keys()) == (
        "",
        {"mlflow.artifact_location", "import.source", "import.seen"},
    )


def test_what_the_source_says_of_an_experiment_wins(database: Path):
    """And what it never said stays."""
    summary("mlflow", str(database))
    tags = mlplat.get_experiment("delays: 1").tags
    mlplat.update_experiment(
        "delays: 1", new_name="mine", description="my notes", tags={**tags, "team": "me", "own": "x"}
    )
    summary("mlflow", str(database))
    assert names() == {"delays: 1"}
    found = mlplat.get_experiment("delays: 1")
    assert (found.description, found.tags["team"], found.tags["own"]) == ("my notes", "ads", "x")
    change(database, "INSERT INTO experiment_tags VALUES ('mlflow.note.content', 'their notes', 1)")
    summary("mlflow", str(database))
    assert mlplat.get_experiment("delays: 1").description == "their notes"


def test_an_experiment_of_the_same_name_is_taken(database: Path):
    mlplat.create_experiment("delays: 1", description="ours", tags={"own": "x"})
    summary("mlflow", str(database))
    found = mlplat.get_experiment("delays: 1")
    assert (found.description, found.tags["own"], found.tags["team"]) == ("ours", "x", "ads")


def test_an_experiment_that_was_renamed(database: Path):
    """Its old name may be that of another one by then."""
    summary("mlflow", str(database))
    before = mlplat.get_experiment("delays: 1")
    rename(database, "late")
    change(
        database,
        "INSERT INTO experiments VALUES (0, 'delays: 1', '', 'active')",
        f"UPDATE runs SET experiment_id = 0, lifecycle_stage = 'active' WHERE run_uuid = '{GONE}'",
    )
    told = summary("mlflow", str(database))
    assert (told["experiments"], told["runs"], told["unchanged"], told["errors"]) == (2, 1, 2, [])
    assert names() == {"late", "delays: 1"}
    assert mlplat.get_experiment("late").id == before.id
    assert mlplat.get_run(run_id(FIRST)).experiment == "late"
    assert mlplat.get_run(run_id(GONE)).experiment == "delays: 1"


def test_an_experiment_whose_new_name_is_taken_is_said(database: Path):
    summary("mlflow", str(database))
    mlplat.create_experiment("late")
    rename(database, "late")
    change(database, f"UPDATE runs SET lifecycle_stage = 'active' WHERE run_uuid = '{GONE}'")
    said = run_cli("import", "mlflow", str(database), code=1)
    assert "the experiment 'delays: 1' is called 'late' there, but here another one has that name" in said
    assert mlplat.get_run(run_id(GONE)).experiment == "delays: 1"
    mlplat.update_experiment("late", new_name="later")
    assert summary("mlflow", str(database))["errors"] == []
    assert names() == {"late", "later"}


def test_default_is_not_renamed(database: Path):
    """For runs that name no experiment go into it."""
    rename(database, "default")
    summary("mlflow", str(database))
    rename(database, "late")
    summary("mlflow", str(database))
    assert names() == {"default", "late"}
    assert mlplat.get_run(run_id(FIRST)).experiment == "default"
    rename(database, "later")
    summary("mlflow", str(database))
    assert names() == {"default", "later"}


def test_a_store_that_was_moved_goes_on(database: Path, tmp_path: Path):
    summary("mlflow", str(database))
    shutil.move(database.parent, tmp_path / "moved")
    moved = tmp_path / "moved" / "mlflow.db"
    change(moved, "UPDATE experiment_tags SET value = 'search' WHERE key = 'team'")
    assert summary("mlflow", str(moved))["errors"] == []
    rename(moved, "late")
    assert summary("mlflow", str(moved))["errors"] == []
    assert names() == {"late"}
    assert mlplat.get_experiment("late").tags["team"] == "search"


@pytest.mark.parametrize("key", [1, 7])
def test_an_experiment_of_two_stores_is_that_of_the_first(database: Path, tmp_path: Path, key: int):
    """Also where both have it under the same number."""
    summary("mlflow", str(database))
    other = write_database(tmp_path / "other")
    keys = {key: f"{at:032x}" for at, key in enumerate((FIRST, CHILD, GONE), 0xB1)}
    change(
        other,
        f"UPDATE experiments SET experiment_id = {key} WHERE experiment_id = 1",
        f"UPDATE experiment_tags SET experiment_id = {key}, value = 'others'",
        *(
            f"UPDATE runs SET experiment_id = {key}, run_uuid = '{new}', "
            f"artifact_uri = replace(artifact_uri, '{old}', '{new}') WHERE run_uuid = '{old}'"
            for old, new in keys.items()
        ),
    )
    assert summary("mlflow", str(other))["errors"] == []
    assert mlplat.get_experiment("delays: 1").tags["team"] == "ads"
    assert len(mlplat.search_runs(experiment="delays: 1").to_dicts()) == 4


def test_a_deleted_experiment_stays_deleted(database: Path):
    summary("mlflow", str(database))
    mlplat.delete_experiment("delays: 1")
    rename(database, "late")
    change(database, "UPDATE experiment_tags SET value = 'search'")
    assert summary("mlflow", str(database))["errors"] == []
    assert names() == set()


def test_a_dry_run_changes_no_experiment(database: Path):
    summary("mlflow", str(database))
    rename(database, "late")
    summary("mlflow", str(database), "--dry-run")
    assert names() == {"delays: 1"}
