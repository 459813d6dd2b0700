"""What is measured: our server, MLflow's, a PostgreSQL, and the virtual environments of the peers. All of it lives in a
folder of its own and is gone afterwards."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import processes

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BINARY = Path(os.environ.get("MLPLAT_TEST_SERVER_BIN") or ROOT / "bin" / "mlplat-server")
PEERS = ("mlflow", "wandb", "trackio")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mlplat:
    """Our server, with a data folder of its own."""

    name = "mlplat"

    def __init__(self, data: Path, database: str = "", *, port: int = 0, wrap: tuple[str, ...] = ()) -> None:
        self.data = data
        self.database = database
        self.wrap = wrap
        data.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Starts it, also again, on the same port and folder; returns when it is ready."""
        command = [
            *self.wrap,
            str(BINARY),
            "--listen",
            f"127.0.0.1:{self.port}",
            "--data-dir",
            str(self.data),
        ]
        if self.database:
            command += ["--database-url", self.database]
        self.log = (self.data.parent / f"{self.data.name}.log").open("ab")
        began = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if re.search(r"listens on http", line):
                break
        else:
            raise RuntimeError(f"the server did not start; see {self.log.name}")
        self.start_s = time.perf_counter() - began
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            processes.end(self.process)
        self.log.close()

    @property
    def pid(self) -> int:
        """The server itself, below what it may be wrapped in."""
        return processes.tree(self.process.pid)[-1]


class Mlflow:
    """MLflow's server: 4 workers, SQLite, artifacts through the server."""

    name = "mlflow"

    def __init__(self, python: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.database = folder / "mlflow.db"
        command = [
            str(python.parent / "mlflow"),
            "server",
            *("--workers", "4"),
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{self.database}"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]
        log = (folder / "server.log").open("wb")
        began = time.perf_counter()
        self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=quiet_env())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(f"{self.url}/health", timeout=1).close()
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - began > 180:
                    self.stop()
                    raise RuntimeError(f"MLflow's server did not start; see {log.name}") from None
                time.sleep(0.1)
        self.start_s = time.perf_counter() - began
        # The other workers are up a little later.
        self.settle()

    def settle(self, patience_s: float = 30) -> None:
        """Waits until its processes have done what they do at the start."""
        deadline, before = time.monotonic() + patience_s, -1.0
        while time.monotonic() < deadline and (now := processes.cpu_seconds(self.process.pid)) - before > 0.1:
            before = now
            time.sleep(1)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        processes.end(self.process)


class Postgres:
    """A PostgreSQL by tests/services/postgres.sh that waits for the disk at every commit, as in production."""

    def __init__(self) -> None:
        env = {**os.environ, "MLPLAT_TEST_POSTGRES_FSYNC": "on"}
        started = subprocess.run(
            [ROOT / "tests/services/postgres.sh", "start"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        folder, self.url = started.stdout.split()[-2:]
        self.folder = Path(folder)
        self.programs = Path((self.folder / "bin").read_text(encoding="utf-8").strip())
        self.pid = int((self.folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])

    def psql(self, command: str, database: str = "postgres") -> list[str]:
        """The command line that runs one command of psql."""
        url = re.sub(r"/postgres$", f"/{database}", self.url)
        quiet = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
        return [str(self.programs / "psql"), *quiet, "--command", command, url]

    def sql(self, statement: str, database: str = "postgres") -> str:
        return subprocess.run(
            self.psql(statement, database), check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def create(self, name: str) -> str:
        """A new database; its URL."""
        self.sql(f"CREATE DATABASE {name}")
        return re.sub(r"/postgres$", f"/{name}", self.url)

    def stop(self) -> None:
        subprocess.run([ROOT / "tests/services/postgres.sh", "stop", self.folder], check=False)


def quiet_env() -> dict[str, str]:
    """The environment of peers: they stay on this machine and send nothing home."""
    return {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "HF_HUB_OFFLINE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def peer_python(name: str) -> Path | None:
    """The Python of a peer's virtual environment, which is made when it is missing; None where that fails."""
    folder = Path(".cache", "peers", name)
    done = subprocess.run(
        [ROOT / ".ci/venv", folder, f"requirements/peers-{name}.txt"],
        cwd=ROOT,
        env={**os.environ, "CONSTRAINTS": "/dev/null", "PYTHON": sys.executable},
        stdout=sys.stderr,
    )
    if done.returncode != 0:
        print(f"{name} cannot be installed here; it is left out", file=sys.stderr)
        return None
    return ROOT / folder / "bin" / "python"


def peer_version(python: Path, name: str) -> str:
    code = f"import importlib.metadata; print(importlib.metadata.version('{name}'))"
    return subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def empty(folder: Path) -> Path:
    """The folder, new and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
