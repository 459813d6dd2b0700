"""Runs that go on in another process: what the last one left belongs before, whenever it arrives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlplat
import pytest
from worlds import DIE, World

RESUME = """
import sys, time, mlplat
with mlplat.start_run(run_id={run_id!r}{rewind}) as run:
    for step in range(50, 80):
        run.log_metrics({{"a": 1000 + step}}, step=step)
    print("logged", flush=True)
    sys.stdin.readline()
"""


def begin(world: World, code: str) -> subprocess.Popen[str]:
    """A process that goes on when it is told."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code], env=world.env, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def resume(world: World, run_id: str, rewind: str = ", resume_from=50") -> subprocess.Popen[str]:
    """A process that has taken the run up again while there is no server, and lives."""
    process = begin(world, RESUME.format(run_id=run_id, rewind=rewind))
    assert line(process) == "logged"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate("\n", timeout=120)
    assert process.returncode == 0, said
    assert "REFUSES" not in said


def points(run_id: str, **options: Any) -> list[tuple[int, float]]:
    history = mlplat.get_run(run_id).metric_history("a", **options).to_arrow()
    return list(zip(history["step"].to_pylist(), history["value"].to_pylist(), strict=True))


BEFORE = [(step, float(step)) for step in range(100)]
AFTER = BEFORE[:50] + [(step, 1000.0 + step) for step in range(50, 80)]


def test_all_of_it_was_logged_without_a_server(world: World):
    run_id = world.die_after(100)
    process = resume(world, run_id)
    world.start()
    finish(process)
    world.sync()
    mlplat.connect(world.url)
    assert points(run_id) == AFTER
    assert points(run_id, branch=0) == BEFORE
    assert mlplat.get_run(run_id).status == "FINISHED"


def test_a_part_of_it_was_delivered(world: World):
    world.start()
    code = """
import os, signal, sys, mlplat
run = mlplat.start_run("e", "dies")
for step in range(30):
    run.log_metrics({"a": step}, step=step)
assert run.flush(30)
print(run.id, flush=True)
sys.stdin.readline()
for step in range(30, 100):
    run.log_metrics({"a": step}, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""
    first = begin(world, code)
    run_id = line(first)
    world.kill()
    first.communicate("\n", timeout=60)
    process = resume(world, run_id)
    world.start()
    finish(process)
    mlplat.connect(world.url)
    assert points(run_id) == AFTER
    assert points(run_id, branch=0) == BEFORE


def test_another_machine_went_on_meanwhile(world: World, tmp_path: Path):
    """The first machine comes back when the second one has finished: its points are of the older branch, its end of nobody."""
    world.start()
    code = """
import os, sys, mlplat
run = mlplat.start_run("e", "first")
for step in range(30):
    run.log_metrics({"a": step}, step=step)
assert run.flush(30)
print(run.id, flush=True)
sys.stdin.readline()
if os.fork() == 0:
    run.log_metrics({"forked": 7.0}, step=99)
    os._exit(0)
os.wait()
for step in range(30, 100):
    run.log_metrics({"a": step}, step=step)
run.log_params({"late": 1})
run.end("FAILED")
"""
    first = begin(world, code)
    run_id = line(first)
    world.kill()
    _, said = first.communicate("\n", timeout=60)
    assert "records are not delivered yet" in said
    world.start()
    elsewhere = {"MLPLAT_HOME": str(tmp_path / "elsewhere")}
    went_on = world.python(
        RESUME.format(run_id=run_id, rewind=", resume_from=50").replace("sys.stdin.readline()", ""),
        **elsewhere,
    )
    assert went_on.returncode == 0, went_on.stderr
    mlplat.connect(world.url)
    # What the first one had not delivered is missing so far.
    assert points(run_id) == BEFORE[:30] + AFTER[50:]
    world.sync()
    assert world.journals() == []
    assert points(run_id) == AFTER
    assert points(run_id, branch=0) == BEFORE
    run = mlplat.get_run(run_id)
    assert (run.status, run.params, run.metrics) == ("FINISHED", {"late": "1"}, {"a": 1079.0})
    forked = run.metric_history("forked", branch=0).to_arrow()
    assert forked["step"].to_pylist() == [99]


def test_the_last_end_is_the_one_that_holds(world: World):
    run_id = world.die_after(60, then='run.end("FAILED")')
    process = resume(world, run_id, rewind="")
    world.start()
    finish(process)
    world.sync()
    mlplat.connect(world.url)
    run = mlplat.get_run(run_id)
    assert (run.status, run.status_message) == ("FINISHED", "")


def test_clocks_may_have_been_set_back(world: World):
    run_id = world.die_after(100)
    process = resume(world, run_id)
    process.kill()
    process.communicate()
    # The one that went on is taken for the older one.
    (_, went_on) = world.journals()
    earlier = went_on.with_name("00000000" + went_on.name[8:])
    meta = (went_on / "meta.json").read_text().replace(went_on.name, earlier.name)
    (went_on / "meta.json").write_text(meta)
    went_on.rename(earlier)
    world.start()
    world.sync()
    mlplat.connect(world.url)
    assert points(run_id) == AFTER
    assert points(run_id, branch=0) == BEFORE


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_run_that_dies_at_once_is_heard_of(world: World, seconds: float):
    world.start()
    run_id = world.die_after(1, then=f"run.flush(); import time; time.sleep({seconds}); {DIE}")
    mlplat.connect(world.url)
    assert mlplat.get_run(run_id).heartbeat_at is not None


def test_flush_says_when_something_was_refused(world: World):
    world.start()
    code = """
import mlplat
run = mlplat.start_run("e", "r")
run.log_metric("s", 1.0, step=2**63 - 1)
print(run.flush(30), flush=True)
run.log_metric("s", 2.0)  # behind the last step there is
print(run.flush(30))
"""
    done = world.python(code)
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.skipif(not hasattr(os, "execv"), reason="no exec here")
def test_a_program_that_replaces_itself_leaves_its_journal_to_the_next(world: World):
    world.start()
    code = """
import os, sys, mlplat
run = mlplat.start_run("e", "first image")
for step in range(500):
    run.log_metric("a", step, step=step)
print(run.id, flush=True)
os.execv(sys.executable, [sys.executable, "-c", "import mlplat, sys; mlplat.start_run('e', 'second').flush(30); sys.stdin.readline()"])
"""
    process = begin(world, code)
    run_id = line(process)
    mlplat.connect(world.url)
    deadline = time.monotonic() + 30
    while True:
        try:
            if len(points(run_id)) == 500:
                break
        except mlplat.NotFoundError:
            pass
        assert time.monotonic() < deadline, "while the second image lives"
        time.sleep(0.2)
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
