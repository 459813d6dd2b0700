"""What is lost, and what is stored twice, when things break: a client that logs, and the world going down around it. Every
call that returned counts; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import processes
from proxy import Proxy
from servers import HERE, ROOT, Mlplat, Postgres, quiet_env

CLIENT = HERE / "crash_client.py"
KEYS = 3


@dataclass
class Found:
    """What a scenario did, over its repetitions."""

    logged: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, other: dict) -> None:
        for name in ("logged", "stored", "lost", "doubled", "wrong"):
            setattr(self, name, getattr(self, name) + other[name])

    @property
    def good(self) -> bool:
        return self.logged > 0 and not (self.lost or self.doubled or self.wrong)


class Trial:
    """One repetition: a server, a home for journals, and the clients that log."""

    def __init__(self, folder: Path, server: Mlplat, source: random.Random) -> None:
        self.folder = folder
        self.server = server
        self.source = source
        self.home = folder / "home"
        self.home.mkdir()
        self.clients: list[tuple[processes.Task, Path]] = []

    def client(
        self, task: str = "log", *, url: str = "", env: dict[str, str] | None = None, **arguments: object
    ):
        """A client; each call of `log_metrics` that returned is noted in a file that outlives it."""
        noted = self.folder / f"noted{len(self.clients)}"
        noted.write_bytes(bytes(4096))
        environment = {"MLPLAT_URL": url or self.server.url, "MLPLAT_HOME": str(self.home), **(env or {})}
        arguments = {"noted": str(noted), "seed": self.source.randrange(1 << 30), **arguments}
        started = processes.Task(sys.executable, CLIENT, task, arguments, environment)
        self.clients.append((started, noted))
        return started

    def pause(self, most_s: float) -> None:
        time.sleep(self.source.random() * most_s)

    def await_calls(self, calls: int = 1, patience_s: float = 30) -> None:
        """Until the last client has logged something."""
        deadline = time.monotonic() + patience_s
        while noted_calls(self.clients[-1][1])[1] < calls:
            if self.clients[-1][0].process.poll() is not None or time.monotonic() > deadline:
                raise processes.TaskError("the client did not get under way")
            time.sleep(0.005)

    def finished(self, patience_s: float = 120) -> None:
        """Waits for the clients, which are not killed."""
        for task, _ in self.clients:
            task.result(patience_s)

    def sync(self) -> None:
        """Delivers what dead processes left, as a user would."""
        environment = {**quiet_env(), "MLPLAT_URL": self.server.url, "MLPLAT_HOME": str(self.home)}
        subprocess.run(
            [sys.executable, "-m", "mlplat", "sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
            timeout=120,
        )

    def verify(self) -> dict:
        """Compares the server with what was noted. A call that had not returned may be stored or not."""
        total = {"logged": 0, "stored": 0, "lost": 0, "doubled": 0, "wrong": 0}
        for _, noted in self.clients:
            run_id, calls, children = noted_calls(noted)
            if not run_id:
                continue
            environment = {"MLPLAT_URL": self.server.url, "MLPLAT_HOME": str(self.home)}
            arguments = {"run_id": run_id, "calls": {"": calls, **children}}
            checked = processes.Task(sys.executable, CLIENT, "check", arguments, environment).result()
            for name in total:
                total[name] += checked[name]
        return total


def noted_calls(path: Path) -> tuple[str, int, dict[str, int]]:
    """What a client noted: its run, the calls that returned, and those of its children."""
    content = path.read_bytes()
    run_id = content[:36].strip(b"\0").decode("ascii")
    counts = struct.unpack_from("<9Q", content, 64)
    return run_id, counts[0], {f"child{at}_": count for at, count in enumerate(counts[1:]) if count}


# The scenarios. Each breaks something while a client logs, and leaves the rest to `sync`.


def client_killed(trial: Trial) -> None:
    client = trial.client()
    trial.await_calls(trial.source.choice((1, 50, 2000)))
    trial.pause(0.5)
    client.process.kill()
    client.process.wait()


def client_killed_server_down(trial: Trial) -> None:
    trial.server.kill()
    client_killed(trial)
    trial.server.start()


def server_killed(trial: Trial) -> None:
    trial.client(calls=8000)
    trial.await_calls()
    for _ in range(3):
        trial.pause(0.4)
        trial.server.kill()
        trial.pause(0.4)
        trial.server.start()
    trial.finished()


def both_killed(trial: Trial) -> None:
    client = trial.client()
    trial.await_calls(trial.source.choice((1, 50, 2000)))
    trial.pause(0.5)
    first, second = trial.source.sample((client.process.kill, trial.server.kill), 2)
    first()
    second()
    client.process.wait()
    trial.server.start()


def network_cut(trial: Trial) -> None:
    proxy = Proxy(trial.server.port)
    try:
        trial.client(url=proxy.url, calls=8000)
        trial.await_calls()
        for mode in trial.source.sample(("refused", "silent", "deaf"), 3):
            trial.pause(0.4)
            proxy.set(mode)
            trial.pause(1.0)
            proxy.set("open")
        trial.finished()
    finally:
        proxy.close()


def client_killed_answers_lost(trial: Trial) -> None:
    proxy = Proxy(trial.server.port)
    try:
        client = trial.client(url=proxy.url)
        trial.await_calls()
        trial.pause(0.4)
        proxy.set("deaf")
        trial.pause(1.0)
        client.process.kill()
        client.process.wait()
        # The journal is that of the address it was written for.
        proxy.set("open")
        trial.sync()
    finally:
        proxy.close()


def server_disk_full(trial: Trial) -> None:
    """The server's disk is full for a while; then there is room again."""
    ballast = trial.server.data / "ballast"
    trial.client(calls=30_000)
    trial.await_calls()
    trial.pause(0.3)
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    time.sleep(1.5)
    ballast.unlink()
    trial.finished()


def client_disk_full(trial: Trial) -> None:
    """The disk of the journal is full from some time on; the server is there."""
    trial.client(calls=30_000)
    trial.await_calls()
    trial.pause(0.3)
    ballast = trial.home / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    trial.finished()
    ballast.unlink()


def forked(trial: Trial) -> None:
    trial.client("forks", calls=3000)
    trial.finished()


def forked_children_killed(trial: Trial) -> None:
    trial.client("forks", calls=3000, kill_children=True)
    trial.finished()


def client_clock_set_back(trial: Trial) -> None:
    trial.client(calls=6000, env=fake_clock(trial.folder))
    trial.await_calls()
    trial.pause(0.3)
    set_clock(trial.folder, "-1d")
    trial.pause(0.3)
    set_clock(trial.folder, "-30d")
    trial.finished()


def server_clock_set_back(trial: Trial) -> None:
    trial.client(calls=6000)
    trial.await_calls()
    trial.pause(0.3)
    set_clock(trial.server.data.parent, "-1d")
    trial.finished()


SCENARIOS: dict[str, Callable[[Trial], None]] = {
    "client killed, server up": client_killed,
    "client killed, server down": client_killed_server_down,
    "server killed 3 times": server_killed,
    "both killed": both_killed,
    "network cut: refused, silent, answers lost": network_cut,
    "answers lost, then client killed": client_killed_answers_lost,
    "disk of the server full for a while": server_disk_full,
    "disk of the journal full": client_disk_full,
    "fork: 4 children and their parent log": forked,
    "fork: the children are killed": forked_children_killed,
    "clock of the client set back, twice": client_clock_set_back,
    "clock of the server set back": server_clock_set_back,
}


def faketime_library() -> Path | None:
    """libfaketime, from Debian where it is missing and we may; it lets a process see another clock."""
    found = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing faketime (apt-get)", file=sys.stderr)
        quiet = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "faketime"]
        subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=sys.stderr)
        subprocess.run(
            quiet, check=False, stdout=sys.stderr, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        found = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    return found


def fake_clock(folder: Path) -> dict[str, str]:
    """The environment of a process whose clock is told by a file."""
    set_clock(folder, "+0")
    return {
        "LD_PRELOAD": str(faketime_library()),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(folder: Path, offset: str) -> None:
    new = folder / "clock.new"
    new.write_text(f"{offset}\n", encoding="ascii")
    new.rename(folder / "clock")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A tmpfs; False where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], stderr=subprocess.DEVNULL
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=False)


class Matrix:
    """Every scenario, some times each."""

    def __init__(self, postgres: Postgres | None) -> None:
        self.postgres = postgres
        self.databases = 0

    def new_database(self) -> str:
        if self.postgres is None:
            return ""
        self.databases += 1
        return self.postgres.create(f"crash{self.databases}")

    def one(self, scenario: Callable[[Trial], None], seed: int) -> dict:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlplat-crash-")))
            wrap: tuple[str, ...] = ()
            if scenario is server_disk_full and not stack.enter_context(small_disk(folder / "server", "24m")):
                raise SkipError("this user cannot mount a tmpfs")
            if scenario is server_clock_set_back:
                pairs = fake_clock(folder).items()
                wrap = ("env", *(f"{name}={value}" for name, value in pairs))
            if scenario is server_disk_full and self.postgres:
                raise SkipError("the data of PostgreSQL is elsewhere")
            data = folder / "server" / "data" if scenario is server_disk_full else folder / "data"
            server = Mlplat(data, self.new_database(), wrap=wrap)
            stack.callback(server.stop)
            trial = Trial(folder, server, random.Random(seed))
            if scenario is client_disk_full and not stack.enter_context(small_disk(trial.home, "2m")):
                raise SkipError("this user cannot mount a tmpfs")
            stack.callback(end_clients, trial)
            scenario(trial)
            trial.sync()
            return trial.verify()

    def all(self, names: list[str], repetitions: int) -> dict[str, Found]:
        table = {}
        for name in names:
            began, found = time.monotonic(), Found()
            table[name] = found
            if "clock" in name and faketime_library() is None:
                found.notes.append("left out: faketime is missing")
                continue
            for seed in range(repetitions):
                try:
                    found.add(self.one(SCENARIOS[name], seed))
                except SkipError as reason:
                    found.notes.append(f"left out: {reason}")
                    break
                except (processes.TaskError, RuntimeError, subprocess.SubprocessError) as error:
                    found.notes.append(f"repetition {seed}: {error}")
                    found.wrong += 1
            print(f"  {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return table


class SkipError(Exception):
    """Not possible for this user or on this machine."""


def end_clients(trial: Trial) -> None:
    for task, _ in trial.clients:
        if task.process.poll() is None:
            processes.end(task.process, 1)


def show(table: dict[str, Found], repetitions: int) -> int:
    width = max(len(name) for name in table)
    print(f"{'':{width}}  {'times':>5} {'logged':>10} {'stored':>10} {'lost':>6} {'doubled':>8} {'wrong':>6}")
    bad = 0
    for name, found in table.items():
        left_out = any(note.startswith("left out") for note in found.notes)
        bad += not (found.good or left_out)
        print(
            f"{name:{width}}  {repetitions:>5} {found.logged:>10,} {found.stored:>10,} {found.lost:>6} "
            f"{found.doubled:>8} {found.wrong:>6}  {'; '.join(found.notes[:3])}".rstrip()
        )
    print("nothing lost, nothing doubled" if not bad else f"{bad} scenarios FAILED")
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--only", nargs="+", help="scenarios whose name contains one of these")
    options = parser.parse_args()
    os.chdir(ROOT)
    names = [name for name in SCENARIOS if not options.only or any(word in name for word in options.only)]
    with ExitStack() as stack:
        postgres = None
        if options.database == "postgresql":
            postgres = Postgres()
            stack.callback(postgres.stop)
        table = Matrix(postgres).all(names, options.repetitions)
    print(f"crash matrix on {options.database}")
    return show(table, options.repetitions)


if __name__ == "__main__":
    sys.exit(main())
