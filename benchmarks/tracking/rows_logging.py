"""Rows about logging: what a call costs, what a kill loses, how much is stored per second."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import processes
from bench import MLFLOW, OURS, Bench, Row, at_least, per_point_cpu
from report import Line, duration, rate
from servers import Mlplat, quiet_env

POINT_BYTES = 24  # a step, a time and a value


class Caller(Row):
    name = "caller"
    peers = (("trackio", 10), ("wandb", 40))

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        return bench.ours(server, "caller", calls=bench.size(20_000, 5_000), rounds=bench.size(7, 3))

    def theirs(self, bench: Bench) -> dict:
        calls, rounds = bench.size(20_000, 5_000), bench.size(5, 3)
        found = {}
        for peer in ("trackio", "wandb"):
            if peer in bench.pythons:
                folder = bench.folder / peer / "caller"
                found[peer] = bench.offline(peer, "caller", folder, calls=calls, rounds=rounds).result()
        found["mlflow"] = bench.mlflows("log_metric", calls=bench.size(50, 10))
        return found

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        limit = f"write(2) of 64 bytes: {bench.limits.append_us:.2f} us"
        lines = [
            Line(
                "caller CPU of log_metrics, 3 scalars",
                f"{ours['thread_us']:.2f} us",
                target="<= 3 us",
                reached=ours["thread_us"] <= 3,
                cpu=f"process until stored {ours['stored_us']:.3g} us a call; wall {ours['wall_us']:.3g} us",
                limit=limit,
            )
        ]
        for peer, wanted in self.peers:
            if peer not in theirs:
                continue
            cost = theirs[peer]
            for what, key, target in (
                (f"  beside {peer}", "thread_us", wanted),
                (f"  beside {peer}, CPU of the whole process until all is stored", "stored_us", None),
            ):
                ratio = cost[key] / ours[key]
                lines.append(
                    Line(
                        what,
                        f"{ours[key]:.3g} us",
                        f"{peer} {cost[key]:.3g} us",
                        ratio,
                        target=f">= {target}x" if target else "",
                        reached=ratio >= target if target else None,
                    )
                )
        if mlflow := theirs.get("mlflow"):
            lines.append(
                Line(
                    "  beside one log_metric of MLflow (1 scalar)",
                    duration(ours["wall_us"] / 1e6),
                    f"mlflow {duration(mlflow['wall'])}",
                    mlflow["wall"] / (ours["wall_us"] / 1e6),
                    f"caller {ours['thread_us']:.2f} / {mlflow['thread_us']:.0f} us",
                )
            )
        return lines


class Killed(Row):
    """SIGKILL as soon as the last call returned; half of the repetitions with the server up, half with it down."""

    name = "killed"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        repetitions = bench.size(50, 4)
        source = random.Random(3)
        with_server = self.kill(bench, server, source, repetitions)
        server.stop()
        try:
            without = self.kill(bench, server, source, repetitions)
        finally:
            server.start()
        return {
            "up": self.stored(bench, server, with_server),
            "down": self.stored(bench, server, without),
            "repetitions": repetitions,
            "logged": 3 * (sum(with_server.values()) + sum(without.values())),
        }

    def kill(self, bench: Bench, server: Mlplat, source: random.Random, repetitions: int) -> dict[str, int]:
        """The runs and how often each of them logged; two processes at a time."""
        runs = {}
        for _ in range(0, repetitions, 2):
            calls = [source.choice((1, 10, 100, 1000, 5000, 20_000)) + source.randrange(10) for _ in range(2)]
            tasks = [bench.start(OURS, "log_and_die", bench.env(server), calls=count) for count in calls]
            for task, count in zip(tasks, calls, strict=True):
                runs[task.killed_itself()] = count
        return runs

    def stored(self, bench: Bench, server: Mlplat, runs: dict[str, int]) -> dict:
        subprocess.run(
            [sys.executable, "-m", "mlplat", "sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**quiet_env(), **bench.env(server)},
        )
        return bench.ours(server, "count", runs=runs)

    def theirs(self, bench: Bench) -> dict:
        found = {}
        for peer in ("wandb", "trackio"):
            if peer not in bench.pythons:
                continue
            lost = logged = 0
            for number in range(bench.size(10, 2)):
                folder = bench.folder / peer / f"kill{number}"
                calls = random.Random(number).choice((100, 1000, 5000))
                bench.offline(peer, "log_and_die", folder, calls=calls).killed_itself()
                # What runs beside it may still write.
                time.sleep(1)
                stored = bench.offline(peer, "count", folder).result()["calls"]
                lost, logged = lost + calls - stored, logged + calls
            found[peer] = {"lost": lost, "logged": logged}
        return found

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        peers = ", ".join(
            f"{peer} {100 * cost['lost'] / cost['logged']:.1f} %" for peer, cost in theirs.items()
        )
        lines = []
        for state in ("up", "down"):
            found = ours[state]
            lines.append(
                Line(
                    f"points lost by SIGKILL after the last call, server {state}, {ours['repetitions']} times",
                    f"{found['lost']} lost, {found['doubled']} doubled, {found['wrong']} wrong",
                    peers,
                    target="0",
                    reached=not (found["lost"] or found["doubled"] or found["wrong"]),
                    limit=f"0 (of {ours['logged']:,} points)",
                )
            )
        return lines


class Ingest(Row):
    """Until it is stored: one process, then several at once."""

    name = "ingest"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        calls = bench.size(300_000, 50_000)
        rounds = [bench.ours(server, "ingest", calls=calls, seconds=20) for _ in range(bench.size(5, 1))]
        rounds.sort(key=lambda result: result["points"] / result["wall"])
        return rounds[len(rounds) // 2]

    def theirs(self, bench: Bench) -> dict:
        return {"mlflow": bench.mlflows("ingest", seconds=bench.size(15, 4))}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow = theirs.get("mlflow")
        speed = ours["points"] / ours["wall"]
        ratio = speed / (mlflow["points"] / mlflow["wall"]) if mlflow else None
        return [
            Line(
                "durable ingest, 1 process, log_metrics (3 scalars), to the end of flush",
                rate(speed),
                f"mlflow log_batch {rate(mlflow['points'] / mlflow['wall'])}" if mlflow else "",
                ratio,
                per_point_cpu(ours, mlflow),
                ">= 100x",
                at_least(ratio, 100),
                f"write + fsync of 24 bytes a point: {rate(bench.limits.write_bytes_s / POINT_BYTES)}",
            )
        ]


class Series(Row):
    name = "series"

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        points, count = bench.size(1_000_000, 500_000), bench.size(5, 2)
        rounds = [bench.ours(server, "series", points=points, count=count) for _ in range(bench.size(3, 1))]
        rounds.sort(key=lambda result: result["points"] / result["wall"])
        return rounds[len(rounds) // 2]

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        speed = ours["points"] / ours["wall"]
        return [
            Line(
                "durable ingest, log_series, to the end of flush",
                rate(speed),
                cpu=per_point_cpu(ours, None),
                target=">= 1 M/s",
                reached=speed >= 1e6,
                limit=f"write + fsync of 24 bytes a point: {rate(bench.limits.write_bytes_s / POINT_BYTES)}",
            )
        ]


class AtOnce(Row):
    """8 processes that log at the same time."""

    name = "processes"
    count = 8

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        processes.reset_peak(server.pid)
        calls, before = bench.size(300_000, 30_000), bench.server_cpu(server)
        start_at = time.time() + 3
        tasks = [
            bench.start(OURS, "ingest", bench.env(server), calls=calls, seconds=20, start_at=start_at)
            for _ in range(self.count)
        ]
        found = self.together(tasks, start_at)
        return {
            **found,
            "server_cpu": bench.server_cpu(server) - before,
            "memory_mb": processes.memory_mb(server.pid, "VmHWM"),
        }

    def theirs(self, bench: Bench) -> dict:
        if bench.mlflow is None:
            return {}
        before, start_at = bench.server_cpu(bench.mlflow), time.time() + 8
        env = {**quiet_env(), "MLFLOW_TRACKING_URI": bench.mlflow.url}
        tasks = [
            bench.start(
                MLFLOW, "ingest", env, bench.pythons["mlflow"], seconds=bench.size(15, 5), start_at=start_at
            )
            for _ in range(self.count)
        ]
        found = self.together(tasks, start_at)
        return {
            "mlflow": {
                **found,
                "server_cpu": bench.server_cpu(bench.mlflow) - before,
                "memory_mb": processes.memory_mb(bench.mlflow.pid, "VmHWM"),
            }
        }

    def together(self, tasks: list[processes.Task], start_at: float) -> dict:
        errors, results = [], []
        for task in tasks:
            try:
                results.append(task.result())
            except processes.TaskError as error:
                errors.append(str(error))
        for error in errors[:2]:
            print(f"  {error}", file=sys.stderr)
        return {
            "errors": len(errors) + sum(result.get("errors", 0) for result in results),
            "points": sum(result["points"] for result in results),
            "wall": max((result["ended_at"] for result in results), default=start_at + 1) - start_at,
            "cpu": sum(result["cpu"] for result in results),
        }

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        mlflow = theirs.get("mlflow")
        speed = ours["points"] / ours["wall"]
        ratio = speed / (mlflow["points"] / mlflow["wall"]) if mlflow and mlflow["points"] else None
        return [
            Line(
                "8 processes at once, log_metrics, to the end of flush",
                rate(speed),
                f"mlflow log_batch {rate(mlflow['points'] / mlflow['wall'])}" if mlflow else "",
                ratio,
                per_point_cpu(ours, mlflow),
                ">= 200x",
                at_least(ratio, 200),
                f"write + fsync of 24 bytes a point: {rate(bench.limits.write_bytes_s / POINT_BYTES)}",
            ),
            Line(
                "  errors",
                str(ours["errors"]),
                f"mlflow {mlflow['errors']}" if mlflow else "",
                target="0",
                reached=ours["errors"] == 0,
            ),
            Line(
                "  most memory of the server",
                f"{ours['memory_mb']:.0f} MB",
                f"mlflow {mlflow['memory_mb']:.0f} MB" if mlflow else "",
                mlflow["memory_mb"] / ours["memory_mb"] if mlflow else None,
                target="< 300 MB",
                reached=ours["memory_mb"] < 300,
            ),
        ]


ROWS: list[Row] = [Caller(), Killed(), Ingest(), Series(), AtOnce()]
