"""What rows have in common: the servers and peers of this run, and tasks with the CPU that both sides used for them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import processes
from limits import Limits
from report import Line
from servers import HERE, Mlflow, Mlplat, Postgres, quiet_env

OURS = HERE / "tasks_mlplat.py"
MLFLOW = HERE / "tasks_mlflow.py"
OFFLINE = HERE / "tasks_offline.py"


@dataclass
class Bench:
    """One run of the benchmark."""

    folder: Path
    quick: bool
    limits: Limits
    servers: dict[str, Mlplat] = field(default_factory=dict)
    postgres: Postgres | None = None
    mlflow: Mlflow | None = None
    pythons: dict[str, Path] = field(default_factory=dict)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def start(
        self, script: Path, name: str, env: dict[str, str], python: Path | None = None, **arguments: object
    ):
        return processes.Task(python or sys.executable, script, name, arguments, env)

    def env(self, server: Mlplat) -> dict[str, str]:
        """Our client: it finds this server, and keeps its journal in a folder of this run."""
        home = self.folder / "home" / server.data.name
        home.mkdir(parents=True, exist_ok=True)
        return {"MLPLAT_URL": server.url, "MLPLAT_HOME": str(home), "PYTHONHASHSEED": "0"}

    def server_cpu(self, server: Mlplat | Mlflow) -> float:
        total = processes.cpu_seconds(server.pid)
        if isinstance(server, Mlplat) and server.database and self.postgres:
            total += processes.cpu_seconds(self.postgres.pid)
        return total

    def ours(self, server: Mlplat, name: str, **arguments: object) -> dict:
        """A task against our server; `server_cpu` is what the server used meanwhile."""
        before = self.server_cpu(server)
        result = self.start(OURS, name, self.env(server), **arguments).result()
        return {**result, "server_cpu": self.server_cpu(server) - before}

    def mlflows(self, name: str, **arguments: object) -> dict | None:
        """The same with MLflow; None where it is left out."""
        if self.mlflow is None:
            return None
        before = self.server_cpu(self.mlflow)
        env = {**quiet_env(), "MLFLOW_TRACKING_URI": self.mlflow.url}
        result = self.start(MLFLOW, name, env, self.pythons["mlflow"], **arguments).result()
        return {**result, "server_cpu": self.server_cpu(self.mlflow) - before}

    def offline(self, peer: str, name: str, folder: Path, **arguments: object) -> processes.Task:
        folder.mkdir(parents=True, exist_ok=True)
        env = {**quiet_env(), "TRACKIO_DIR": str(folder)}
        return self.start(OFFLINE, name, env, self.pythons[peer], peer=peer, folder=str(folder), **arguments)


class Row:
    """One row of the table, or some that are measured together. `ours` is called once per database, `theirs` once, and
    `lines` makes of both what is printed."""

    name = ""

    def ours(self, bench: Bench, server: Mlplat) -> dict:
        raise NotImplementedError

    def theirs(self, bench: Bench) -> dict:
        return {}

    def lines(self, bench: Bench, ours: dict, theirs: dict) -> list[Line]:
        raise NotImplementedError


def both_cpu(ours: dict, theirs: dict | None, per: float = 1) -> str:
    """Client + server, in seconds, or per point in microseconds."""

    def one(result: dict | None) -> str:
        return "-" if not result else f"{(result['cpu'] + result['server_cpu']) / per:.3g} s"

    return f"{one(ours)} / {one(theirs)}"


def per_point_cpu(ours: dict, theirs: dict | None) -> str:
    """Client + server, in microseconds per point."""

    def one(result: dict | None) -> str:
        if not result or not result.get("points"):
            return "-"
        return f"{(result['cpu'] + result['server_cpu']) / result['points'] * 1e6:.3g} us"

    return f"{one(ours)} / {one(theirs)} a point"


def at_least(ratio: float | None, wanted: float) -> bool | None:
    return None if ratio is None else ratio >= wanted


def cores() -> int:
    return len(os.sched_getaffinity(0))
