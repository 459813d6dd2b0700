"""Servers that go away and come back, hang, or move: nothing is lost, and nobody waits longer than needed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlplat
import pytest
from worlds import SLOW, World


def test_sync_tells_what_is_left_for_other_servers(world: World):
    world.die_after(1)
    world.die_after(1, MLPLAT_PROJECT="another")
    command = [sys.executable, "-m", "mlplat", "sync"]

    def said(*options: str) -> str:
        done = subprocess.run(
            [*command, *options], env=world.env, capture_output=True, text=True, timeout=120
        )
        return done.stdout

    text = said("--url", "http://127.0.0.1:1/")
    assert "nothing is left to deliver there" in text
    assert "2 journals are for other servers or projects" in text
    assert (
        f"{world.url} another, {world.url} default" in text
        or f"{world.url} default, {world.url} another" in text
    )
    assert world.sync("--url", "http://127.0.0.1:1")["others"] == 2
    world.start()
    done = world.sync("--url", f"{world.url}/", "--project", "default")
    assert (len(done["journals"]), done["others"]) == (1, 1)
    usage = said("--help")
    assert "all servers" in usage
    assert "MLPLAT_URL" not in usage


def test_a_server_that_is_killed_and_comes_back(world: World):
    world.start()
    command = [sys.executable, "-c", SLOW.format(count=20_000)]
    process = subprocess.Popen(command, env=world.env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    for _ in range(2):
        time.sleep(0.7)
        world.kill()
        time.sleep(0.3)
        world.start()
    assert process.stdout.readline() == "logged\n"
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    world.check(run_id, 20_000)


class Proxy:
    """Passes bytes on to a server, and drops all connections when it is told to."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.open = True
        self.pairs: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            self.pairs += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if not self.open:
                    break
                sink.sendall(data)
        except OSError:
            pass

    def cut(self) -> None:
        self.open = False
        for end in self.pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.pairs.clear()

    def heal(self) -> None:
        self.open = True


def test_a_network_that_is_cut(world: World):
    world.start()
    proxy = Proxy(world.port)
    env = world.env | {"MLPLAT_URL": f"http://127.0.0.1:{proxy.port}"}
    command = [sys.executable, "-c", SLOW.format(count=20_000)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    for _ in range(5):
        time.sleep(0.3)
        proxy.cut()
        time.sleep(0.2)
        proxy.heal()
    assert process.stdout.readline() == "logged\n"
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    proxy.listener.close()
    world.check(run_id, 20_000)


def test_a_download_outlasts_a_restart_of_the_server(world: World, tmp_path: Path):
    world.start()
    mlplat.connect(world.url)
    content = os.urandom(1 << 20) * 300
    source = tmp_path / "large"
    source.write_bytes(content)
    with mlplat.start_run("e", "r") as run:
        run.log_artifact(source)
    into = tmp_path / "into"
    found: list[str] = []
    client = threading.Thread(
        target=lambda: found.append(mlplat.get_run(run.id).download_artifact("large", into))
    )
    client.start()
    deadline = time.monotonic() + 20
    while not (into.exists() and any(path.stat().st_size for path in into.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    world.kill()
    time.sleep(2.5)
    world.start()
    client.join(60)
    assert Path(found[0]).read_bytes() == content


def test_uploads_outlast_a_restart_of_the_server(world: World, tmp_path: Path):
    files = tmp_path / "checkpoints"
    files.mkdir()
    for number in range(50):
        (files / f"small-{number}").write_bytes(os.urandom(100))
    (files / "middling").write_bytes(os.urandom(3 << 20))
    world.start()
    mlplat.connect(world.url)
    with mlplat.start_run("e", "r") as run:
        run.log_artifact(files / "small-0")
        world.kill()
        back = threading.Timer(3, world.start)
        back.start()
        run.log_artifact(files)
        back.join()
    assert len(mlplat.get_run(run.id).artifacts("checkpoints")) == 51


def test_a_server_that_never_was_there_is_told_of_soon(world: World):
    code = """
import mlplat, time
run, began = mlplat.start_run("e", "r"), time.monotonic()
try:
    run.log_artifact(mlplat.__file__)
except mlplat.UnavailableError:
    print(time.monotonic() - began)
"""
    assert float(world.python(code).stdout) < 10


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_server_that_hangs_is_noticed_once(world: World):
    world.start()
    assert world.server is not None
    code = """
import mlplat, os, signal, sys, time
with mlplat.start_run("e", "before") as run:
    run.log_metric("a", 0.0)
os.kill(int(sys.argv[1]), signal.SIGSTOP)
for number in range(3):
    began = time.monotonic()
    with mlplat.start_run("e", f"hangs-{number}") as run:
        run.log_metric("a", number)
    print(time.monotonic() - began, flush=True)
os.kill(int(sys.argv[1]), signal.SIGCONT)
"""
    command = [sys.executable, "-c", code, str(world.server.process.pid)]
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, *others = map(float, done.stdout.split())
    # The first finds out; the others do not find out again.
    assert max(others) < first
    assert "records are not delivered yet" in done.stderr
    world.sync()
    mlplat.connect(world.url)
    assert len(mlplat.find_runs(experiment="e")) == 4


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_inputs_of_a_training_wait_together_for_a_server_that_hangs(world: World):
    world.start()
    assert world.server is not None
    code = """
import mlplat, os, signal, sys, time
from mlplat._autolog import Options, _session, enabled
from mlplat._inputs import describe

mlplat.connect(timeout=2)
enabled["sklearn"] = Options(True, True, True, 1)
_session.enable_here()

def before(session):
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    for number in range(20):
        session.add_input(describe("s3://data/%s" % number, "training", None, None, str(number)))

with mlplat.start_run("e", "r") as run:
    run.flush()
    _session.run_logged("sklearn", "Ridge", lambda: None, before=before)
print(run.id, flush=True)
"""
    command = [sys.executable, "-c", code, str(world.server.process.pid)]
    began = time.monotonic()
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, timeout=120)
    took = time.monotonic() - began
    os.kill(world.server.process.pid, signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    assert "was not logged" not in done.stderr
    assert took < 20, "one after another they take 40 seconds"
    world.sync()
    mlplat.connect(world.url)
    names = {one.name for one in mlplat.get_run(done.stdout.strip()).inputs}
    assert names == {str(number) for number in range(20)}


def test_a_journal_is_delivered_to_where_its_server_moved(world: World):
    run_id = world.die_after(20)
    old = world.port
    with socket.create_server(("127.0.0.1", 0)) as probe:
        world.port = probe.getsockname()[1]
    world.url = f"http://127.0.0.1:{world.port}"
    world.start()
    assert world.sync("--url", f"http://127.0.0.1:{old}")["code"] != 0
    command = [sys.executable, "-m", "mlplat", "sync", "--to", world.url]
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "which server has moved" in done.stderr
    done = world.sync("--url", f"http://127.0.0.1:{old}", "--to", world.url)
    assert done["code"] == 0, done["stderr"]
    world.check(run_id, 20)
    assert world.journals() == []
