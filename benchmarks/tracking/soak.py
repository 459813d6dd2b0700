"""Many runs log for a long time while others search and read: memory stays flat, nothing fails, every point is there at the
end; see README.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import processes
from report import rate
from servers import HERE, ROOT, Mlplat, Postgres

CLIENT = HERE / "soak_client.py"


@dataclass(frozen=True)
class Sample:
    """Memory in MB at some second; `clients` is the largest of those that log."""

    second: float
    server: float
    clients: float
    readers: float
    journals_mb: float


def folder_mb(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total / 1e6


def take(began: float, server: Mlplat, loggers: list, readers: list, home: Path) -> Sample:
    def largest(tasks: list[processes.Task]) -> float:
        return max((processes.memory_mb(task.process.pid, "VmRSS") for task in tasks), default=0)

    return Sample(
        time.monotonic() - began,
        processes.memory_mb(server.pid, "VmRSS"),
        largest(loggers),
        largest(readers),
        folder_mb(home),
    )


def watch(
    seconds: float, every: float, server: Mlplat, loggers: list, readers: list, home: Path
) -> list[Sample]:
    """Samples until the loggers have ended; printed as they come."""
    began, samples = time.monotonic(), []
    print(f"{'second':>7} {'server MB':>10} {'logger MB':>10} {'reader MB':>10} {'journals MB':>12}")
    while any(task.process.poll() is None for task in loggers):
        if time.monotonic() - began > seconds + 180:
            raise processes.TaskError("the loggers did not end")
        sample = take(began, server, loggers, readers, home)
        samples.append(sample)
        print(
            f"{sample.second:7.0f} {sample.server:10.0f} {sample.clients:10.0f} {sample.readers:10.0f} "
            f"{sample.journals_mb:12.1f}",
            flush=True,
        )
        deadline = time.monotonic() + every
        while time.monotonic() < deadline and any(task.process.poll() is None for task in loggers):
            time.sleep(0.2)
    return samples


def grown(samples: list[Sample], what: str, seconds: float) -> float:
    """By how much the last third is above the second one, in per cent of the latter."""
    thirds = [
        [getattr(sample, what) for sample in samples if low <= sample.second < high]
        for low, high in ((seconds / 3, seconds * 2 / 3), (seconds * 2 / 3, seconds))
    ]
    if not all(thirds):
        return 0.0
    middle, end = (sum(third) / len(third) for third in thirds)
    return 100 * (end - middle) / middle


def soak(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlplat-soak-")))
        database = ""
        if options.database == "postgresql":
            postgres = Postgres()
            stack.callback(postgres.stop)
            database = postgres.create("soak")
        server = Mlplat(folder / "data", database)
        stack.callback(server.stop)
        home = folder / "home"
        home.mkdir()
        env = {"MLPLAT_URL": server.url, "MLPLAT_HOME": str(home)}

        def client(name: str, **arguments: object) -> processes.Task:
            task = processes.Task(
                sys.executable, CLIENT, name, {"seconds": options.seconds, **arguments}, env
            )
            stack.callback(lambda: task.process.poll() is None and processes.end(task.process, 1))
            return task

        each = options.runs // options.processes
        loggers = [
            client("log", runs=each, calls_per_second=options.rate, seed=seed)
            for seed in range(options.processes)
        ]
        readers = [client("search"), client("read")]
        before = processes.cpu_seconds(server.pid)
        samples = watch(options.seconds, options.every, server, loggers, readers, home)
        server_cpu = processes.cpu_seconds(server.pid) - before
        logged = [task.result() for task in loggers]
        looked = [task.result() for task in readers]
        runs = {run: calls for result in logged for run, calls in result["runs"].items()}
        checked = client("check", runs=runs).result()
    return verdict(options, samples, logged, looked, runs, checked, server_cpu)


def verdict(
    options: argparse.Namespace,
    samples: list[Sample],
    logged: list[dict],
    looked: list[dict],
    runs: dict[str, int],
    checked: dict,
    server_cpu: float,
) -> int:
    points = 3 * sum(runs.values())
    errors = [error for result in (*logged, *looked) for error in result["errors"]]
    growth = {what: grown(samples, what, options.seconds) for what in ("server", "clients")}
    print(
        f"\n{len(runs)} runs, {points:,} points ({rate(points / options.seconds)}), {looked[0]['calls']:,} searches, ",
        end="",
    )
    print(
        f"{looked[1]['calls']:,} histories read; server {server_cpu:.0f} s of CPU in {options.seconds:.0f} s"
    )
    print(f"slowest search {looked[0]['slowest_s']:.2f} s, slowest read {looked[1]['slowest_s']:.2f} s")
    print(f"errors: {len(errors)} {errors[:3] if errors else ''}")
    print(f"at the end: {checked['lost']} lost, {checked['doubled']} doubled, {checked['wrong']} wrong")
    for what, percent in growth.items():
        most = max(getattr(sample, what) for sample in samples)
        print(
            f"memory of the {what}: at most {most:.0f} MB; last third {percent:+.1f} % against the one before"
        )
    flat = all(percent < 10 for percent in growth.values())
    complete = not any(checked[name] for name in ("lost", "doubled", "wrong"))
    good = flat and complete and not errors and points > 0
    print("flat memory, no error, every point there" if good else "FAILED")
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument(
        "--processes", type=int, default=10, help="the runs are spread over these, a thread each"
    )
    parser.add_argument("--rate", type=float, default=100, help="calls of log_metrics per second and run")
    parser.add_argument("--every", type=float, default=10, help="seconds between two samples")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    os.chdir(ROOT)
    return soak(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
