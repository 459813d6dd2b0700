"""The same data for everyone who is measured. Only the standard library, and numpy where the function says so."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

FIRST_TIMESTAMP_MS = 1_760_000_000_000

QUERIES = [
    {
        "name": "filter",
        "filter": "metrics.loss < 0.3 AND params.optimizer = 'adam'",
        "order_by": "metrics.loss ASC",
        "limit": 100,
    },
    {"name": "newest", "filter": "", "order_by": "attributes.start_time DESC", "limit": 100},
    {
        "name": "tag",
        "filter": "tags.team LIKE 'vis%' AND metrics.accuracy > 0.5",
        "order_by": "metrics.accuracy DESC",
        "limit": 100,
    },
    {"name": "all", "filter": "", "order_by": "metrics.loss ASC", "limit": 2000},
]


def run_values(number: int) -> tuple[dict[str, str], dict[str, str], dict[str, float]]:
    """Params, tags and metrics of one of many runs."""
    source = random.Random(number)
    params = {
        "lr": f"{10 ** source.uniform(-4, -1):.5f}",
        "optimizer": source.choice(["adam", "sgd", "lamb"]),
        "depth": str(source.randint(2, 12)),
        "batch_size": str(2 ** source.randint(4, 9)),
        "seed": str(number),
    }
    tags = {"team": source.choice(["vision", "speech", "ads"]), "host": f"node{source.randint(0, 63)}"}
    metrics = {
        "loss": source.random(),
        "accuracy": source.random(),
        "val_loss": source.random(),
    }
    return params, tags, metrics


def noisy_loss(points: int) -> tuple[list[float], list[int]]:
    """A loss curve as trainings log it: float32 values with noise in every digit, a timestamp about every 50 ms."""
    source = random.Random(7)
    at, timestamps, values = FIRST_TIMESTAMP_MS, [], []
    for step in range(points):
        at += max(1, round(source.gauss(50, 4)))
        timestamps.append(at)
        values.append(2.2 * math.exp(-step / (points / 5)) + 0.3 + source.gauss(0, 0.03))
    return values, timestamps


def curve(points: int):
    """That curve as numpy arrays: int64 steps, float32 values, datetime64[ms] timestamps."""
    import numpy

    source = numpy.random.default_rng(7)
    gaps = numpy.maximum(1, source.normal(50, 4, points).round()).astype("int64")
    steps = numpy.arange(points, dtype="int64")
    values = 2.2 * numpy.exp(-steps / (points / 5)) + 0.3 + source.normal(0, 0.03, points)
    timestamps = (FIRST_TIMESTAMP_MS + gaps.cumsum()).astype("datetime64[ms]")
    return steps, values.astype("float32"), timestamps


def new_file(path: Path, megabytes: int) -> Path:
    """A file of random bytes. All that was written before is on the disk then, so that nobody waits for the writes of others."""
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    os.sync()
    return path


def new_tree(folder: Path, files: int) -> Path:
    """A directory with files of 4 KB, ten in each folder."""
    for number in range(files):
        path = folder / f"part{number // 10:03}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4096))
    return folder
