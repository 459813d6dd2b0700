"""Directories that are gone when nobody needs them any more."""

from __future__ import annotations

import shutil
import tempfile
import weakref


class Scratch:
    """A temporary directory, removed at the end of a `with` block or with the object itself."""

    __slots__ = ("__weakref__", "_remove", "path")

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="mlplat-")
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        self._remove()
