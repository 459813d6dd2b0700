"""Files of a source that are on this machine.

Invariant: what is listed here is what an import reads, so that a list that stayed the same means files that did.
"""

from __future__ import annotations

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
        return next((one for one in candidates if os.path.isdir(one)), None)

    def listed(self, uri: str, tail: tuple[str, ...]) -> list[Listed | str]:
        """What is in the folder of an artifact URI, for a fingerprint."""
        found = self.find(uri, tail)
        if found is not None:
            return [*listed(found)]
        return [self.missing(uri, tail) or ""]

    def files(self, uri: str, tail: tuple[str, ...]) -> Iterator[Files | str]:
        """What is in the folder of an artifact URI."""
        found = self.find(uri, tail)
        if found is not None:
            for entry in sorted(os.scandir(found), key=lambda entry: entry.name):
                yield Files(entry.path)
        elif missing := self.missing(uri, tail):
            yield missing

    def missing(self, uri: str, tail: tuple[str, ...]) -> str | None:
        """Why the files of an address that was not found cannot be read; None where there simply are none.

        MLflow makes the folder of a run with its first file, so below a root that is here none means no files.
        """
        at_server = uri.startswith("mlflow-artifacts:") and os.path.isdir(
            os.path.join(self.base, "mlartifacts")
        )
        if local_path(uri) is not None or self.root or at_server:
            return None
        return (
            f"files at {uri.rsplit('/', len(tail))[0]} cannot be read here: import from the server's http:// address, "
            "or give the folder with --artifacts-root"
        )
