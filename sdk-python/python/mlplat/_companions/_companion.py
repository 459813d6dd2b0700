"""The companions of one run, and the thread that looks after them."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import datetime, timedelta, timezone

from .. import _native, _spool
from . import _console, _kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._active import ActiveRunBase
    from ._live import LiveView
    from ._settings import Settings
    from ._transcript import Transcript

_FIRST_UPLOAD_S = 15.0
_LAST_UPLOAD_S = 300.0
_PATIENCE_S = 10.0
"""How long the end of a run waits for what is still on its way."""

_FIRST_LOOK_S = 1.0
_LOOK_EVERY_S = 60.0
"""When a run looks for what killed processes printed."""

_MAX_VIEWS = 3
_looking = threading.Lock()


def tags_found(of_child: bool) -> dict[str, str]:
    """What this process has found out of where it runs; nothing where no run has asked yet."""
    # The thread of an earlier run has imported it, or does so just now.
    known = getattr(sys.modules.get("mlplat._companions._environment"), "known_tags", None)
    return known(of_child) if known is not None else {}


def suffix_of(fresh: bool) -> str:
    """What the names of the files of this process end in, so that a resumed run keeps those of the processes before.

    The first one needs none. The others are told apart by the time, and as several may resume a run at the same moment
    without hearing of each other, by chance. `_` comes after `.` and `/`: the first process stays the first in lists.
    """
    if fresh:
        return ""
    now = datetime.now(timezone.utc)
    return f"_{now:%Y-%m-%dT%H-%M-%S}.{now.microsecond // 1000:03d}Z_{os.urandom(4).hex()}"


class Companion:
    """Starts with the run, and is stopped before it ends. Its thread starts when there is something for it to do: the runs of a
    sweep that print nothing need none."""

    def __init__(self, run: ActiveRunBase, settings: Settings, parent_here: bool) -> None:
        self._run = run
        self._settings = settings
        self._parent_here = parent_here
        self._suffix = suffix_of(run._fresh)
        self._transcript: Transcript | None = None
        self._kept: _kept.Kept | None = None
        self._system: _native.SystemMetrics | None = None
        self._uploaded = 0
        self._views: list[LiveView] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._environment_due = False
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins at once what must not miss anything; the rest is the thread's."""
        if self._settings.console:
            self._kept = _kept.Kept(self._run._client, self._run.id, f"console{self._suffix}.log")
            self._transcript = _console.listen(self._settings.console, self._attend, self._kept)
        if self._settings.system_metrics_s is not None:
            every = timedelta(seconds=self._settings.system_metrics_s)
            self._system = self._run._handle.log_system_metrics(every)
        self._environment_due = self._settings.environment and not self._environment_is_logged()
        if self._environment_due:
            self._attend()

    def _attend(self) -> None:
        """Starts the thread, unless it was started."""
        with self._wake:
            if self._thread is not None or self._stopping:
                return
            self._thread = threading.Thread(target=self._work, name="mlplat-companion", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                # No more threads, or the end of the interpreter: the end of the run does all of it.
                self._thread = None

    def show(self, view: LiveView) -> None:
        """Keeps a view of the run up to date from now on."""
        with self._wake:
            # Cells that are run again and again leave their old views behind, as they were.
            self._views = [*self._views[-_MAX_VIEWS:], view]
            self._wake.notify()
        self._attend()

    def ended(self) -> None:
        """The run has ended: its views say so, and change no more."""
        for view in self._views:
            try:
                view.update()
            except Exception as failure:
                _say(f"the view of run {self._run.id} failed: {type(failure).__name__}: {failure}")

    def stop(self) -> None:
        """Ends it all, and waits a while for what is on its way."""
        if self._pid != os.getpid():
            return
        if self._system is not None:
            self._system.stop()
        if self._transcript is not None:
            _console.stop(self._transcript)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        thread = self._thread
        if thread is None or thread.ident is None:
            self._work()
            return
        thread.join(_PATIENCE_S)
        if thread.is_alive():
            _say(
                f"what run {self._run.id} printed, and where it was made, is still on its way; it may be lost"
            )

    def _work(self) -> None:
        if self._environment_due:
            self._attempt(self._log_environment)
        self._attempt(self._go_on)
        self._attempt(self._upload_console)
        if self._kept is not None:
            # The journal has all of it now.
            self._kept.remove()

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as failure:
            # It must neither fail the training nor vanish.
            _say(f"{step.__name__} of run {self._run.id} failed: {type(failure).__name__}: {failure}")

    def _environment_is_logged(self) -> bool:
        """Whether all of it went with the start of the run: a child has tags only, which an earlier run may have found out."""
        tags = tags_found(of_child=True) if self._parent_here else {}
        return bool(tags) and tags.items() <= self._run.tags.items()

    def _log_environment(self) -> None:
        from ._environment import environment

        tags, files = environment(self._parent_here, self._suffix)
        # Most of it went with the start, where an earlier run has looked.
        known = self._run.tags
        new = {key: value for key, value in tags.items() if known.get(key) != value}
        if new:
            _spool.set_tags(self._run, new)
        if files:
            _spool.put(self._run, files)

    def _go_on(self) -> None:
        pause = _FIRST_UPLOAD_S
        upload_at = time.monotonic() + pause
        look_at = time.monotonic() + _FIRST_LOOK_S
        while True:
            with self._wake:
                views = list(self._views)
                until = min([upload_at, look_at, *(view.due for view in views)])
                if not self._stopping and until > time.monotonic():
                    self._wake.wait(until - time.monotonic())
                if self._stopping:
                    return
            if time.monotonic() >= upload_at:
                # The whole file goes each time, so it goes less and less often.
                self._upload_console()
                pause = min(pause * 2, _LAST_UPLOAD_S)
                upload_at = time.monotonic() + pause
            if time.monotonic() >= look_at:
                self._deliver_left()
                look_at = time.monotonic() + _LOOK_EVERY_S
            for view in views:
                if time.monotonic() >= view.due:
                    view.update()

    def _deliver_left(self) -> None:
        """What processes that were killed printed; a thread of its own may wait for the server."""
        if not _looking.acquire(blocking=False):
            return

        def work() -> None:
            try:
                _kept.deliver(self._run._client)
            except Exception as failure:
                _say(f"what other processes printed was not delivered: {type(failure).__name__}: {failure}")
            finally:
                _looking.release()

        try:
            threading.Thread(target=work, name="mlplat-leftovers", daemon=True).start()
        except RuntimeError:
            _looking.release()

    def _upload_console(self) -> None:
        transcript = self._transcript
        if transcript is None or transcript.changes == self._uploaded:
            return
        self._uploaded = transcript.changes
        text = transcript.text()
        if text:
            path = f"console{self._suffix}.log"
            _spool.put(self._run, [(text.encode("utf-8", "replace"), path)])


def _say(text: str) -> None:
    print(f"mlplat: {text}", file=sys.stderr)
