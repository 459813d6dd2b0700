"""What wandb (offline) and trackio (local) are asked to do, each function in a process of its own with the peer's Python."""

from __future__ import annotations

import glob
import os
import signal
import sqlite3
import struct
import time
from collections.abc import Callable

from processes import caller_cost, serve_task

BLOCK = 32768
METRICS = {"loss": 0.25, "accuracy": 0.5, "lr": 1e-3}


def started(peer: str, folder: str) -> tuple[Callable[[dict, int], object], Callable[[], object]]:
    """A run of the peer in this folder: how to log to it, and how to finish it."""
    if peer == "wandb":
        import wandb

        run = wandb.init(
            mode="offline",
            project="bench",
            dir=folder,
            settings=wandb.Settings(console="off", x_disable_stats=True),
        )
        return (lambda metrics, step: run.log(metrics, step=step)), run.finish
    os.environ["TRACKIO_DIR"] = folder
    import trackio

    trackio.init(project="bench", name="run")
    return (lambda metrics, step: trackio.log(metrics, step=step)), trackio.finish


def caller(peer: str, folder: str, calls: int, rounds: int) -> dict:
    """CPU of one log call with 3 scalars, and of the process (and what it started) until all is written."""
    began = time.process_time()
    log, finish = started(peer, folder)
    cost = caller_cost(lambda step: log(METRICS, step), calls, rounds)
    finish()
    cost["stored_us"] = (time.process_time() - began) / cost["calls"] * 1e6
    return cost


def log_and_die(peer: str, folder: str, calls: int) -> None:
    """Logs, and is gone by SIGKILL as soon as the last call returned."""
    log, _ = started(peer, folder)
    print("started", flush=True)
    for step in range(calls):
        log({"a": step, "b": -step, "c": step / 2}, step)
    os.kill(os.getpid(), signal.SIGKILL)


def count(peer: str, folder: str) -> dict:
    """How many of the calls are on disk."""
    if peer == "wandb":
        return {
            "calls": sum(history_records(path) for path in glob.glob(f"{folder}/wandb/offline-run-*/*.wandb"))
        }
    total = 0
    for path in glob.glob(f"{folder}/*.db"):
        with sqlite3.connect(path) as connection:
            total += connection.execute("SELECT count(*) FROM metrics").fetchone()[0]
    return {"calls": total}


def history_records(path: str) -> int:
    """History records of a .wandb file: LevelDB's log format after a header of 7 bytes, each record a protobuf."""
    from wandb.proto import wandb_internal_pb2

    with open(path, "rb") as file:
        content = file.read()
    found, parts, at = 0, b"", 7
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        body = content[at + 7 : at + 7 + length]
        if kind == 0 or len(body) < length:
            break
        at += 7 + length
        parts += body
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found += record.WhichOneof("record_type") == "history"
            parts = b""
    return found


if __name__ == "__main__":
    serve_task({task.__name__: task for task in (caller, log_and_die, count)})
