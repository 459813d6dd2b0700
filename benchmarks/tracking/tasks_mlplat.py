"""What mlplat is asked to do, each function in a process of its own: `python tasks_mlplat.py NAME JSON`."""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

import mlplat
from processes import Clocked, caller_cost, serve_task, wait_for
from workload import curve, new_file, new_tree, run_values

EXPERIMENT = "bench"


def caller(calls: int, rounds: int) -> dict:
    """CPU of one `log_metrics` with 3 scalars, and of the whole process until all is stored."""
    began = time.process_time()
    with mlplat.start_run(EXPERIMENT) as run:
        cost = caller_cost(
            lambda step: run.log_metrics({"loss": 0.25, "accuracy": 0.5, "lr": 1e-3}, step=step),
            calls,
            rounds,
        )
        run.flush()
    cost["stored_us"] = (time.process_time() - began) / cost["calls"] * 1e6
    return cost


def log_and_die(calls: int) -> None:
    """Logs, and is gone by SIGKILL as soon as the last call returned."""
    run = mlplat.start_run(EXPERIMENT)
    print(run.id, flush=True)
    for step in range(calls):
        run.log_metrics({"a": step, "b": -step, "c": step / 2}, step=step)
    os.kill(os.getpid(), signal.SIGKILL)


def count(runs: dict[str, int]) -> dict:
    """Of calls as `log_and_die` makes them: how many points are missing, doubled, wrong at the server."""
    lost = doubled = wrong = 0
    for run_id, calls in runs.items():
        try:
            run = mlplat.get_run(run_id)
        except mlplat.NotFoundError:
            lost += 3 * calls
            continue
        for key, factor in (("a", 1), ("b", -1), ("c", 0.5)):
            points = run.metric_history(key).to_arrow()
            steps, values = points["step"].to_pylist(), points["value"].to_pylist()
            lost += calls - len(set(steps) & set(range(calls)))
            doubled += len(steps) - len(set(steps))
            wrong += sum(value != step * factor for step, value in zip(steps, values, strict=True))
    return {"lost": lost, "doubled": doubled, "wrong": wrong}


def ingest(calls: int, seconds: float, start_at: float = 0) -> dict:
    """`log_metrics` with 3 scalars, until all of it is stored by the server."""
    with mlplat.start_run(EXPERIMENT) as run:
        run.log_metrics({"loss": 1.0, "accuracy": 0.0, "lr": 1e-3}, step=0)
        run.flush()
        wait_for(start_at)
        done = 1
        with Clocked() as clocked:
            began = time.perf_counter()
            while done < calls and time.perf_counter() - began < seconds:
                for step in range(done, done + 1000):
                    run.log_metrics({"loss": 1 / step, "accuracy": step * 1e-6, "lr": 1e-3}, step=step)
                done += 1000
            logged = time.perf_counter() - began
            run.flush()
        ended_at = time.time()
        stored = len(run.refresh().metric_history("loss"))
    if stored != done:
        raise RuntimeError(f"{stored} points stored instead of {done}")
    points = 3 * (done - 1)
    return {
        "points": points,
        "wall": clocked.wall,
        "cpu": clocked.cpu,
        "logged": logged,
        "ended_at": ended_at,
        "run": run.id,
    }


def series(points: int, count: int) -> dict:
    """`log_series`, until it is stored."""
    steps, values, _ = curve(points)
    with mlplat.start_run(EXPERIMENT) as run:
        run.flush()
        with Clocked() as clocked:
            for number in range(count):
                run.log_series(f"curve{number}", steps, values)
            run.flush()
        stored = len(run.refresh().metric_history(f"curve{count - 1}"))
    if stored != points:
        raise RuntimeError(f"{stored} points stored instead of {points}")
    return {"points": points * count, "wall": clocked.wall, "cpu": clocked.cpu, "run": run.id}


def read(run_id: str, key: str, repeat: int) -> dict:
    """A whole history as an Arrow table."""
    run = mlplat.get_run(run_id)
    walls = []
    with Clocked() as all_of_them:
        for _ in range(repeat):
            began = time.perf_counter()
            rows = run.metric_history(key).to_arrow().num_rows
            walls.append(time.perf_counter() - began)
    return {"wall": statistics.median(walls), "points": rows, "cpu": all_of_them.cpu / repeat}


def view(run_id: str, key: str, buckets: int, repeat: int) -> dict:
    """A downsampled history."""
    run = mlplat.get_run(run_id)
    run.metric_history(key, buckets=buckets)
    walls = []
    with Clocked() as all_of_them:
        for _ in range(repeat):
            began = time.perf_counter()
            rows = run.metric_history(key, buckets=buckets).to_arrow().num_rows
            walls.append(time.perf_counter() - began)
    return {"wall": statistics.median(walls), "rows": rows, "cpu": all_of_them.cpu / repeat}


def create_runs(runs: int) -> dict:
    """Starting a run in a sweep, as the caller sees it, and until the server has it."""
    started, stored = [], []
    with mlplat.start_run(EXPERIMENT, "sweep") as sweep:
        sweep.flush()
        with Clocked() as clocked:
            for number in range(runs):
                began = time.perf_counter()
                run = mlplat.start_run(EXPERIMENT, f"run {number}")
                started.append(time.perf_counter() - began)
                run.flush()
                stored.append(time.perf_counter() - began)
                run.end()
    if mlplat.get_run(run.id).parent_run_id != sweep.id:
        raise RuntimeError("the last run is not stored")
    return {
        "wall": statistics.median(stored),
        "caller": statistics.median(started),
        "cpu": clocked.cpu / runs,
    }


def one_run(experiment: str, number: int) -> dict:
    """A run with 5 params, 2 tags and 3 metrics."""
    params, tags, metrics = run_values(number)
    with mlplat.start_run(experiment, f"run {number}", tags=tags) as run:
        run.log_params(params)
        run.log_metrics(metrics, step=0)
    return {"run": run.id}


def search(experiment: str, queries: list[dict], repeat: int) -> dict:
    """The first runs of each query, as a table."""
    walls: dict[str, list[float]] = {query["name"]: [] for query in queries}
    found = {}
    with Clocked() as clocked:
        for _ in range(repeat):
            for query in queries:
                began = time.perf_counter()
                table = mlplat.search_runs(
                    query["filter"], experiment=experiment, order_by=query["order_by"], limit=query["limit"]
                )
                walls[query["name"]].append(time.perf_counter() - began)
                found[query["name"]] = table.num_rows
    medians = {name: statistics.median(times) for name, times in walls.items()}
    return {"walls": medians, "found": found, "cpu": clocked.cpu / repeat / len(queries)}


def artifact(megabytes: int, repeat: int) -> dict:
    """One large file up and down; every time with a content that nobody has seen."""
    up, down, cpu_up, cpu_down = [], [], [], []
    with mlplat.start_run(EXPERIMENT) as run, tempfile.TemporaryDirectory() as folder:
        run.flush()
        for number in range(repeat):
            path = new_file(Path(folder, f"large{number}"), megabytes)
            with Clocked() as clocked:
                run.log_artifact(path)
            up.append(clocked.wall)
            cpu_up.append(clocked.cpu)
            with Clocked() as clocked:
                got = mlplat.get_run(run.id).download_artifact(path.name, into=f"{folder}/down{number}")
            down.append(clocked.wall)
            cpu_down.append(clocked.cpu)
            if Path(got).stat().st_size != megabytes << 20:
                raise RuntimeError("the download is not what was uploaded")
            path.unlink()
            Path(got).unlink()
    return {
        "up": statistics.median(up),
        "down": statistics.median(down),
        "cpu_up": statistics.median(cpu_up),
        "cpu_down": statistics.median(cpu_down),
    }


def small_artifacts(files: int, repeat: int) -> dict:
    """A directory of small files up and down."""
    up, down, cpu_up, cpu_down = [], [], [], []
    with mlplat.start_run(EXPERIMENT) as run, tempfile.TemporaryDirectory() as folder:
        run.flush()
        for number in range(repeat):
            tree = new_tree(Path(folder, f"tree{number}"), files)
            with Clocked() as clocked:
                run.log_artifact(tree)
            up.append(clocked.wall)
            cpu_up.append(clocked.cpu)
            with Clocked() as clocked:
                got = mlplat.get_run(run.id).download_artifact(tree.name, into=f"{folder}/down{number}")
            down.append(clocked.wall)
            cpu_down.append(clocked.cpu)
            if sum(1 for path in Path(got).rglob("*") if path.is_file()) != files:
                raise RuntimeError("the download is not what was uploaded")
    return {
        "up": statistics.median(up),
        "down": statistics.median(down),
        "cpu_up": statistics.median(cpu_up),
        "cpu_down": statistics.median(cpu_down),
    }


def noisy_curve(points: int, keys: int, bulk: bool) -> dict:
    """The curve of `bytes on disk per point`: in bulk, or point by point as a training would log it."""
    steps, values, timestamps = curve(points)
    with mlplat.start_run(EXPERIMENT) as run:
        for number in range(keys):
            key = f"loss{number}"
            if bulk:
                run.log_series(key, steps, values, timestamps=timestamps)
            else:
                for step, value, at in zip(steps, values, timestamps, strict=True):
                    run.log_metric(key, value, int(step), timestamp=at)
        run.flush()
    return {"points": points * keys}


if __name__ == "__main__":
    serve_task(
        {
            task.__name__: task
            for task in (
                caller,
                log_and_die,
                count,
                ingest,
                series,
                read,
                view,
                create_runs,
                one_run,
                search,
                artifact,
                small_artifacts,
                noisy_curve,
            )
        }
    )
