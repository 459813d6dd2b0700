"""The `mlplat` command line, as a process."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import mlplat
import polars as pl
import pytest
from mlplat import features
from mlplat.features import Entity, FeatureView, ParquetSource


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlplat", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})


def run_output(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def finished(project: str, tmp_path: Path) -> mlplat.ActiveRun:
    pl.DataFrame({"k": [1], "t": [datetime(2020, 1, 1, tzinfo=timezone.utc)], "x": [1.0]}).write_parquet(
        tmp_path / "raw.parquet"
    )
    features.apply(
        FeatureView(
            "view", entities=[Entity("k")], source=ParquetSource(tmp_path / "raw.parquet", timestamp="t")
        )
    )
    (tmp_path / "model.pkl").write_text("m")
    with mlplat.start_run("delays", "first") as run:
        run.log_metric("mae", 14.25)
        run.log_param("depth", 3)
        run.publish_model("arrival-delay", tmp_path / "model.pkl")
    return run


def test_runs(finished: mlplat.ActiveRun):
    listed = run("runs", "list")
    assert listed.returncode == 0
    head, row = listed.stdout.splitlines()
    assert head.split() == ["RUN", "EXPERIMENT", "NAME", "STATUS", "STARTED", "DURATION", "mae"]
    assert row.startswith(f"{finished.id}  delays")
    assert row.endswith("14.25")
    [found] = json.loads(run("runs", "list", "--json", "--filter", "metrics.mae < 15").stdout)
    assert (found["run_id"], found["metrics"], found["params"]) == (
        finished.id,
        {"mae": 14.25},
        {"depth": "3"},
    )
    assert json.loads(run("runs", "list", "--json", "--experiment", "delays", "--limit", "1").stdout)
    assert run("runs", "list", "--filter", "metrics.mae > 15").stdout.count("\n") == 1

    shown = run("runs", "show", finished.id)
    assert "FINISHED" in shown.stdout
    assert "model.pkl: 1" in shown.stdout
    facts = json.loads(run("runs", "show", finished.id, "--json").stdout)
    assert (facts["status"], facts["artifacts"]) == ("FINISHED", {"model.pkl": 1})


def test_keys_with_commas(project: str):
    with mlplat.start_run("e") as started:
        started.log_metrics({"a,b": 1.0, "c": 2.0, "d": 3.0, 'say "x,y"': 4.0})

    def listed(*arguments: str) -> str:
        head, row = run("runs", "list", *arguments).stdout.splitlines()
        return head.partition("DURATION")[2].strip() + " = " + row.split(" s ")[1].strip()

    assert listed("--metrics", '"a,b",c') == "a,b  c = 1    2"
    assert listed("--metrics", " c , `a,b` ") == "c  a,b = 2  1"
    assert listed("--metrics", "c,d", "--metrics", '`say "x,y"`', "--metrics", "d") == (
        'c  d  say "x,y" = 2  3  4'
    )
    [found] = json.loads(run("runs", "list", "--json", "--metrics", '"a,b"').stdout)
    assert found["metrics"] == {"a,b": 1.0}


def test_what_moves_the_cursor_is_shown(project: str):
    name = "ü\u202egpj 日本　語"
    with mlplat.start_run("e\u202e", name, description="one\ntwo\u202e") as started:
        started.set_tag("t\u202e", "\x1b[2Jv")
    shown = r"ü\u202egpj 日本　語"
    assert shown in run("runs", "list").stdout
    assert any(shown in line for line in on_terminal(200, "runs", "list"))
    facts = run("runs", "show", started.id).stdout
    assert r"one" + "\n" + r"two\u202e" in facts
    assert r"t\u202e: \x1b[2Jv" in facts
    tree = run("runs", "tree", started.id).stdout
    experiments = run("experiments", "list").stdout
    assert r"e\u202e" in experiments
    for output in (facts, tree, experiments):
        assert not {"\u202e", "\x1b"} & set(output)
    [found] = json.loads(run("runs", "list", "--json").stdout)
    assert found["name"] == name


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(width: int, *arguments: str) -> list[str]:
    """The lines that a terminal of this width shows."""
    from mlplat._cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        terminal = Terminal()
        patch.setattr(sys, "stdout", terminal)
        assert main(arguments) == 0
        return terminal.getvalue().splitlines()


def test_a_list_of_runs_with_many_metrics(project: str):
    name = " ".join(["a name that says all there is to say about a run"] * 4)
    keys = [f"metric/{at:02}" for at in range(40)]
    with mlplat.start_run("delays", name) as run:
        run.log_metrics({**dict.fromkeys(keys, 0.5), "system/cpu_percent": 3.0, "zeta": 0.0})
    with mlplat.start_run("delays", name) as run:
        run.log_metrics({**dict.fromkeys(keys, 0.5), "system/cpu_percent": 3.0, "zeta": 1.0})
    command = ("runs", "list")
    whole = run_output("runs", "list").splitlines()
    assert whole[0].split()[-3:] == keys[:3]
    assert whole[1].startswith(run.id)
    assert name in whole[1]
    assert run_output(*command, "--metrics", "zeta,no such").splitlines()[1].split()[-1] == "1"
    assert run_output(*command, "--metrics", "").splitlines()[0].split()[-1] == "DURATION"
    assert run_output(*command, "--order-by", "metrics.zeta ASC").splitlines()[0].split()[-3] == "zeta"
    [first, _] = json.loads(run_output(*command, "--json", "--metrics", "zeta"))
    assert (first["metrics"], first["name"]) == ({"zeta": 1.0}, name)
    assert len(json.loads(run_output(*command, "--json"))[0]["metrics"]) == 42

    for width in (60, 80, 100, 140):
        lines = on_terminal(width, *command)
        assert max(map(len, lines)) <= width
        assert lines[1].startswith(run.id[-12:])
        assert "FINISHED" in lines[1]
        assert "…" in lines[1]
    assert len(on_terminal(140, *command)[0].split()) == 9
    assert name in on_terminal(400, *command)[1]


def test_a_run_is_named_by_the_end_of_its_id(finished: mlplat.ActiveRun):
    end = finished.id[-12:]
    assert finished.id in run_output("runs", "show", end)
    assert run_output("runs", "tree", end.upper()) == run_output("runs", "tree", finished.id)
    run_output("runs", "delete", end)
    assert mlplat.get_run(finished.id, view="deleted").deleted_at is not None
    run_output("runs", "restore", end)
    unknown = run("runs", "show", "0123456789ab")
    assert (unknown.returncode, "0123456789ab" in unknown.stderr) == (1, True)


def test_json_is_json_whatever_was_logged(project: str):
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    with mlplat.start_run("e") as logged:
        logged.log_metrics({"nan": math.nan, "up": math.inf, "down": -math.inf, "one": 1.0})
    expected = {"nan": "NaN", "up": "Infinity", "down": "-Infinity", "one": 1.0}
    for arguments in (["list"], ["show", logged.id]):
        printed = run("runs", *arguments, "--json").stdout
        found = json.loads(printed, parse_constant=refuse)
        assert (found[0] if isinstance(found, list) else found)["metrics"] == expected


def test_features(finished: mlplat.ActiveRun):
    assert "view" in run("features", "list").stdout
    [view] = json.loads(run("features", "list", "--json").stdout)
    assert (view["name"], view["join_keys"], view["schema"]) == ("view", ["k"], {"x": "Float64"})


def test_models(finished: mlplat.ActiveRun):
    assert "arrival-delay" in run("models", "list").stdout
    [model] = json.loads(run("models", "list", "--json").stdout)
    assert (model["name"], model["latest_version"]) == ("arrival-delay", 1)
    assert "DEVELOPMENT" in run("models", "show", "arrival-delay").stdout
    version = json.loads(run("models", "show", "arrival-delay@1", "--json").stdout)
    assert (version["version"], version["metrics"]) == (1, {"mae": 14.25})


def test_lineage(finished: mlplat.ActiveRun, tmp_path: Path):
    shown = run("lineage", "show", "model:arrival-delay@1")
    assert "experiments/delays" in shown.stdout
    graph = json.loads(run("lineage", "show", finished.id, "--direction", "both", "--json").stdout)
    assert graph["nodes"]
    assert graph["edges"]
    picture = tmp_path / "lineage.svg"
    assert run("lineage", "show", finished.id, "--svg", str(picture)).stdout == ""
    assert picture.read_text().startswith("<svg")


def test_failures_are_short_and_tell_by_the_exit_code(project: str):
    unknown = run("runs", "show", "01941f29-7c00-7000-8000-000000000000")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("mlplat: ")
    assert "Traceback" not in unknown.stderr
    nobody = run("runs", "list", "--url", "http://127.0.0.1:1")
    assert nobody.returncode == 1
    assert "is it running" in nobody.stderr
    assert run("runs").returncode == 2
    assert run("--version").stdout == f"mlplat {mlplat.__version__}\n"


def test_the_server_command_becomes_the_server(tmp_path: Path):
    fake = tmp_path / "mlplat-server"
    fake.write_text('#!/bin/sh\necho "server $@"\nexit 3\n')
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    code = (
        "import os, sys, sysconfig\n"
        "sysconfig.get_path = lambda *a: '/nowhere'\n"
        "sys.executable = sys.argv[0] = '/nowhere/python'\n"
        "from mlplat._cli import main\n"
        "sys.exit(main(['server', '--listen', '127.0.0.1:0', '--json']))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert (found.returncode, found.stdout) == (3, "server --listen 127.0.0.1:0 --json\n")
    missing = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PATH": "/nowhere"}
    )
    assert missing.returncode == 1
    assert "pip install mlplat-server" in missing.stderr
