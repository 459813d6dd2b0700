"""The client of crash_matrix.py: logs numbers that can be recognized, and notes each call that returned in a mapped file,
which the kernel keeps when the process is killed."""

from __future__ import annotations

import mmap
import os
import random
import select
import signal
import struct
import time

import mlplat
from processes import serve_task

ENDLESS = 1 << 40


class Noted:
    """36 bytes for the run, then a counter for this process and one for each child."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 4096)

    def run(self, run_id: str) -> None:
        self.map[:36] = run_id.encode("ascii")

    def calls(self, count: int, slot: int = 0) -> None:
        struct.pack_into("<Q", self.map, 64 + 8 * slot, count)


def log(noted: str, seed: int, calls: int = ENDLESS) -> None:
    """Logs fast, with a pause now and then; the end of the run delivers what is left."""
    notes, source = Noted(noted), random.Random(seed)
    with mlplat.start_run("crash") as run:
        notes.run(run.id)
        log_calls(run, notes, source, calls)
        deliver(run)


def deliver(run: mlplat.ActiveRun, patience_s: float = 60) -> None:
    """Waits until all is stored, however long the world is down."""
    deadline = time.monotonic() + patience_s
    while run.flush() is False and time.monotonic() < deadline:
        time.sleep(0.2)


def log_calls(
    run: mlplat.ActiveRun,
    notes: Noted,
    source: random.Random,
    calls: int,
    prefix: str = "",
    slot: int = 0,
    first: int = 0,
) -> None:
    for step in range(first, calls):
        run.log_metrics(
            {f"{prefix}a": float(step), f"{prefix}b": float(-step), f"{prefix}c": step / 2}, step=step
        )
        notes.calls(step + 1, slot)
        if source.random() < 0.02:
            # Not time.sleep: it waits for a time of a clock, and that clock may be set back.
            select.select([], [], [], source.random() / 50)


def forks(noted: str, seed: int, calls: int, kill_children: bool = False) -> None:
    """A parent and 4 children log to one run at the same time; the children leave without any goodbye."""
    notes, source = Noted(noted), random.Random(seed)
    with mlplat.start_run("crash") as run:
        notes.run(run.id)
        log_calls(run, notes, source, 100)
        children = []
        for at in range(4):
            pid = os.fork()
            if pid == 0:
                log_calls(run, notes, random.Random(seed + at), calls // 4, f"child{at}_", 1 + at)
                os.kill(os.getpid(), signal.SIGKILL) if kill_children else os._exit(0)
            children.append(pid)
        log_calls(run, notes, source, calls, first=100)
        for pid in children:
            os.waitpid(pid, 0)
        deliver(run)


def check(run_id: str, calls: dict[str, int]) -> dict:
    """What the server has of the calls that returned; `calls` by the prefix of their keys."""
    found = {"logged": 0, "stored": 0, "lost": 0, "doubled": 0, "wrong": 0}
    try:
        run = mlplat.get_run(run_id)
    except mlplat.NotFoundError:
        lost = 3 * sum(calls.values())
        return {**found, "logged": lost, "lost": lost}
    for prefix, count in calls.items():
        for key, factor in (("a", 1.0), ("b", -1.0), ("c", 0.5)):
            points = run.metric_history(prefix + key).to_arrow()
            steps, values = points["step"].to_pylist(), points["value"].to_pylist()
            found["logged"] += count
            found["stored"] += len(steps)
            found["lost"] += count - len(set(steps) & set(range(count)))
            found["doubled"] += len(steps) - len(set(steps))
            found["wrong"] += sum(value != step * factor for step, value in zip(steps, values, strict=True))
            # One more may be there: the call in which it was killed.
            found["wrong"] += any(step < 0 or step > count for step in steps)
    return found


if __name__ == "__main__":
    serve_task({task.__name__: task for task in (log, forks, check)})
