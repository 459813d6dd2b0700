"""A server that may be down, and processes that log to it and die."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlplat
from conftest import Server

LOG_AND_DIE = """
import os, signal, sys, mlplat
run = mlplat.start_run("e", "dies")
for step in range({count}):
    run.log_metrics({{"a": step, "b": step * 0.5, "c": -step}}, step=step)
print(run.id, flush=True)
{then}
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
SLOW = """
import sys, time, mlplat
run = mlplat.start_run("e", "slow")
print(run.id, flush=True)
for step in range({count}):
    run.log_metrics({{"a": step, "b": step * 0.5, "c": -step}}, step=step)
    if step % 100 == 0: time.sleep(0.02)
print("logged", flush=True)
assert run.flush(60)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    """A server that may be down, an address that it keeps, and a home for journals."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.home = folder / "home"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server: Server | None = None
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MLPLAT_")}
        self.env |= {"MLPLAT_URL": self.url, "MLPLAT_HOME": str(self.home), "MLPLAT_OFFLINE_TIMEOUT": "0.5"}
        # What is counted here are the records of the tests alone.
        self.env |= {"MLPLAT_ENVIRONMENT": "0", "MLPLAT_SYSTEM_METRICS": "0", "MLPLAT_CONSOLE": "0"}
        self.env["PYTHONPATH"] = os.pathsep.join(sys.path)

    def start(self) -> None:
        self.server = Server(self.data, f"127.0.0.1:{self.port}")

    def kill(self) -> None:
        if self.server:
            self.server.kill()
        self.server = None

    def python(self, code: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], env=self.env | more, capture_output=True, text=True, timeout=120
        )

    def die_after(self, count: int, then: str = DIE, **more: str) -> str:
        """The id of a run whose process died right after its last call."""
        done = self.python(LOG_AND_DIE.format(count=count, then=then), **more)
        assert done.returncode == (-9 if then.endswith(DIE) else 0), done.stderr
        return done.stdout.split()[0]

    def sync(self, *options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "mlplat", "sync", "--json", *options]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120)
        return json.loads(done.stdout) | {"code": done.returncode, "stderr": done.stderr}

    def journals(self) -> list[Path]:
        folder = self.home / "journal"
        return sorted(folder.iterdir()) if folder.exists() else []

    def check(self, run_id: str, count: int) -> None:
        """All points of the three metrics are there, once, with their values."""
        mlplat.connect(self.url)
        run = mlplat.get_run(run_id)
        steps = list(range(count))
        for key, factor in [("a", 1.0), ("b", 0.5), ("c", -1.0)]:
            history = run.metric_history(key).to_arrow()
            assert history["step"].to_pylist() == steps, key
            assert history["value"].to_pylist() == [step * factor for step in steps], key
