"""Rows about artifacts and about space on disk."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bench import Bench, Row, at_least
from limits import packed_bytes_per_point
from report import Line, duration
from servers import Mlplat
from workload import curve


def cpu_of(ours: dict, theirs: dict | None, way: str) -> str:
    return f"client {ours[f'cpu_{way}']:.2g} / {theirs[f'cpu_{way}']:.2g} s" if theirs else ""


class Large(Row):
    name = "artifact"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        return bench.ours(server, "artifact", megabytes=bench.size(500, 100), repeat=bench.size(3, 1))

    def theirs(self, bench: Bench) -> dict:
        return {"mlflow": bench.mlflows("artifact", megabytes=bench.size(500, 100), repeat=bench.size(3, 1))}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow, megabytes, lines = theirs.get("mlflow"), bench.size(500, 100), []
        limits = {
            "up": f"write + fsync: {duration((megabytes << 20) / bench.limits.write_bytes_s)}",
            "down": f"loopback: {duration((megabytes << 20) / bench.limits.loopback_bytes_s)}",
        }
        for way, limit in limits.items():
            ratio = mlflow[way] / ours[way] if mlflow else None
            lines.append(
                Line(
                    f"artifact of {megabytes} MB {way}",
                    duration(ours[way]),
                    f"mlflow {duration(mlflow[way])}" if mlflow else "",
                    ratio,
                    cpu_of(ours, mlflow, way),
                    "no slower",
                    at_least(ratio, 1),
                    limit,
                )
            )
        return lines


class Small(Row):
    name = "files"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        return bench.ours(server, "small_artifacts", files=bench.size(1000, 200), repeat=bench.size(3, 1))

    def theirs(self, bench: Bench) -> dict:
        return {"mlflow": bench.mlflows("small_artifacts", files=bench.size(1000, 200), repeat=1)}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow, files, lines = theirs.get("mlflow"), bench.size(1000, 200), []
        limit = f"writing them, one fsync: {duration(bench.limits.small_files_s * files / 1000)}"
        for way in ("up", "down"):
            ratio = mlflow[way] / ours[way] if mlflow else None
            lines.append(
                Line(
                    f"{files:,} artifacts of 4 KB {way}",
                    duration(ours[way]),
                    f"mlflow {duration(mlflow[way])}" if mlflow else "",
                    ratio,
                    cpu_of(ours, mlflow, way),
                    ">= 10x",
                    at_least(ratio, 10),
                    limit,
                )
            )
        return lines


class Space(Row):
    """A noisy loss curve, twice: as one series, and point by point. The database is measured when nothing changes any more."""

    name = "space"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        points, found = bench.size(1_000_000, 200_000), {}
        for bulk in (True, False):
            count = points if bulk else points // 5
            before = self.size(bench, server)
            bench.ours(server, "noisy_curve", points=count, keys=1, bulk=bulk)
            found["bulk" if bulk else "single"] = (self.at_rest(bench, server) - before) / count
        return found

    def size(self, bench: Bench, server: Mlplat) -> float:
        """Bytes of the tables without what is free in them."""
        if server.database and bench.postgres:
            name = server.database.rsplit("/", 1)[1]
            bench.postgres.sql("VACUUM FULL", name)
            return int(bench.postgres.sql(f"SELECT pg_database_size('{name}')"))
        return packed_size(next(server.data.glob("*.db")), bench.folder / "packed.db")

    def at_rest(self, bench: Bench, server: Mlplat, patience_s: float = 90) -> float:
        """The size after compaction: when it has not changed for a while."""
        deadline, same, last = time.monotonic() + patience_s, 0, 0.0
        while same < 4 and time.monotonic() < deadline:
            now = self.size(bench, server)
            same = same + 1 if now == last else 0
            last = now
            time.sleep(2)
        return last

    def theirs(self, bench: Bench) -> dict:
        if bench.mlflow is None:
            return {}
        points, packed = bench.size(20_000, 5_000), bench.folder / "packed.db"
        before = packed_size(bench.mlflow.database, packed)
        bench.mlflows("fill_history", points=points)
        return {"mlflow": (packed_size(bench.mlflow.database, packed) - before) / points}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow = theirs.get("mlflow")
        _, values, timestamps = curve(200_000)
        packed = packed_bytes_per_point(values.tobytes(), timestamps.astype("int64").tolist())
        whats = {"bulk": "log_series", "single": "log_metric, one by one"}
        return [
            Line(
                f"bytes on disk per point, {what}",
                f"{ours[way]:.2f}",
                f"mlflow {mlflow:.0f}" if mlflow else "",
                mlflow / ours[way] if mlflow else None,
                target="<= 6",
                reached=ours[way] <= 6,
                limit=f"the same by LZMA: {packed:.2f}",
            )
            for way, what in whats.items()
        ]


def packed_size(database: Path, into: Path) -> int:
    """Size of a copy of an SQLite database that has no free pages."""
    into.unlink(missing_ok=True)
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("VACUUM INTO ?", (str(into),))
    size = os.path.getsize(into)
    into.unlink()
    return size


ROWS: list[Row] = [Large(), Small(), Space()]
