"""Runs in a notebook: the views in what a kernel really sends, and in the example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlplat
import nbformat
import pytest
from mlplat import _place
from mlplat._companions import _view
from mlplat._companions._view import sparkline, thinned
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def executed(*cells: str) -> list[list[Any]]:
    """The outputs of each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def pages(outputs: list[Any]) -> list[str]:
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


START = "import mlplat, time; run = mlplat.start_run('e', 'a <b> run'); run.log_param('depth', 3); time.sleep(1.5)"


def test_a_run_shows_itself_and_follows():
    cells = executed(
        START,
        "run",
        "for step in range(5): run.log_metric('loss', 1 / (step + 1), step=step)\ntime.sleep(3)",
        "run.end('FINISHED')",
        "mlplat.get_run(run.id)",
    )
    (line,) = pages(cells[0])
    # Drawn first while it ran, and last after its end, in the same places.
    assert "FINISHED" in line
    assert "a &lt;b&gt; run" in line
    assert "0.2" in line
    assert line.count("<svg") == 1
    (view,) = pages(cells[1])
    assert "FINISHED" in view
    assert "depth" in view
    assert "<polyline" in view
    assert re.search(r"href='http[^']+/runs/[0-9a-f-]{36}'", view)
    assert not cells[2]
    assert not cells[3]
    (read,) = pages(cells[4])
    assert "<polyline" in read


def test_the_view_changes_while_the_run_is_under_way():
    cells = executed(
        START + "\nrun",
        "run.log_metric('loss', 0.25, step=0); time.sleep(3.5); run._deactivate(); mlplat._active._open.clear()",
    )
    line, view = pages(cells[0])
    assert "RUNNING" in line
    assert "RUNNING" in view
    # It was logged in a later cell.
    assert "0.25" in line
    assert "0.25" in view


def test_a_line_stays_one_and_a_single_value_has_no_course():
    with mlplat.start_run("e") as run:
        run.log_metrics({f"m{at}": 1.0 for at in (10, 9, 2)})
        for step in range(5):
            run.log_metric("m1", float(step), step=step)
    read = mlplat.get_run(run.id)
    line = _view.line(read._client, read._record, _view.Series(read))
    assert re.findall(r"m\d+ <strong>\d</strong>( <svg)?", line) == [" <svg", "", ""]
    assert "white-space:nowrap" in line
    view = _view.full(read._client, read._record, _view.Series(read))
    assert re.findall(r">(m\d+)</td>", view) == ["m1", "m2", "m9", "m10"]
    assert view.count("<svg") == 1


def test_an_exception_in_a_cell_is_told_without_the_name_of_a_file_that_goes():
    cell = "with mlplat.start_run('e') as failed:\n    raise ValueError('too high')"
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(code)
            for code in ("import mlplat", cell, "print(failed.status_message)")
        ]
    )
    NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    assert notebook.cells[2].outputs[0]["text"] == "ValueError: too high (line 2 of the cell)\n"


def test_continuous_integration_is_quiet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "true")
    cells = executed(START, "run.log_metric('loss', 1.0); run.end()", "run")
    assert not cells[0]
    assert not cells[1]
    (view,) = pages(cells[2])
    assert "FINISHED" in view


def test_companions_of_a_notebook(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLPLAT_ENVIRONMENT")
    monkeypatch.delenv("MLPLAT_CONSOLE")
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/train.ipynb")
    cells = executed(START, "print('printed')", "run.end(); print(run.id)")
    run = mlplat.get_run(cells[2][0]["text"].strip())
    assert (run.tags["mlplat.source.type"], run.tags["mlplat.source.name"]) == (
        "NOTEBOOK",
        "/home/me/train.ipynb",
    )
    assert Path(run.download_artifact("console.log")).read_text() == "printed\n"


def test_the_example_runs():
    notebook = nbformat.read(ROOT / "examples" / "notebook" / "training.ipynb", 4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    accuracy = float(notebook.cells[-1].outputs[-1]["data"]["text/plain"])
    assert accuracy > 0.85
    assert mlplat.models.get_version("digits").version == 1
    view = pages(notebook.cells[-2].outputs)[0]
    assert view.count("<polyline") >= 3


def test_outside_of_notebooks_nothing_is_shown(capsys: pytest.CaptureFixture[str]):
    with mlplat.start_run("e") as run:
        pass
    assert capsys.readouterr() == ("", "")
    assert not _place.in_notebook()
    assert set(run._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_sparklines():
    nan = float("nan")
    assert sparkline([]) == ""
    assert sparkline([nan, float("inf")]) == ""
    assert "<circle" in sparkline([1.0])
    assert sparkline([1.0, 2.0, nan, 3.0, 4.0]).count("<polyline") == 2
    assert "nan" not in sparkline([nan, 1e308, -1e308, 2.0])
    values = [float(at % 7) for at in range(10_000)]
    values[5000] = 99.0
    few = thinned(values, 100)
    assert len(few) <= 200
    assert max(few) == 99.0
