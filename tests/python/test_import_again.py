"""A second import of an MLflow store in which something was changed since the first one."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import mlplat
import pytest
from import_stores import CHILD, FIRST, GONE, check_first, run_cli, run_id, summary, write_database

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
