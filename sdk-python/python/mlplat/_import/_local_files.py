"""Files of a source that are on this machine.

Invariant: what is listed here is what an import reads, so that a list that stayed the same means files that did.
"""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from .._errors import MisuseError
from ._records import Files, Listed


def local_path(uri: str) -> str | None:
    """The local path that an address means; None where it means none."""
    if uri.startswith("file:"):
        return unquote(urlsplit(uri).path)
    return None if "://" in uri or uri.startswith("mlflow-artifacts:") else uri


def is_below(path: str, folder: str) -> bool:
    """Whether there is a file at a path that is below a folder, links and `..` followed."""
    return os.path.isfile(path) and os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)


def listed(folder: str) -> Iterator[Listed]:
    """Path, size and time of all files below a folder; one that cannot be read counts as it is: without any."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(place, name)
            try:
                stat = os.stat(path)
            except OSError:
                yield path, -1, 0
            else:
                yield path, stat.st_size, stat.st_mtime_ns


class LocalFiles:
    """Artifacts that are on this machine, wherever the store has been moved to."""

    def __init__(self, base: str, artifacts_root: str | None, store: str | None = None) -> None:
        if artifacts_root and not os.path.isdir(artifacts_root):
            raise MisuseError(f"there is no folder {artifacts_root}")
        self.base = base
        self.root = artifacts_root
        self.roots = [root for root in (artifacts_root, store) if root]
        self.roots += [os.path.join(base, name) for name in ("mlruns", "mlartifacts", "")]

    def find(self, uri: str, tail: tuple[str, ...]) -> str | None:
        """The folder of an artifact URI; `tail` are the last parts of its path, for stores that were moved."""
        candidates = []
        path = local_path(uri)
        if path is not None:
            candidates.append(path if os.path.isabs(path) else os.path.join(self.base, path))
        elif uri.startswith("mlflow-artifacts:"):
            tail = tuple(part for part in urlsplit(uri).path.split("/") if part)
        candidates += [os.path.join(root, *tail) for root in self.roots]
        if self.root:
            # Of an experiment that keeps its files in a place of its own.
            candidates.append(os.path.join(self.root, *tail[1:]))
        if path is not None and os.path.isdir(candidates[0]):
            return candidates[0]
        # The file store makes an empty folder also for a run that has its files elsewhere.
        return next((one for one in candidates if os.path.isdir(one) and os.listdir(one)), None)

    def listed(self, uri: str, tail: tuple[str, ...], logged: bool = False) -> list[Listed | str]:
        """What is in the folder of an artifact URI, for a fingerprint."""
        found = self.find(uri, tail)
        if found is not None:
            return [*listed(found)]
        return [self.missing(uri, tail, logged) or ""]

    def files(self, uri: str, tail: tuple[str, ...], logged: bool = False) -> Iterator[Files | str]:
        """What is in the folder of an artifact URI; `logged` where the store says that there are some."""
        found = self.find(uri, tail)
        if found is not None:
            for entry in sorted(os.scandir(found), key=lambda entry: entry.name):
                yield Files(entry.path)
        elif missing := self.missing(uri, tail, logged):
            yield missing

    def model(self, name: str, uri: str, tail: tuple[str, ...]) -> Iterator[Files | str]:
        """The folder of a model, under its name."""
        found = self.find(uri, tail)
        if found is not None:
            yield Files(found, name=name)
        elif why := self.missing(uri, tail):
            yield f"the model {name!r} at {uri} cannot be read here: {why}"

    def missing(self, uri: str, tail: tuple[str, ...], logged: bool = False) -> str | None:
        """Why the files of an address that was not found cannot be read; None where there certainly are none.

        MLflow makes the folder of a run with its first file, so below a root that is here none means no files.
        """
        path = local_path(uri)
        if path is not None:
            path = path if os.path.isabs(path) else os.path.join(self.base, path)
            if logged:
                return f"there is no folder {path}, but the store says that files were logged into it"
            if self._is_without(path, tail):
                return None
            root = _above(path, len(tail) if _ends_with(path, tail) else len(tail) - 1)
            return (
                f"files at {root}, if there are any, are not on this machine: give the folder with --artifacts-root, "
                "or leave out files with --no-artifacts"
            )
        at_server = uri.startswith("mlflow-artifacts:") and os.path.isdir(
            os.path.join(self.base, "mlartifacts")
        )
        if (self.root or at_server) and not logged:
            return None
        return (
            f"files at {uri.rsplit('/', len(tail))[0]} cannot be read here: import from the server's http:// address, "
            "or give the folder with --artifacts-root"
        )

    def _is_without(self, path: str, tail: tuple[str, ...]) -> bool:
        """Whether there is the folder around that of the run, here or where the store was moved to."""
        # Where the experiment keeps its files, or, if none of its runs has any, where all of them do.
        if os.path.isdir(_above(path, len(tail) - 1)):
            return True
        if self.root and not os.listdir(self.root):
            return True
        if not _ends_with(path, tail):
            return False
        root = _above(path, len(tail))
        # A store that is where it was made: its `mlruns` beside it comes with the first file of all.
        if os.path.isdir(root) or os.path.realpath(os.path.dirname(root)) == os.path.realpath(self.base):
            return True
        experiment = path.rstrip("/").split("/")[-len(tail)]
        return any(os.path.isdir(os.path.join(root, experiment)) or _has_runs(root) for root in self.roots)


def _above(path: str, levels: int) -> str:
    for _ in range(levels):
        path = os.path.dirname(path)
    return path


def _ends_with(path: str, tail: tuple[str, ...]) -> bool:
    experiment, *rest = path.rstrip("/").split("/")[-len(tail) :]
    # A run may be in another experiment by now.
    return tuple(rest) == tail[1:] and (experiment == tail[0] or experiment.isdigit())


@functools.cache
def _has_runs(root: str) -> bool:
    """Whether it is a folder with the files of experiments, and not only called so."""
    return next(glob.iglob(os.path.join(glob.escape(root), "*", "*", "artifacts")), None) is not None
