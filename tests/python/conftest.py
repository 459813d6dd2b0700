"""A real server for the tests, and a project of its own for each of them.

`MLPLAT_TEST_SERVER_BIN` names the server's binary (default: bin/mlplat-server); with `MLPLAT_TEST_DATABASE_URL` it works
on that database instead of SQLite.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mlplat
import pytest
from mlplat import _active

if TYPE_CHECKING:
    from worlds import World

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A server process with a data folder of its own."""

    def __init__(self, data: Path, listen: str = "127.0.0.1:0") -> None:
        binary = os.environ.get("MLPLAT_TEST_SERVER_BIN", ROOT / "bin" / "mlplat-server")
        command = [binary, "--listen", listen, "--data-dir", data]
        if database := os.environ.get("MLPLAT_TEST_DATABASE_URL"):
            command += ["--database-url", database]
        self.log = (data / "server.log").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = self._address()
        self.reader = threading.Thread(target=self._read_on, daemon=True)
        self.reader.start()

    def _read_on(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            stdout.read()

    def _address(self) -> str:
        """What the server prints when it is ready; it may print more, which nobody needs."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"listens on (http://\S+)", line):
                return found[1]
        raise RuntimeError(f"the server did not start; see {self.log.name}")

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()
        self.reader.join(timeout=5)
        self.log.close()

    def stop(self) -> None:
        """Ends it as an operator would."""
        self.process.terminate()
        try:
            assert self.process.wait(timeout=20) == 0
        finally:
            self.process.kill()
            self.reader.join(timeout=5)
            self.log.close()


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[str]:
    """The journals of the tests, away from those of whoever runs them."""
    with tempfile.TemporaryDirectory(prefix="mlplat-home-") as folder:
        os.environ["MLPLAT_HOME"] = folder
        yield folder


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="mlplat-test-") as folder:
        server = Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def project(server: Server, home: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh project that `mlplat` and child processes are connected to."""
    for name in [name for name in os.environ if name.startswith("MLPLAT_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLPLAT_HOME", home)
    name = f"p-{uuid.uuid4().hex[:12]}"
    mlplat.connect(server.url)
    mlplat.create_project(name)
    monkeypatch.setenv("MLPLAT_URL", server.url)
    monkeypatch.setenv("MLPLAT_PROJECT", name)
    # What goes along with a run by itself has tests of its own, and the others look at what they logged.
    for companion in ("SYSTEM_METRICS", "ENVIRONMENT", "CONSOLE"):
        monkeypatch.setenv(f"MLPLAT_{companion}", "0")
    mlplat.connect()
    yield name
    while run := _active.innermost():
        run._deactivate()  # left over by a test that failed


@pytest.fixture
def logged(project: str) -> Iterator[str]:
    """A fresh project, with autologging on; a warning of it is a failure."""
    from mlplat._autolog import _session

    mlplat.autolog()
    _session._warned.clear()
    yield project
    mlplat.autolog(disable=True)
    assert not _session._warned, "no warning was expected"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server that is not started yet, with journals of its own."""
    from worlds import World

    world = World(tmp_path)
    yield world
    world.kill()
    mlplat.connect()
