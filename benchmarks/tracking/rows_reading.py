"""Rows about reading and searching, and about starting runs."""

from __future__ import annotations

import copies
from bench import Bench, Row, at_least, both_cpu, per_point_cpu
from report import Line, duration
from servers import Mlplat
from workload import QUERIES


class Start(Row):
    """From the command until the server answers, and its memory then."""

    name = "start"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        return {"start_s": server.start_s}

    def theirs(self, bench: Bench) -> dict:
        return {"start_s": bench.mlflow.start_s} if bench.mlflow else {}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow = theirs.get("start_s")
        return [
            Line(
                "server start, empty",
                duration(ours["start_s"]),
                f"mlflow {duration(mlflow)}" if mlflow else "",
                mlflow / ours["start_s"] if mlflow else None,
            )
        ]


class History(Row):
    """A whole series."""

    name = "history"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        run, repeat = a_million_points(bench, server), bench.size(7, 3)
        found = bench.ours(server, "read", run_id=run, key="curve0", repeat=repeat)
        return {**found, "server_cpu": found["server_cpu"] / repeat}

    def theirs(self, bench: Bench) -> dict:
        if bench.mlflow is None:
            return {}
        filled, repeat = bench.mlflows("fill_history", points=bench.size(50_000, 10_000)), bench.size(3, 2)
        found = bench.mlflows("read", run_id=filled["run"], key="loss", repeat=repeat)
        return {"mlflow": {**found, "server_cpu": found["server_cpu"] / repeat}}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow = theirs.get("mlflow")
        per_point = ours["wall"] / ours["points"]
        their_point = mlflow["wall"] / mlflow["points"] if mlflow else 0
        ratio = their_point / per_point if mlflow else None
        peer = (
            f"mlflow {duration(their_point)} ({mlflow['points']:,} in {duration(mlflow['wall'])})"
            if mlflow
            else ""
        )
        return [
            Line(
                f"read a history of {ours['points']:,} points, per point",
                f"{duration(per_point)} ({duration(ours['wall'])})",
                peer,
                ratio,
                per_point_cpu(ours, mlflow),
                ">= 100x",
                at_least(ratio, 100),
                f"memcpy of 24 bytes: {duration(24 / bench.limits.memcpy_bytes_s)}",
            )
        ]


class View(Row):
    """The same for a chart."""

    name = "view"
    buckets = 1000

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        run, repeat = a_million_points(bench, server), bench.size(30, 10)
        found = bench.ours(server, "view", run_id=run, key="curve0", buckets=self.buckets, repeat=repeat)
        return {**found, "server_cpu": found["server_cpu"] / (repeat + 1)}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        return [
            Line(
                f"a view of 1,000,000 points in {self.buckets:,} buckets ({ours['rows']:,} points)",
                duration(ours["wall"]),
                cpu=both_cpu(ours, None),
                target="< 50 ms",
                reached=ours["wall"] < 0.05,
                limit=f"loopback round trip: {bench.limits.round_trip_us:.0f} us",
            )
        ]


def a_million_points(bench: Bench, server: Mlplat) -> str:
    return bench.ours(server, "series", points=1_000_000, count=1)["run"]


class Create(Row):
    name = "create_run"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        runs = bench.size(300, 50)
        found = bench.ours(server, "create_runs", runs=runs)
        return {**found, "server_cpu": found["server_cpu"] / runs}

    def theirs(self, bench: Bench) -> dict:
        runs = bench.size(50, 10)
        found = bench.mlflows("create_runs", runs=runs)
        return {"mlflow": found and {**found, "server_cpu": found["server_cpu"] / runs}}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow = theirs.get("mlflow")
        ratio = mlflow["wall"] / ours["wall"] if mlflow else None
        return [
            Line(
                f"create_run, until it is stored (the caller waits {duration(ours['caller'])})",
                duration(ours["wall"]),
                f"mlflow {duration(mlflow['wall'])}" if mlflow else "",
                ratio,
                both_cpu(ours, mlflow),
                ">= 20x",
                at_least(ratio, 20),
                f"a round trip and an fdatasync: {bench.limits.round_trip_us / 1e3 + bench.limits.fsync_ms:.2f} ms",
            )
        ]


class Search(Row):
    """Three queries over 2,000 runs, and the same over many more."""

    name = "search"
    few = 2_000

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        many, repeat = bench.size(100_000, 10_000), bench.size(15, 5)
        self.fill(bench, server, "few", 0, self.few)
        small = bench.ours(server, "search", experiment="few", queries=QUERIES, repeat=repeat)
        self.fill(bench, server, "many", self.few, many)
        large = bench.ours(server, "search", experiment="many", queries=QUERIES, repeat=repeat)
        for found in (small, large):
            found["server_cpu"] /= repeat * len(QUERIES)
        return {"small": small, "large": large, "many": many}

    def fill(self, bench: Bench, server: Mlplat, experiment: str, first: int, runs: int) -> None:
        logged = bench.ours(server, "one_run", experiment=experiment, number=first)
        copies.fill(server, bench.postgres, logged["run"], first + 1, runs - 1)

    def theirs(self, bench: Bench) -> dict:
        if bench.mlflow is None:
            return {}
        database, repeat = str(bench.mlflow.database), bench.size(5, 3)
        bench.mlflows("fill_runs", experiment="few", database=database, first=0, runs=self.few)
        found = bench.mlflows("search", experiment="few", queries=QUERIES, repeat=repeat)
        return {"mlflow": {**found, "server_cpu": found["server_cpu"] / (repeat * len(QUERIES))}}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow, small, large, lines = theirs.get("mlflow"), ours["small"], ours["large"], []
        limit = f"loopback round trip: {bench.limits.round_trip_us:.0f} us"
        for query in QUERIES:
            name = query["name"]
            wall, their_wall = small["walls"][name], mlflow["walls"][name] if mlflow else 0
            if mlflow and mlflow["found"][name] != small["found"][name]:
                raise RuntimeError(f"search {name}: {small['found'][name]} and {mlflow['found'][name]} runs")
            ratio = their_wall / wall if mlflow else None
            what = f"{query['filter'] or query['order_by']}, the first {query['limit']:,}"
            lines.append(
                Line(
                    f"search over {self.few:,} runs: {what}",
                    duration(wall),
                    f"mlflow {duration(their_wall)}" if mlflow else "",
                    ratio,
                    both_cpu(small, mlflow),
                    ">= 20x",
                    at_least(ratio, 20),
                    limit,
                )
            )
            growth = large["walls"][name] / wall
            lines.append(
                Line(
                    f"  over {ours['many']:,} runs",
                    f"{duration(large['walls'][name])} ({growth:.1f}x of that)",
                    cpu=both_cpu(large, None),
                    target="<= 5x of that",
                    reached=growth <= 5,
                    limit=limit,
                )
            )
        return lines


ROWS: list[Row] = [Start(), Create(), History(), View(), Search()]
