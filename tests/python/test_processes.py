"""Forks, signals, threads and asyncio: the runtime behind the package must survive all of them."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import mlplat
import pytest

if TYPE_CHECKING:
    from worlds import World

pytestmark = pytest.mark.usefixtures("project")


def child_logs(run: mlplat.ActiveRun, at: int) -> None:
    for step in range(10):
        run.log_metric(f"child{at}", step, step=step)
    os._exit(0 if mlplat.get_run(run.id).status == "RUNNING" else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_log_to_the_run():
    with mlplat.start_run("e") as run:
        run.log_metric("parent", 0, step=0)
        children = []
        for at in range(3):
            pid = os.fork()
            if pid == 0:
                child_logs(run, at)
            children.append(pid)
        for step in range(10):
            run.log_metric("parent", step, step=step)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    again = mlplat.get_run(run.id)
    assert again.metrics == {"parent": 9.0, "child0": 9.0, "child1": 9.0, "child2": 9.0}
    # Every child is a writer of its own: nothing was taken for a repetition.
    assert all(len(again.metric_history(f"child{at}")) == 10 for at in range(3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_end_the_run():
    with mlplat.start_run("e") as run:
        pid = os.fork()
        if pid == 0:
            run.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(pid, 0)
        assert mlplat.get_run(run.id).status == "RUNNING"


def log_in_worker(arguments: tuple[str, int]) -> float:
    run_id, at = arguments
    mlplat.log_metric(f"w{at}", at)
    return mlplat.get_run(run_id).metrics[f"w{at}"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_pool_of_processes():
    with mlplat.start_run("e") as run, multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(log_in_worker, [(run.id, at) for at in range(6)]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def log_as_told(run_id: str) -> None:
    os.environ["MLPLAT_RUN_ID"] = run_id
    mlplat.log_metric("worker", 1.0)
    run = mlplat.active_run()
    assert run is not None
    run.log_metric("joined", 2.0)


def test_a_run_is_not_pickled_and_says_what_to_do():
    with mlplat.start_run("e") as run:
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"send `run\.id`.* MLPLAT_RUN_ID") as caught:
                take(run)
            assert isinstance(caught.value, mlplat.MisuseError)
        for way in set(multiprocessing.get_all_start_methods()) - {"forkserver"}:
            worker = multiprocessing.get_context(way).Process(target=log_as_told, args=(run.id,))  # pyright: ignore
            worker.start()
            worker.join()
            assert worker.exitcode == 0
        again = mlplat.get_run(run.id)
        assert (again.status, again.metrics) == ("RUNNING", {"worker": 1.0, "joined": 2.0})
        assert len(again.metric_history("worker")) == 2


def test_ctrl_c_interrupts_a_call(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code = (
            "import mlplat\n"
            f"mlplat.connect('http://127.0.0.1:{silent.getsockname()[1]}')\n"
            "print('calling', flush=True)\n"
            "mlplat.server_info()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "calling\n"
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
        assert time.monotonic() - began < 2
        assert "KeyboardInterrupt" in stderr


def test_other_threads_run_during_a_call():
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(20):
        mlplat.server_info()
    stop.set()
    thread.join()
    assert counted > 1000


def test_asyncio_twins(tmp_path):
    (tmp_path / "f").write_text("x")

    async def work() -> str:
        aio = mlplat.aio
        async with aio.start_run("e", "async") as run:
            await asyncio.gather(*(run.log_metric("m", step, step=step) for step in range(50)))
            await aio.log_param("p", 1)
            await run.log_artifact(tmp_path / "f")
            version = await run.publish_model("m", "f")
            async with aio.start_run(name="child") as child:
                assert child.parent_run_id == run.id
        found = await aio.get_run(run.id)
        assert (found.status, found.params) == ("FINISHED", {"p": "1"})
        assert len(await found.metric_history("m")) == 50
        assert [file.path for file in await found.artifacts()] == ["f"]
        assert (await aio.models.get_version("m")).version == version.version
        assert (await aio.search_runs(experiment="e")).num_rows == 2
        assert (await aio.lineage.upstream(version)).nodes
        with pytest.raises(mlplat.NotFoundError):
            await aio.models.get_model("nothing")
        return run.id

    run_id = asyncio.run(work())
    assert mlplat.get_run(run_id).status == "FINISHED"


def test_asyncio_errors_and_cancelling_end_runs():
    started: list[str] = []

    async def fails() -> None:
        async with mlplat.aio.start_run("e") as run:
            started.append(run.id)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        asyncio.run(fails())
    assert mlplat.get_run(started[0]).status == "FAILED"

    async def cancelled() -> str:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            async with mlplat.aio.start_run("e") as run:
                started.set_result(run.id)
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        run_id = await started
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return run_id

    assert mlplat.get_run(asyncio.run(cancelled())).status == "KILLED"


def test_the_event_loop_stays_free_during_a_call():
    async def work() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        for _ in range(10):
            await mlplat.aio.server_info()
        ticking.cancel()
        return ticks

    assert asyncio.run(work()) > 10


def test_a_call_that_times_out_is_dropped():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mlplat.connect(f"http://127.0.0.1:{silent.getsockname()[1]}")

        async def work() -> None:
            await asyncio.wait_for(mlplat.aio.server_info(), 0.2)

        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(work())


INTERRUPTED = """
import os, signal, sys, threading, time, mlplat

def interrupt():
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)

run = mlplat.start_run("e")
run.log_metric("m", 1.0)
threading.Thread(target=interrupt, daemon=True).start()
try:
    {wait}
except KeyboardInterrupt:
    print(run.status, flush=True)
    {after}
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize(
    ("wait", "after", "said"),
    [
        ("run.end('FAILED', 'by hand')", "", "FAILED"),
        ("run.end()", "raise", "FINISHED"),
        ("run.flush()", "", "RUNNING"),
        # At the exit of the process nobody is there to catch it.
        ("sys.exit()", "", ""),
    ],
)
def test_an_interrupt_ends_the_waiting(world: World, wait: str, after: str, said: str):
    began = time.monotonic()
    done = world.python(
        INTERRUPTED.format(wait=wait, after=after), MLPLAT_OFFLINE_TIMEOUT="60", MLPLAT_FLUSH_TIMEOUT="60"
    )
    assert time.monotonic() - began < 20
    assert done.stdout.strip() == said
    assert "records are not delivered yet" in done.stderr
    assert "They are safe in" in done.stderr
    assert ("KeyboardInterrupt" in done.stderr) == bool(after)
    assert done.returncode == (-2 if after else 0)
    world.start()
    world.sync()
    mlplat.connect(world.url, "default")
    [run] = mlplat.find_runs()
    assert run.status == (said if said in ("FAILED", "FINISHED") else "FINISHED")
    assert run.metrics == {"m": 1.0}


def test_a_cancelled_task_ends_the_run(world: World):
    done = world.python(
        "import asyncio, mlplat.aio\n"
        "async def main():\n"
        "    run = await mlplat.aio.start_run('e')\n"
        "    try:\n"
        "        await asyncio.wait_for(run.end(), 0.5)\n"
        "    except asyncio.TimeoutError:\n"
        "        print(run.status)\n"
        "asyncio.run(main())",
        MLPLAT_OFFLINE_TIMEOUT="3",
    )
    assert (done.stdout.strip(), done.returncode) == ("FINISHED", 0)
    world.start()
    world.sync()
    mlplat.connect(world.url, "default")
    assert [run.status for run in mlplat.find_runs()] == ["FINISHED"]
