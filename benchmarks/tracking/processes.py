"""Processes as /proc shows them, and tasks that run in one of their own. Only the standard library: the peers' virtual
environments import this too."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    try:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        # It has ended just now.
        return found
    for task in tasks:
        try:
            children = task.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU that a process and all below it have used, children that have ended included."""
    total = 0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/stat").read_text(encoding="ascii")
        except OSError:
            continue
        total += sum(int(field) for field in text.rsplit(")", 1)[1].split()[11:15])
    return total / TICKS


def memory_mb(pid: int, what: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most since the last reset) of a process and all below it, in MB."""
    total = 0
    for one in tree(pid):
        try:
            status = Path(f"/proc/{one}/status").read_text(encoding="ascii")
        except OSError:
            continue
        total += sum(int(kb) for kb in re.findall(rf"{what}:\s+(\d+) kB", status))
    return total / 1024


def reset_peak(pid: int) -> None:
    """Lets `VmHWM` begin anew."""
    for one in tree(pid):
        try:
            Path(f"/proc/{one}/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            continue


def end(process: subprocess.Popen, patience_s: float = 20) -> None:
    """Ends a process of ours and what it started: first as an operator would, then by force."""
    below = tree(process.pid)[1:] if process.poll() is None else []
    process.terminate()
    try:
        process.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in below:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


class TaskError(RuntimeError):
    """A task that ended badly; the text is what it said last."""


class Task:
    """A function of one of the task files, in a process of its own; what it returns comes back as JSON."""

    def __init__(self, python: Path | str, script: Path, name: str, arguments: dict, env: dict[str, str]):
        command = [str(python), str(script), name, json.dumps(arguments)]
        self.name = f"{script.stem} {name}"
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )

    def result(self, timeout_s: float = 900) -> dict:
        """Waits for its end."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            end(self.process, 1)
            raise TaskError(f"{self.name} did not end within {timeout_s:.0f} s") from None
        if self.process.returncode != 0:
            said = (err or out).strip().splitlines()
            raise TaskError(f"{self.name} ended with {self.process.returncode}: {' / '.join(said[-4:])}")
        return json.loads(out.strip().splitlines()[-1])

    def killed_itself(self, timeout_s: float = 120) -> str:
        """Waits for a task that ends by SIGKILL, and returns the first line that it printed."""
        out, err = self.process.communicate(timeout=timeout_s)
        if self.process.returncode != -signal.SIGKILL:
            raise TaskError(f"{self.name} ended with {self.process.returncode}: {err.strip()[-500:]}")
        return out.splitlines()[0]


def serve_task(tasks: dict[str, Callable[..., dict | None]]) -> None:
    """What a task file does when it is run: one of its functions, by name."""
    result = tasks[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.flush()
    print(json.dumps(result or {}), flush=True)


def wait_for(start_at: float) -> None:
    """Sleeps until this time of day, so that several processes begin together."""
    time.sleep(max(0.0, start_at - time.time()))


class Clocked:
    """What a block took: `.wall` and `.cpu` (of this process and of those below it), in seconds."""

    def __enter__(self) -> Clocked:
        self._cpu, self._began = cpu_seconds(os.getpid()), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._began
        self.cpu = cpu_seconds(os.getpid()) - self._cpu


def caller_cost(call: Callable[[int], object], calls: int, rounds: int) -> dict:
    """What a call costs its caller, in microseconds: CPU of the thread, of the process, and wall; the median of rounds."""
    thread, process, wall = [], [], []
    for step in range(500):
        call(step)
    done = 500
    for _ in range(rounds):
        first, done = done, done + calls
        t, p, w = time.thread_time(), time.process_time(), time.perf_counter()
        for step in range(first, done):
            call(step)
        thread.append((time.thread_time() - t) / calls * 1e6)
        process.append((time.process_time() - p) / calls * 1e6)
        wall.append((time.perf_counter() - w) / calls * 1e6)
    middle = rounds // 2
    return {
        "thread_us": sorted(thread)[middle],
        "process_us": sorted(process)[middle],
        "wall_us": sorted(wall)[middle],
        "calls": done,
    }
