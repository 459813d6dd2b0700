"""Copies of standard output and error for the runs under way.

By default on the level of Python: `write` of the two streams is wrapped, so that whoever holds the stream (loggers do) is
heard, and everything else about it stays as it is. On the level of file descriptors what libraries in C and child processes
print is heard too.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from codecs import getincrementaldecoder

from ._transcript import Transcript

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from ._kept import Kept

_lock = threading.RLock()
_listening: list[Transcript] = []
_taps: list[_StreamTap | _DescriptorTap] = []


def listen(
    level: Literal["python", "fd"], begins: Callable[[], None], kept: Kept | None = None
) -> Transcript:
    """A transcript of everything printed from now on; `begins` is called when it gets its first text."""
    transcript = Transcript(begins, kept)
    with _lock:
        _listening.append(transcript)
        if level == "fd" and not any(isinstance(tap, _DescriptorTap) for tap in _taps):
            _release()
            _tap_descriptors()
        if not _taps:
            _taps.extend(_StreamTap(name) for name in ("stdout", "stderr") if getattr(sys, name) is not None)
            _follow_cells("register")
    return transcript


def stop(transcript: Transcript) -> None:
    """Ends a transcript; the streams are as before when it was the last."""
    with _lock:
        # What is on its way belongs to it.
        for tap in _taps:
            tap.drain()
        if transcript in _listening:
            _listening.remove(transcript)
        if not _listening:
            _release()


def forked() -> None:
    """In a child process: its output belongs to nobody here, and the threads are not there."""
    global _lock
    _lock = threading.RLock()
    _listening.clear()
    for tap in _taps:
        tap.forked()
    _taps.clear()


def _release() -> None:
    if any(isinstance(tap, _StreamTap) for tap in _taps):
        _follow_cells("unregister")
    for tap in _taps:
        tap.release()
    _taps.clear()


def _follow_cells(action: Literal["register", "unregister"]) -> None:
    """IPython wraps the streams too, for each cell, and makes them afterwards what they were before it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is not None:
        getattr(shell.events, action)("pre_run_cell", _cell_begins)


def _cell_begins(*_: object) -> None:
    with _lock:
        for tap in _taps:
            if isinstance(tap, _StreamTap):
                tap.install()


def _tap_descriptors() -> None:
    try:
        for descriptor in (1, 2):
            _taps.append(_DescriptorTap(descriptor))
    except OSError:
        _release()  # closed descriptors; the streams of Python remain


def _say(text: str) -> None:
    for transcript in tuple(_listening):
        transcript.add(text)


class _StreamTap:
    """The wrapped `write` of one stream."""

    def __init__(self, name: str) -> None:
        self._stream: Any = getattr(sys, name)
        self._write: Callable[[str], Any] = self._stream.write
        self._wrapper: Callable[[str], Any] | None = None
        self.install()

    def install(self) -> None:
        """Wraps what `write` is now, unless it is wrapped."""
        original = self._stream.write
        if original is self._wrapper:
            return

        def write(text: str) -> Any:
            written = original(text)
            # Others may have kept an older wrapper and call it from within.
            if self._wrapper is write and isinstance(text, str):
                _say(text)
            return written

        self._wrapper = write
        try:
            self._stream.write = write
        except AttributeError:
            self._wrapper = None  # a stream that cannot be wrapped is left alone

    def drain(self) -> None:
        """Nothing is on its way."""

    def release(self) -> None:
        """Makes the stream what it was, unless somebody has wrapped it again since."""
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None and self._stream.__dict__.get("write") is wrapper:
            del self._stream.write
            if self._stream.write != self._write:
                self._stream.write = self._write

    forked = release


class _DescriptorTap:
    """A pipe in place of one file descriptor, and a thread that passes on what comes out of it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._original = os.dup(descriptor)
        self._read, write = os.pipe()
        _flush()
        os.dup2(write, descriptor)
        os.close(write)
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._released = False
        self._thread = threading.Thread(target=self._pass_on, name="mlplat-console", daemon=True)
        self._thread.start()

    def _pass_on(self) -> None:
        # Goes on after the release until nobody holds the other end: children may still write to it.
        while block := os.read(self._read, 1 << 16):
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(self._original, rest) :]
            _say(self._decode(block))

    def drain(self) -> None:
        """Waits a moment until the pipe is empty."""
        _flush()
        for _ in range(100):
            if not select.select([self._read], [], [], 0)[0]:
                # What was read last is passed on within this time.
                self._thread.join(0.01)
                return
            self._thread.join(0.01)

    def release(self) -> None:
        """Puts the descriptor back."""
        if not self._released:
            self._released = True
            _flush()
            os.dup2(self._original, self._descriptor)
            # The pipe has its end now, unless a child holds it.
            self._thread.join(1.0)

    def forked(self) -> None:
        """The child prints into the pipe of its parent, whose thread passes it on."""
        self._released = True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
