"""Brings the files of a run over.

Invariant: one file that cannot be read or stored is said and takes no other with it. What the run has already is not sent
again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial

from .. import _native, _runs
from .._errors import DeadlineExceededError, MlplatError, UnavailableError
from ._local_files import is_below
from ._records import Fetched, Files, Placed, Source, SourceRun
from ._summary import Summary


def log_files(client: _native.Client, source: Source, run: SourceRun, summary: Summary) -> list[str]:
    """Brings all files of a run over; returns in sentences which were left out."""
    return _FilesOf(client, run, summary).log(source)


class _FilesOf:
    def __init__(self, client: _native.Client, run: SourceRun, summary: Summary) -> None:
        self.client = client
        self.run = run
        self.summary = summary
        self.left: list[str] = []
        present = _runs.get_run(run.id, view="all").artifacts()
        self.sizes = {file.path: file.size_bytes for file in present}
        self.digests = {file.path: file.sha256 for file in present}

    def log(self, source: Source) -> list[str]:
        for found in source.files(self.run, self.sizes):
            if isinstance(found, str):
                self._failed(found)
            elif isinstance(found, Fetched):
                self._fetch(found)
            elif isinstance(found, Placed):
                if self._is_new(found.target, found.path):
                    self._fetch(Fetched(found.target, partial(_put, found.path)))
            else:
                self._log_local(found)
        return self.left

    def _failed(self, text: str) -> None:
        self.left.append(text)
        self.summary.fail(text)

    def _lost(self, target: str, error: Exception) -> None:
        run = self.run
        self._failed(f"file {target!r} of run {run.name!r} ({run.key}) was left out: {error}")

    def _fetch(self, found: Fetched) -> None:
        directory, name = os.path.split(found.target)
        with tempfile.TemporaryDirectory(prefix="mlplat-import-") as folder:
            local = os.path.join(folder, name)
            try:
                found.fetch(local)
            except (MlplatError, OSError, ValueError) as error:
                self._lost(found.target, error)
                return
            self._log_one(found.target, local, directory)

    def _log_local(self, found: Files) -> None:
        # The folder of a model has a name of its own, and may be a link.
        folder = os.path.dirname(found.path)
        if not found.name and os.path.islink(found.path) and not is_below(found.path, folder):
            self.summary.note(f"{found.path} was left out: it is a link that leads out of the run's folder")
            return
        new = [
            (target, path)
            for target, path in self._walk(found.path, found.target)
            if self._is_new(target, path)
        ]
        if not new:
            return
        if not found.name or found.name == os.path.basename(found.path):
            try:
                self._upload(found.path, found.directory)
            except (UnavailableError, DeadlineExceededError):
                raise
            except (MlplatError, OSError, ValueError):
                pass  # for one of them; which one is found below
            else:
                for _, path in new:
                    self._count(path)
                return
        for target, path in new:
            self._log_one(target, path, os.path.dirname(target))

    def _log_one(self, target: str, path: str, directory: str) -> None:
        """One file, whose name is the last part of its path in the run."""
        try:
            self._upload(path, directory)
        except (UnavailableError, DeadlineExceededError):
            raise  # for all of them
        except (MlplatError, OSError, ValueError) as error:
            self._lost(target, error)
        else:
            self._count(path)

    def _count(self, path: str) -> None:
        self.summary.files += 1
        self.summary.bytes += os.path.getsize(path)

    def _is_new(self, target: str, path: str) -> bool:
        try:
            return target not in self.digests or self.digests[target] != _digest(path)
        except OSError as error:
            self._lost(target, error)
            return False

    def _upload(self, path: str, directory: str) -> None:
        _, skipped = _native.import_artifact(self.client, self.run.id, path, directory).wait()
        for local, why in skipped:
            self.summary.note(f"{local} was left out: {why}")

    def _walk(self, path: str, target: str, top: str = "") -> Iterator[tuple[str, str]]:
        """The files at a path, with the paths that they have in the run; links only to files below the top."""
        top = top or path
        if not os.path.isdir(path):
            yield target, path
            return
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            self._lost(target, error)
            return
        for entry in entries:
            # As an upload of the folder does it.
            if not entry.is_symlink() or is_below(entry.path, top):
                yield from self._walk(entry.path, f"{target}/{entry.name}", top)


def _put(path: str, local: str) -> None:
    """The same file in another place: without a copy, where that is on the same disk."""
    try:
        os.link(os.path.realpath(path), local)
    except OSError:
        shutil.copyfile(path, local)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
