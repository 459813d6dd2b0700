"""The clients of soak.py: they log, search, read, and check at the end."""

from __future__ import annotations

import random
import threading
import time

import mlplat
from processes import serve_task

EXPERIMENT = "soak"


def value_of(key: str, step: int) -> float:
    return {"loss": 1 / (1 + step), "accuracy": (step % 1000) / 1000, "lr": 1e-3 * (1 + step % 7)}[key]


def log(seconds: float, runs: int, calls_per_second: float, seed: int) -> dict:
    """Some runs in one process, a thread each, at a steady rate; each tells how often it logged."""
    logged: dict[str, int] = {}
    errors: list[str] = []

    def work(number: int) -> None:
        try:
            run = mlplat.start_run(EXPERIMENT, f"soak {seed}.{number}", tags={"seed": str(seed)})
            run.log_params({"number": number, "rate": calls_per_second})
            began, calls = time.monotonic(), 0
            while (now := time.monotonic() - began) < seconds:
                while calls < now * calls_per_second:
                    run.log_metrics(
                        {key: value_of(key, calls) for key in ("loss", "accuracy", "lr")}, step=calls
                    )
                    calls += 1
                time.sleep(0.05)
            run.end()
            logged[run.id] = calls
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"runs": logged, "errors": errors}


def looped(seconds: float, once) -> dict:
    """Calls a function again and again; how often, how slow at worst, and what failed."""
    calls, slowest, errors, deadline = 0, 0.0, [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        began = time.monotonic()
        try:
            once()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
        slowest = max(slowest, time.monotonic() - began)
        calls += 1
        time.sleep(0.1)
    return {"calls": calls, "slowest_s": slowest, "errors": errors[:20]}


def search(seconds: float) -> dict:
    source = random.Random(1)

    def once() -> None:
        filters = ["", "metrics.loss < 0.01", f"tags.seed = '{source.randrange(10)}'", "params.number = '3'"]
        mlplat.search_runs(source.choice(filters), order_by="metrics.loss ASC", limit=50).to_dicts()

    return looped(seconds, once)


def read(seconds: float) -> dict:
    source = random.Random(2)

    def once() -> None:
        runs = mlplat.search_runs(limit=50).to_dicts()
        if runs:
            run = mlplat.get_run(source.choice(runs)["run_id"])
            run.metric_history(source.choice(["loss", "accuracy", "lr"])).to_arrow()

    return looped(seconds, once)


def check(seconds: float, runs: dict[str, int]) -> dict:
    """Every point of every run, bit for bit."""
    lost = doubled = wrong = 0
    for run_id, calls in runs.items():
        run = mlplat.get_run(run_id)
        wrong += run.status != "FINISHED"
        for key in ("loss", "accuracy", "lr"):
            points = run.metric_history(key).to_arrow()
            steps, values = points["step"].to_pylist(), points["value"].to_pylist()
            lost += calls - len(set(steps) & set(range(calls)))
            doubled += len(steps) - len(set(steps))
            wrong += sum(value != value_of(key, step) for step, value in zip(steps, values, strict=True))
    return {"lost": lost, "doubled": doubled, "wrong": wrong}


if __name__ == "__main__":
    serve_task({task.__name__: task for task in (log, search, read, check)})
