"""What MLflow is asked to do, each function in a process of its own with MLflow's Python."""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
import uuid
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from processes import Clocked, serve_task, wait_for
from workload import new_file, new_tree, noisy_loss, run_values

BATCH = 999  # of three metrics each 333: at most 1,000 metrics a batch


def client_and_experiment(name: str = "bench") -> tuple[MlflowClient, str]:
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    found = client.get_experiment_by_name(name)
    if found:
        return client, found.experiment_id
    try:
        return client, client.create_experiment(name)
    except Exception:
        # Another process was first.
        return client, client.get_experiment_by_name(name).experiment_id


def prepare() -> None:
    """The experiment is there, and every worker has answered something."""
    client, experiment = client_and_experiment()
    for _ in range(12):
        client.search_runs([experiment], max_results=1)


def log_metric(calls: int) -> dict:
    """The synchronous call."""
    client, experiment = client_and_experiment()
    run_id = client.create_run(experiment).info.run_id
    walls, thread = [], time.thread_time()
    for step in range(calls):
        began = time.perf_counter()
        client.log_metric(run_id, "loss", 1 / (step + 1), step=step)
        walls.append(time.perf_counter() - began)
    return {"wall": statistics.median(walls), "thread_us": (time.thread_time() - thread) / calls * 1e6}


def ingest(seconds: float, start_at: float = 0) -> dict:
    """`log_batch` with 999 points of 3 metrics."""
    client, experiment = client_and_experiment()
    run_id = client.create_run(experiment).info.run_id
    wait_for(start_at)
    done, errors, last = 0, 0, ""
    with Clocked() as clocked:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            now = int(time.time() * 1000)
            first = done // 3
            metrics = [
                Metric(key, value / (step + 1), now, step)
                for step in range(first, first + BATCH // 3)
                for key, value in (("loss", 1.0), ("accuracy", 0.5), ("lr", 1e-3))
            ]
            try:
                client.log_batch(run_id, metrics=metrics)
                done += BATCH
            except Exception as error:
                errors, last = errors + 1, str(error)[:200]
    return {
        "points": done,
        "wall": clocked.wall,
        "cpu": clocked.cpu,
        "ended_at": time.time(),
        "errors": errors,
        "last": last,
    }


def fill_history(points: int) -> dict:
    """A run with one long series; the noisy curve."""
    client, experiment = client_and_experiment()
    run_id = client.create_run(experiment).info.run_id
    values, timestamps = noisy_loss(points)
    for first in range(0, points, 1000):
        batch = [
            Metric("loss", values[step], timestamps[step], step)
            for step in range(first, min(points, first + 1000))
        ]
        client.log_batch(run_id, metrics=batch)
    return {"run": run_id}


def read(run_id: str, key: str, repeat: int) -> dict:
    """`get_metric_history`."""
    client, _ = client_and_experiment()
    walls = []
    with Clocked() as all_of_them:
        for _ in range(repeat):
            began = time.perf_counter()
            points = len(client.get_metric_history(run_id, key))
            walls.append(time.perf_counter() - began)
    return {"wall": statistics.median(walls), "points": points, "cpu": all_of_them.cpu / repeat}


def create_runs(runs: int) -> dict:
    client, experiment = client_and_experiment()
    walls = []
    with Clocked() as clocked:
        for number in range(runs):
            began = time.perf_counter()
            client.create_run(experiment, run_name=f"run {number}")
            walls.append(time.perf_counter() - began)
    return {"wall": statistics.median(walls), "cpu": clocked.cpu / runs}


def fill_runs(experiment: str, database: str, first: int, runs: int) -> dict:
    """Runs with 5 params, 2 tags and 3 metrics each. The first one is logged; the others are copies of its rows with
    values of their own, as logging all of them would take many minutes."""
    client, experiment_id = client_and_experiment(experiment)
    params, tags, metrics = run_values(first)
    run_id = client.create_run(experiment_id, run_name=f"run {first}", tags=tags).info.run_id
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag("mlflow.note.content", "a run of the benchmark")],
    )
    client.set_terminated(run_id)
    began = time.perf_counter()
    connection = sqlite3.connect(database, timeout=60)
    rows = {}
    for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
        cursor = connection.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))
        rows[table] = ([column[0] for column in cursor.description], cursor.fetchall())
    for number in range(first + 1, first + runs):
        copy_run(connection, rows, number, now + number)
    connection.commit()
    connection.close()
    return {"wall": time.perf_counter() - began}


def copy_run(connection: sqlite3.Connection, rows: dict, number: int, at: int) -> None:
    values: dict[str, object] = {}
    for group in run_values(number):
        values.update(group)
    run_id = uuid.uuid4().hex
    for table, (columns, originals) in rows.items():
        for original in originals:
            row = dict(zip(columns, original, strict=True))
            row["run_uuid"] = run_id
            if table == "runs":
                row["name"] = f"run {number}"
                row["start_time"], row["end_time"] = at, at + 1000
                row["artifact_uri"] = str(row["artifact_uri"]).replace(str(original[0]), run_id)
            elif row["key"] in values:
                row["value"] = values[row["key"]]
            elif row["key"] == "mlflow.runName":
                row["value"] = f"run {number}"
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def search(experiment: str, queries: list[dict], repeat: int) -> dict:
    """The first runs of each query."""
    client, experiment_id = client_and_experiment(experiment)
    walls: dict[str, list[float]] = {query["name"]: [] for query in queries}
    found = {}
    with Clocked() as clocked:
        for _ in range(repeat):
            for query in queries:
                began = time.perf_counter()
                page = client.search_runs(
                    [experiment_id],
                    query["filter"],
                    order_by=[query["order_by"]],
                    max_results=query["limit"],
                )
                walls[query["name"]].append(time.perf_counter() - began)
                found[query["name"]] = len(page)
    medians = {name: statistics.median(times) for name, times in walls.items()}
    return {"walls": medians, "found": found, "cpu": clocked.cpu / repeat / len(queries)}


def artifact(megabytes: int, repeat: int) -> dict:
    client, experiment = client_and_experiment()
    run_id = client.create_run(experiment).info.run_id
    up, down, cpu_up, cpu_down = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat):
            path = new_file(Path(folder, f"large{number}"), megabytes)
            with Clocked() as clocked:
                client.log_artifact(run_id, str(path))
            up.append(clocked.wall)
            cpu_up.append(clocked.cpu)
            into = Path(folder, f"down{number}")
            into.mkdir()
            with Clocked() as clocked:
                got = client.download_artifacts(run_id, path.name, str(into))
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
    client, experiment = client_and_experiment()
    run_id = client.create_run(experiment).info.run_id
    up, down, cpu_up, cpu_down = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat):
            tree = new_tree(Path(folder, f"tree{number}"), files)
            with Clocked() as clocked:
                client.log_artifacts(run_id, str(tree), tree.name)
            up.append(clocked.wall)
            cpu_up.append(clocked.cpu)
            into = Path(folder, f"down{number}")
            into.mkdir()
            with Clocked() as clocked:
                got = client.download_artifacts(run_id, tree.name, str(into))
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


if __name__ == "__main__":
    serve_task(
        {
            task.__name__: task
            for task in (
                prepare,
                log_metric,
                ingest,
                fill_history,
                read,
                create_runs,
                fill_runs,
                search,
                artifact,
                small_artifacts,
            )
        }
    )
