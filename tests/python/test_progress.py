"""The line that says how far a long call is: on terminals, in notebooks, in logs, and where nobody looks."""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlplat
import nbformat
import pytest
from mlplat import _progress
from mlplat._progress import Line
from nbclient import NotebookClient
from nbconvert import HTMLExporter

MIB = 1 << 20
ERASE = "\r\x1b[K"


class Stderr(io.StringIO):
    encoding = "utf-8"

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def looking_at(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> Stderr:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    stderr = Stderr(terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    return stderr


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def drawn(stderr: Stderr) -> list[str]:
    return stderr.getvalue().split(ERASE)[1:]


def test_a_transfer_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)
    line = Line()
    for second in range(1, 11):
        line.transfer("uploading", "model.bin", second * 10 * MIB, 200 * MIB, float(second))
    line.clear()
    *shown, after = drawn(terminal)
    assert len(shown) == 10
    assert shown[-1] == (
        "mlplat: uploading model.bin  ██████████░░░░░░░░░░  50 %  100.0 MiB of 200.0 MiB  10.0 MiB/s  10 s left"
    )
    assert after == ""


def test_a_line_is_never_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)
    for name in ("/data/" + "deep/" * 60 + "model.bin", "/データ/" + "深い/" * 60 + "モデル.bin", "x.bin"):
        for width in (1, 8, 20, 40, 60, 80, 120, 200):
            monkeypatch.setenv("COLUMNS", str(width))
            line = Line()
            for second in (1, 5):
                line.transfer("uploading", name, second * MIB, 4000 * MIB, float(second))
            shown = drawn(terminal)[-1]
            assert columns(shown) < width or not shown
            if width >= 60:
                assert "uploading" in shown
                assert "0 %" in shown
                assert name[-5:] in shown, "the end of the name tells files apart"
            assert ("left" in shown) == (width >= 120 or (width >= 80 and name == "x.bin"))


@pytest.mark.parametrize("width", ["0", "-5", "wide"])
def test_widths_that_are_none(width: str, monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)
    monkeypatch.setenv("COLUMNS", width)
    Line().transfer("uploading", "x" * 300, 1, 4, 1.0)
    [shown] = drawn(terminal)
    assert 60 < columns(shown) < 80
    assert _progress._fitted(("mlplat: uploading", "x"), ["1 %"], 0.5, -1, False) == ""


def test_what_is_short_or_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)
    line = Line()
    for at in range(4):
        line.transfer("uploading", "a", at, 4, at / 10)
    line.clear()
    monkeypatch.setenv("CI", "true")
    line.transfer("uploading", "a", 1, 4, 5.0)
    line.clear()
    monkeypatch.delenv("CI")
    monkeypatch.setattr(sys, "stderr", None)
    line.transfer("uploading", "a", 1, 4, 5.0)
    line.clear()
    assert terminal.getvalue() == ""


class Broken(Stderr):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


def closed() -> Stderr:
    stderr = Stderr(terminal=True)
    stderr.close()
    return stderr


def broken() -> Stderr:
    return Broken(terminal=True)


@pytest.mark.parametrize("make", [closed, broken, object])
def test_progress_never_ends_a_call(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch):
    looking_at(monkeypatch, terminal=True)
    monkeypatch.setattr(sys, "stderr", make())
    line = Line()
    line.transfer("uploading", "a", 1, 4, 1.0)
    line.count("importing", "b", ["1 run"], 0.5, 2.0)
    line.clear()


def test_ctrl_c_passes_through_progress(monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)

    def interrupted(_: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Line().transfer("uploading", "a", 1, 4, 1.0)


def test_an_upload_outlives_its_standard_error(project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looking_at(monkeypatch, terminal=True)
    tried: list[str] = []

    class Gone(Stderr):
        def write(self, text: str) -> int:
            tried.append(text)
            raise BrokenPipeError

    source = tmp_path / "large"
    source.write_bytes(os.urandom(1 << 20) * 64)
    with mlplat.start_run("e", "r") as run:
        monkeypatch.setattr(sys, "stderr", Gone(terminal=True))
        # Whether it takes long enough to be shown depends on the machine, so what shows it is asked for itself as well.
        run.log_artifact(source)
        line = Line()
        for done in (1, 2, 3):
            line.transfer("uploading", "large", done, 4, 9.0)
        line.clear(True)
    assert tried
    stored = mlplat.get_run(run.id).read_artifact("large")
    assert stored == source.read_bytes()


def test_names_of_files_do_not_move_the_cursor(monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)
    line = Line()
    line.transfer("uploading", "a\n\x1b[2Jb", 1, 4, 1.0)
    assert r"uploading a\n\x1b[2Jb" in terminal.getvalue()


def test_terminals_without_unicode(monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)
    monkeypatch.setattr(terminal, "encoding", "latin-1")
    line = Line()
    line.transfer("uploading", "x" * 300, 1, 4, 1.0)
    assert terminal.getvalue().isascii()
    line.transfer("uploading", "x", 2, 4, 2.0)
    assert "[##########..........]" in terminal.getvalue()


def test_a_log_has_a_line_from_time_to_time(monkeypatch: pytest.MonkeyPatch):
    stderr = looking_at(monkeypatch, terminal=False)
    line = Line()
    for tenth in range(250):
        line.transfer("uploading", "a", tenth * MIB, 400 * MIB, tenth / 10)
    line.clear()
    assert stderr.getvalue().splitlines() == [
        "mlplat: uploading a: 25 %, 100.0 MiB of 400.0 MiB, 10.0 MiB/s, 30 s left",
        "mlplat: uploading a: 50 %, 200.0 MiB of 400.0 MiB, 10.0 MiB/s, 20 s left",
    ]


def test_counts_have_a_line_too(monkeypatch: pytest.MonkeyPatch):
    terminal = looking_at(monkeypatch, terminal=True)
    Line().count("importing", "delays/first", ["3 of 4 runs", "12 points"], 0.75, 61.0)
    [shown] = drawn(terminal)
    assert shown == "mlplat: importing delays/first  ███████████████░░░░░  3 of 4 runs  12 points  61 s"


IN_NOTEBOOK = """
from mlplat import _progress
from mlplat._progress import Line
line = Line()
for at in range(20):
    print(at)
    line.transfer("uploading", "a <b>.bin", at << 20, 40 << 20, float(at))
line.clear(finished)
"""


@pytest.mark.parametrize(
    ("finished", "end"),
    [(True, "40.0 MiB in 19.0 s"), (False, "stopped at 19.0 MiB of 40.0 MiB, after 19.0 s")],
)
def test_in_a_notebook_it_is_one_place(finished: bool, end: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CI", raising=False)
    cells = [nbformat.v4.new_code_cell(f"finished = {finished}\n{IN_NOTEBOOK}")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs: list[Any] = notebook.cells[0].outputs
    [shown] = [output["data"] for output in outputs if output["output_type"] == "display_data"]
    assert shown["text/plain"] == f"mlplat: uploading a <b>.bin: {end}"
    assert "a &lt;b&gt;.bin" in shown["text/html"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    page = HTMLExporter().from_notebook_node(notebook)[0]
    assert len(re.findall(end, page)) == 1
