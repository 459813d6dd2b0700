"""A file of a run as a Python file object that reads what is asked for, and no more."""

from __future__ import annotations

import io

from . import _arguments, _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BUFFER_BYTES = 1 << 20
"""What a small read brings along."""
_MOST_BYTES = 64 << 20
"""What one read brings at most; a file object may give less than was asked for."""


class _ArtifactFile(io.RawIOBase):
    def __init__(self, client: _native.Client, run_id: str, record: _native.Artifact) -> None:
        self._client = client
        self._run_id = run_id
        self._record = record
        self._at = 0

    @property
    def name(self) -> str:
        return self._record.path

    @property
    def mode(self) -> str:
        return "rb"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check_open()
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._record.size_bytes}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek value {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        into = memoryview(buffer).cast("B")
        length = min(len(into), _MOST_BYTES, max(0, self._record.size_bytes - self._at))
        if length == 0:
            return 0
        record = self._record
        call = _native.read_artifact(self._client, self._run_id, record.path, record.sha256, self._at, length)
        content = call.wait()
        into[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def open_call(client: _native.Client, run_id: str, path: str) -> _native.Call[_native.Artifact]:
    return _native.get_artifact(client, run_id, _arguments.text(path, "path"))


def opened(client: _native.Client, run_id: str, record: _native.Artifact) -> io.BufferedReader:
    return io.BufferedReader(_ArtifactFile(client, run_id, record), _BUFFER_BYTES)
