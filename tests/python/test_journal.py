"""The journal: what survives what. Each test ends with every point at the server once: 0 lost, 0 doubled.

`python tests/python/kill_matrix.py 100` repeats the deaths of the first tests as often as one likes.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlplat
import pytest
from worlds import DIE, LOG_AND_DIE, SLOW, World


def written(segment: Path) -> bytes:
    """A segment without the space that is reserved behind what was written."""
    return segment.read_bytes().rstrip(b"\0")


def test_killed_right_after_the_last_call_with_a_server(world: World):
    world.start()
    for count in (1, 50, 3000):
        run_id = world.die_after(count)
        world.sync()
        world.check(run_id, count)
        assert mlplat.get_run(run_id).status == "RUNNING"
    assert world.journals() == []


def test_killed_right_after_the_last_call_without_a_server(world: World):
    runs = [(world.die_after(count), count) for count in (1, 3000)]
    assert len(world.journals()) == 2
    failed = world.sync()
    assert failed["code"] == 1
    assert all("is it running" in journal["left"] for journal in failed["journals"])
    world.start()
    done = world.sync()
    assert done["code"] == 0
    assert sorted(journal["points"] for journal in done["journals"]) == [3, 9000]
    for run_id, count in runs:
        world.check(run_id, count)
    assert world.journals() == []
    assert world.sync()["journals"] == []


def test_the_next_process_delivers_what_is_left(world: World):
    run_id = world.die_after(100)
    world.start()
    code = (
        "import mlplat, time\n"
        "mlplat.start_run('e').flush()\n"
        "import pathlib, os\n"
        "left = lambda: list(pathlib.Path(os.environ['MLPLAT_HOME'], 'journal').glob('*/meta.json'))\n"
        "end = time.monotonic() + 20\n"
        "while len(left()) > 1 and time.monotonic() < end: time.sleep(0.05)\n"
    )
    assert world.python(code).returncode == 0
    world.check(run_id, 100)
    assert world.journals() == []


def test_a_whole_run_without_a_server_is_delivered_with_its_times(world: World):
    began = time.time()
    run_id = world.die_after(20, then="run.log_param('p', 1); run.set_tag('t', 'x'); mlplat.end_run()")
    ended = time.time()
    time.sleep(1)
    world.start()
    assert world.sync()["code"] == 0
    world.check(run_id, 20)
    run = mlplat.get_run(run_id)
    assert (run.status, run.name, run.params, run.tags) == ("FINISHED", "dies", {"p": "1"}, {"t": "x"})
    assert began <= run.started_at.timestamp() <= ended
    assert run.ended_at is not None
    assert run.ended_at.timestamp() <= ended
    assert world.journals() == []


def test_what_is_left_is_told(world: World):
    done = world.python(LOG_AND_DIE.format(count=10, then="run.end()"))
    assert done.returncode == 0
    assert "12 records are not delivered yet" in done.stderr
    assert "mlplat sync" in done.stderr
    assert "Traceback" not in done.stderr


def test_both_are_killed(world: World):
    world.start()
    command = [sys.executable, "-c", SLOW.format(count=1_000_000)]
    process = subprocess.Popen(command, env=world.env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    time.sleep(1)
    assert world.server is not None
    world.server.process.kill()
    process.kill()
    process.wait()
    process.stdout.close()
    world.kill()
    world.start()
    world.sync()
    mlplat.connect(world.url)
    count = len(mlplat.get_run(run_id).metric_history("a"))
    assert count > 1000
    # The last record may hold some of the keys only if it was torn; it cannot be, as it is one write.
    world.check(run_id, count)


def test_two_deliverers_at_once(world: World):
    run_id = world.die_after(60_000)
    world.start()
    command = [sys.executable, "-m", "mlplat", "sync"]
    both = [subprocess.Popen(command, env=world.env, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(timeout=60) for process in both] == [0, 0, 0]
    world.check(run_id, 60_000)
    assert world.journals() == []


def test_a_quota_that_is_used_up(world: World):
    code = """
import mlplat
run = mlplat.start_run("e", "much")
for step in range(600_000):
    run.log_metrics({"a": step, "b": step * 0.5, "c": -step}, step=step)
print(run.id, flush=True)
run.end()
"""
    done = world.python(code, MLPLAT_JOURNAL_QUOTA="4M", MLPLAT_OFFLINE_TIMEOUT="0.2")
    assert done.returncode == 0, done.stderr
    assert "MLPLAT_JOURNAL_QUOTA" in done.stderr
    assert "IS LOST" in done.stderr
    assert "RECORDS ARE LOST" in done.stderr
    size = sum(file.stat().st_size for file in world.home.rglob("*.seg"))
    assert size <= 4 << 20
    world.start()
    world.sync()
    mlplat.connect(world.url)
    # What was kept is what came first, without a gap.
    count = len(mlplat.get_run(done.stdout.strip()).metric_history("a"))
    assert count > 50_000
    world.check(done.stdout.strip(), count)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="cannot mount")
def test_a_full_disk(world: World, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user cannot mount a tmpfs")
    try:
        world.start()
        code = SLOW.format(count=200_000).replace("time.sleep(0.02)", "time.sleep(0.001)")
        # With a server the disk is only a buffer: all arrives.
        done = world.python(code, MLPLAT_HOME=str(disk))
        assert done.returncode == 0, done.stderr
        world.check(done.stdout.split()[0], 200_000)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_the_server_refuses_does_not_stop_the_rest(world: World):
    world.start()
    code = """
import mlplat
mlplat.create_experiment("gone")
mlplat.delete_experiment("gone")
good = mlplat.start_run("e", "good")
good.log_metric("m", 1.0, step=0)
bad = mlplat.start_run("gone", "bad", parent=None)
bad.log_metric("m", 1.0)
bad.end()
good.log_metric("m", 2.0, step=1)
good.end()
print(good.id, bad.id)
"""
    done = world.python(code)
    assert done.returncode == 0, done.stderr
    assert "THE SERVER REFUSES" in done.stderr
    good, bad = done.stdout.split()
    mlplat.connect(world.url)
    assert mlplat.get_run(good).metric_history("m").to_arrow()["value"].to_pylist() == [1.0, 2.0]
    with pytest.raises(mlplat.NotFoundError):
        mlplat.get_run(bad)
    report = world.sync()
    assert (report["journals"], report["rejected"]) == ([], 1)
    # It is kept, and can be tried again, with the same result.
    again = world.sync("--rejected")
    assert again["journals"][0]["rejected"] == 3
    assert again["rejected"] == 1
    assert again["journals"][0]["owner"] == ""
    command = [sys.executable, "-m", "mlplat", "sync", "--rejected"]
    told = subprocess.run(command, env=world.env, capture_output=True, text=True, timeout=120).stdout
    assert f"{world.url} default (refused before): sent 3 records" in told
    assert "3 records were refused by the server, and are kept" in told


def test_refused_files_stay_with_their_records(world: World):
    world.start()
    code = """
import mlplat
mlplat.create_experiment("gone")
mlplat.delete_experiment("gone")
with mlplat.start_run("gone", "z") as run:
    run.log_text("hello", "notes/a.md")
print(run.id)
"""
    done = world.python(code)
    assert "THE SERVER REFUSES" in done.stderr
    [run_id] = done.stdout.split()
    mlplat.connect(world.url)
    mlplat.restore_experiment("gone")
    world.sync("--rejected")
    assert mlplat.get_run(run_id).read_artifact("notes/a.md") == b"hello"
    assert not [path for path in (world.home / "rejected").rglob("*") if path.is_file()]


def test_a_nested_run_waits_for_its_parent(world: World):
    outer = world.die_after(1)
    [parent] = world.journals()
    code = f"""
import os, mlplat
run = mlplat.start_run("e", "inner", parent="{outer}")
run.log_metric("m", 1.0)
print(run.id, flush=True)
os._exit(0)
"""
    inner = world.python(code).stdout.strip()
    # The child is found first.
    aside = world.home / "aside"
    parent.rename(aside)
    world.start()
    [left] = world.sync()["journals"]
    assert (left["rejected"], left["records"]) == (0, 0)
    assert left["left"] is not None
    aside.rename(parent)
    world.sync()
    mlplat.connect(world.url)
    run = mlplat.get_run(inner)
    assert (run.parent_run_id, run.metrics["m"]) == (outer, 1.0)
    assert world.journals() == []


def test_a_run_that_goes_on_takes_what_is_said_of_it_now(world: World):
    world.start()
    mlplat.connect(world.url)
    with mlplat.start_run("e", "first", tags={"a": "1", "b": "1"}) as run:
        pass
    with mlplat.start_run(run_id=run.id, name="second", description="notes", tags={"b": "2"}) as again:
        assert again.name == "second"
    with mlplat.start_run(run_id=run.id):
        pass
    found = mlplat.get_run(run.id)
    assert (found.name, found.description) == ("second", "notes")
    assert {key: found.tags[key] for key in "ab"} == {"a": "1", "b": "2"}


def test_inputs_are_kept_while_there_is_no_server(world: World):
    code = """
import mlplat
with mlplat.start_run("e", "r") as run:
    run.log_input({"a": [1, 2]}, "training", name="pairs")
print(run.id)
"""
    done = world.python(code)
    assert done.returncode == 0, done.stderr
    world.start()
    world.sync()
    mlplat.connect(world.url)
    [kept] = mlplat.get_run(done.stdout.strip()).inputs
    assert (kept.name, kept.context, kept.rows) == ("pairs", "training", 2)


def test_damage_is_told_and_costs_no_more_than_it_must(world: World):
    run_id = world.die_after(1000)
    [journal] = world.journals()
    segment = journal / "000001.seg"
    content = bytearray(written(segment))
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    world.start()
    report = world.sync()
    assert "damaged" in report["stderr"]
    mlplat.connect(world.url)
    count = len(mlplat.get_run(run_id).metric_history("a"))
    assert 400 < count < 600
    world.check(run_id, count)
    assert list((world.home / "rejected").glob("damaged-*.seg"))
    assert world.journals() == []


def test_a_torn_end_is_cut(world: World):
    run_id = world.die_after(10)
    [journal] = world.journals()
    segment = journal / "000001.seg"
    content = written(segment)
    reserved = bytes(len(segment.read_bytes()) - len(content))
    segment.write_bytes(content[:-5] + reserved)
    world.start()
    report = world.sync()
    assert "damaged" not in report["stderr"]
    world.check(run_id, 9)


def log_in_child(run: mlplat.ActiveRun, at: int) -> None:
    def work(thread: int) -> None:
        for step in range(200):
            run.log_metric(f"child{at}/{thread}", step, step=step)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.usefixtures("project")
def test_forks_while_threads_log():
    stop = threading.Event()
    counts = [0, 0]

    def work(thread: int) -> None:
        while not stop.is_set():
            run.log_metric(f"parent/{thread}", counts[thread], step=counts[thread])
            counts[thread] += 1

    with mlplat.start_run("e") as run:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(2)]
        for thread in threads:
            thread.start()
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=log_in_child, args=(run, at)) for at in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0, 0, 0, 0]
        stop.set()
        for thread in threads:
            thread.join()
    again = mlplat.get_run(run.id)
    for thread, count in enumerate(counts):
        assert again.metric_history(f"parent/{thread}").to_arrow()["step"].to_pylist() == list(range(count))
    for at in range(4):
        for thread in range(3):
            steps = again.metric_history(f"child{at}/{thread}").to_arrow()["step"].to_pylist()
            assert steps == list(range(200))


@pytest.mark.usefixtures("project")
def test_spooled_files_arrive_in_order(tmp_path: Path):
    with mlplat.start_run("e") as run:
        (tmp_path / "f").write_text("one")
        run._spool(tmp_path / "f", "texts/f.txt")
        (tmp_path / "f").write_text("two")
        run._spool(tmp_path / "f", "texts/f.txt")
        run._spool(b"bytes", "b.bin", "application/x-b")
        with pytest.raises(mlplat.FileError):
            run._spool(tmp_path / "nothing", "n")
        with pytest.raises(mlplat.MisuseError):
            run._spool(b"", "../n")
    again = mlplat.get_run(run.id)
    assert [(file.path, file.size_bytes) for file in again.artifacts()] == [("b.bin", 5), ("texts/f.txt", 3)]
    assert Path(again.download_artifact("texts/f.txt")).read_text() == "two"
    assert next(file.media_type for file in again.artifacts()) == "application/x-b"


def test_spooled_files_survive_a_kill(world: World):
    run_id = world.die_after(3, then=f"run._spool(b'content', 'd/f.txt'); {DIE}")
    world.start()
    world.sync()
    mlplat.connect(world.url)
    assert [file.path for file in mlplat.get_run(run_id).artifacts()] == ["d/f.txt"]
    assert world.journals() == []


def test_what_is_delivered_late_tells_when_its_process_was_last_heard_of(world: World):
    run_id = world.die_after(3)
    (alive,) = world.home.glob("journal/*/alive")
    os.utime(alive, (last := time.time() - 3600, last))
    world.start()
    world.sync()
    mlplat.connect(world.url)
    heard_of = mlplat.get_run(run_id).heartbeat_at
    assert heard_of is not None
    assert abs(heard_of.timestamp() - last) < 1


def test_a_crashed_run_is_resumed_from_a_step(world: World):
    world.start()
    run_id = world.die_after(100)
    code = f"""
import mlplat
with mlplat.start_run(run_id={run_id!r}, resume_from=50) as run:
    assert run.name == "dies", run
    for step in range(50, 120):
        run.log_metrics({{"a": step, "b": step * 0.5, "c": -step}}, step=step)
"""
    done = world.python(code)
    assert done.returncode == 0, done.stderr
    world.check(run_id, 120)
    assert mlplat.get_run(run_id).status == "FINISHED"


def test_ranks_join_a_run_that_is_not_delivered_yet(world: World):
    main = world.python(LOG_AND_DIE.format(count=5, then="mlplat.end_run()"))
    run_id = main.stdout.split()[0]
    rank = world.python("import mlplat; mlplat.log_metric('rank', 1.0, step=0)", MLPLAT_RUN_ID=run_id)
    assert rank.returncode == 0, rank.stderr
    world.start()
    assert world.sync()["code"] == 0
    world.check(run_id, 5)
    assert mlplat.get_run(run_id).metrics["rank"] == 1.0


def test_a_home_that_cannot_be_written(world: World, tmp_path: Path):
    (tmp_path / "file").write_text("")
    world.start()
    done = world.python(
        LOG_AND_DIE.format(count=500, then="assert run.flush(20)"), MLPLAT_HOME=str(tmp_path / "file")
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stderr
    world.check(done.stdout.split()[0], 500)


def test_the_home_stays_clean(world: World):
    world.start()
    done = world.python(LOG_AND_DIE.format(count=100, then="run.end()"))
    assert (done.returncode, done.stderr) == (0, "")
    assert world.journals() == []
    assert shutil.which("true") is None or not (world.home / "rejected").exists()
