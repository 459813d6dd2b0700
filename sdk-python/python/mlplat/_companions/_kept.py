"""What a run prints, kept on the disk as it is printed, so that a killed process loses none of it.

A file `$MLPLAT_HOME/console/<run>_<random>.log` takes what is written, before it is uploaded, and is removed when the end of
the run has put the whole into the journal. What is still there when its process is gone is delivered by the next process that
logs to the same server and project, or by `mlplat sync`, once the journal of that process is: so nothing older comes after it.

Invariant: nothing of a process that may still live is delivered, save after a day of silence.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from .. import _native
from .._errors import MlplatError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FORMAT = {"format": "mlplat-console", "version": 1}
_LARGE = 16 << 20
_SILENT_S = 24 * 3600.0
_FORGOTTEN_S = 30 * 24 * 3600.0
"""What no server takes is removed after this long."""


def home() -> str:
    """Where what is logged is kept."""
    return os.environ.get("MLPLAT_HOME") or os.path.join(os.path.expanduser("~"), ".mlplat")


class Kept:
    """The file of one run. A disk that takes no more is no error: the uploads go on."""

    __slots__ = ("_about", "_file", "_path", "_size")

    def __init__(self, client: _native.Client, run_id: str, artifact_path: str) -> None:
        where = {"url": client.url, "project": client.project, "run_id": run_id, "path": artifact_path}
        self._about = {**_FORMAT, **where}
        self._path = os.path.join(home(), "console", f"{run_id}_{os.urandom(4).hex()}.log")
        self._file: int | None = None
        self._size = -1

    def add(self, text: str) -> bool:
        """Takes what was written; whether it is time to put the transcript in place of all of it."""
        content = text.encode("utf-8", "replace")
        if self._file is None:
            if self._size >= 0:
                return False  # given up, or ended
            self._begin(b"")
        if self._file is not None:
            try:
                os.write(self._file, content)
                self._size += len(content)
            except OSError:
                self.remove()
        return self._size > _LARGE

    def renew(self, text: str) -> None:
        """Puts the transcript in place of all that was written."""
        if self._file is not None:
            self._close()
            self._begin(text.encode("utf-8", "replace"))

    def remove(self) -> None:
        """What was written is safe elsewhere; nothing more is kept."""
        self._close()
        self._size = 0
        _unlink(self._path)

    def _begin(self, content: bytes) -> None:
        new = f"{self._path}.new"
        head = json.dumps({**self._about, "owner": _owner()}).encode() + b"\n"
        try:
            os.makedirs(os.path.dirname(new), 0o700, exist_ok=True)
            # What is printed may be secret.
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            self._file = file
            os.write(file, head + content)
            os.replace(new, self._path)
            self._size = 0
        except OSError:
            self.remove()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def deliver(client: _native.Client, to: _native.Client | None = None) -> int:
    """Delivers what dead processes printed to the runs of this client; returns how many files. What cannot be now stays."""
    done = 0
    for path, about, text in _left(client):
        try:
            _upload(to or client, about, text)
            done += 1
        except NotFoundError:
            # It may be that the run arrives later.
            if time.time() - os.path.getmtime(path) < _FORGOTTEN_S:
                continue
        except (MlplatError, OSError):
            return done
        _unlink(path)
    return done


def servers() -> list[tuple[str, str]]:
    """The servers and projects that something is kept for."""
    found = {(about["url"], about["project"]) for _, about, _ in _files()}
    return sorted(found)


def _upload(client: _native.Client, about: dict[str, Any], content: bytes) -> None:
    import tempfile

    from ._transcript import Transcript

    transcript = Transcript()
    transcript.add(content.decode("utf-8", "replace"))
    with tempfile.TemporaryDirectory(prefix="mlplat-") as folder:
        local = os.path.join(folder, os.path.basename(about["path"]))
        with open(local, "wb") as file:
            file.write(transcript.text().encode("utf-8", "replace"))
        _native.import_artifact(client, about["run_id"], local, "").wait()


def _left(client: _native.Client) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """The files of dead processes for this server and project, whose journals are delivered."""
    owners: list[Any] | None = None
    for path, about, content in _files():
        if (about["url"], about["project"]) != (client.url, client.project):
            continue
        silent_s = time.time() - os.path.getmtime(path)
        alive = _is_alive(about["owner"])
        if alive or (alive is None and silent_s < _SILENT_S):
            continue
        owners = _owners_of_journals() if owners is None else owners
        if about["owner"] not in owners:
            yield path, about, content


def _unlink(path: str) -> None:
    """Removes a file, unless another process has done so."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _files() -> Iterator[tuple[str, dict[str, Any], bytes]]:
    import glob

    for path in sorted(glob.glob(os.path.join(glob.escape(home()), "console", "*.log"))):
        try:
            with open(path, "rb") as file:
                about = json.loads(file.readline())
                if about["format"] == _FORMAT["format"] and about["version"] == _FORMAT["version"]:
                    yield path, about, file.read()
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just being removed, or not ours


def _owners_of_journals() -> list[Any]:
    import glob

    owners: list[Any] = []
    for path in glob.glob(os.path.join(glob.escape(home()), "journal", "*", "meta.json")):
        try:
            with open(path, encoding="utf-8") as file:
                owners.append(json.load(file)["owner"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return owners


def _owner() -> dict[str, Any]:
    """This process, as the journals name it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    pid = os.getpid()
    return {
        "host": _line("/proc/sys/kernel/hostname") or os.environ.get("HOSTNAME", ""),
        "boot": _line("/proc/sys/kernel/random/boot_id"),
        "namespace": namespace,
        "pid": pid,
        "started": _start_of(pid) or "",
    }


def _is_alive(owner: dict[str, Any]) -> bool | None:
    """Whether a process lives; None where that cannot be seen from here."""
    here = _owner()
    same = all(owner[name] == here[name] for name in ("host", "boot", "namespace"))
    if not same or not owner["boot"] or not owner["started"]:
        return None
    return _start_of(owner["pid"]) == owner["started"]


def _start_of(pid: int) -> str | None:
    """When a process started; none where it is gone, or a zombie."""
    # The second field is the name in parentheses, and may hold anything; the third is the state, the 22nd the start.
    fields = _line(f"/proc/{pid}/stat").rpartition(") ")[2].split(" ")
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else None


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
