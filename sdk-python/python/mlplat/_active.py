"""Which run is active, and how runs end.

A run is active in the context (thread or task) that started it. Threads that started none themselves use the run of the
process, as long as there is exactly one, so that worker threads of a training can log.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from datetime import timedelta

from . import _arguments, _native
from ._connection import client as current_client
from ._connection import is_same_project
from ._errors import MisuseError, MlplatError, NoActiveRunError, WrongTypeError
from ._outcome import outcome
from ._run_info import RunInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from ._companions._companion import Companion
    from ._companions._settings import Settings
    from ._types import PathLike

_stack: ContextVar[tuple[ActiveRunBase, ...]] = ContextVar("mlplat_runs", default=())
_open: list[ActiveRunBase] = []
_at_exit = False
_hurried = False
"""Whether somebody pressed Ctrl-C while a run of this process was delivered, and has started none since."""


SLOTS = ("_client", "_companion", "_ended", "_fresh", "_handle", "_joined", "_pid", "_record")
"""What the classes below `ActiveRunBase` keep in themselves."""


class ActiveRunBase(RunInfo):
    """A run under way. What it was when it started; `refresh()` tells what it is now."""

    __slots__ = ()

    _companion: Companion | None
    """What went along with it, while it ends."""
    _ended: bool
    _fresh: bool
    """Whether it is known that nothing was logged to it before this process began it."""
    _handle: _native.RunHandle
    _joined: bool
    _pid: int

    def __init__(self, client: _native.Client, handle: _native.RunHandle, joined: bool) -> None:
        super().__init__(client, handle.started)
        self._handle = handle
        self._joined = joined
        self._pid = os.getpid()
        self._ended = False
        self._companion = None
        self._fresh = False

    @property
    def status(self) -> str:
        """RUNNING, and after its end FINISHED, FAILED or KILLED."""
        return self._record.status

    def __reduce__(self) -> NoReturn:
        # A TypeError, as whoever tries whether something can be pickled expects.
        raise WrongTypeError(
            f"run {self.id} is under way in this process, and cannot be copied or sent to another one; send `run.id`, and there "
            "set the environment variable MLPLAT_RUN_ID to it: mlplat.active_run(), mlplat.log_metric(…) and its like take part "
            "in the run then"
        )

    def _repr_html_(self) -> str:
        self._look()
        return super()._repr_html_()

    def _look(self) -> None:
        """Reads the run again, where it is under way and the server answers."""
        if not self._ended:
            try:
                self._record = self._handle.refresh().wait()
            except MlplatError as failure:
                print(f"mlplat: run {self.id} is shown as it was: {failure}", file=sys.stderr)

    def _ipython_display_(self) -> None:
        from . import _place

        if _place.in_notebook():
            from ._companions._live import display

            display(self)
        else:
            print(repr(self))

    def _activate(self) -> None:
        global _at_exit, _hurried
        _hurried = False
        _stack.set((*_stack.get(), self))
        _open.append(self)
        from . import _exit

        _exit.forget()
        if not _at_exit:
            _at_exit = True
            import atexit

            _exit.listen()
            atexit.register(_end_open_runs)

    def _deactivate(self) -> None:
        _stack.set(tuple(run for run in _stack.get() if run is not self))
        if self in _open:
            _open.remove(self)

    def _begin(self, settings: Settings, asked_for_system_metrics: bool, fresh: bool) -> None:
        """Makes the run the active one, and lets go along with it what should. A joined run has its companions elsewhere."""
        self._fresh = fresh and not self._joined
        self._activate()
        if not self._joined:
            from ._companions import _live, _registry

            _registry.begin(self, settings, asked_for_system_metrics)
            _live.begin(self)

    def _leave(self) -> None:
        """Ends what goes along with the run; comes before the end of the run itself, and may take a moment."""
        registry = sys.modules.get("mlplat._companions._registry")
        if registry is not None and self._is_ours():
            self._companion = registry.finish(self.id)

    def _is_ours(self) -> bool:
        """Whether this process is the one to end it: not a joined run, and not a copy in a forked process."""
        return not self._joined and not self._ended and self._pid == os.getpid()

    def _note_end(self, record: _native.RunRecord) -> None:
        self._record = record
        self._ended = True
        for module in ("_names", "_table_files", "_histograms"):
            used = sys.modules.get(f"mlplat._media.{module}")
            if used is not None:
                used.forget(self.id)
        if self._companion is not None:
            self._companion.ended()

    def _write_params(self, params: Mapping[str, object]) -> None:
        self._handle.log_params(_arguments.labels(params, "params"))

    def _write_tags(self, tags: Mapping[str, object]) -> None:
        self._handle.set_tags(_arguments.labels(tags, "tags"))

    def _write_series(self, key: str, steps: object, values: object, timestamps: object) -> None:
        from . import _series

        self._handle.log_series(
            _arguments.text(key, "a metric key"),
            None if steps is None else _series.steps(steps),
            _series.numbers(values),
            None if timestamps is None else _series.times(timestamps),
        )

    def _spool(self, content: PathLike | bytes, artifact_path: str, media_type: str = "") -> None:
        """Keeps a file or some bytes in the journal, and uploads them as this file of the run in the background.

        The network is not touched, and no trouble with it, or with the disk, is an error; what is lost is told on stderr.
        """
        if isinstance(content, (bytes, bytearray, memoryview)):
            self._handle.spool_bytes(bytes(content), artifact_path, media_type)
        else:
            self._handle.spool_file(_arguments.path(content, "path"), artifact_path, media_type)

    def _note_unfinished_end(self, status: str, message: str) -> None:
        """Nobody waits any more for the end to be delivered; it is in the journal, and the run has ended."""
        self._note_end(self._handle.end_soon(status.upper(), message))

    # What needs the server, as calls; the two flavours wait for them in their ways.

    def _flush_call(self, timeout: float | timedelta | None) -> _native.Call[bool]:
        return self._handle.flush(_arguments.optional_seconds(timeout, "timeout"))

    def _artifact_call(
        self, path: PathLike, artifact_path: str | None, media_type: str | None
    ) -> _native.Call[str]:
        call = self._handle.log_artifact(
            _arguments.path(path, "path"),
            _arguments.optional_text(artifact_path, "artifact_path"),
            _arguments.optional_text(media_type, "media_type"),
        )
        return call.then(_say_what_was_left_out)

    def _input_call(
        self,
        dataset: object,
        context: str | None,
        name: str | None,
        source: PathLike | None,
        digest: str | None,
    ) -> _native.Call[_native.DatasetInput]:
        from . import _inputs

        described = _inputs.describe(dataset, context, name, source, digest)
        return self._handle.log_input(described)

    def _publish_call(
        self, name: str, path: PathLike, description: str, tags: Mapping[str, object] | None
    ) -> _native.Call[_native.ModelVersion]:
        return self._handle.publish_model(
            _arguments.text(name, "the name of the model"),
            _arguments.path(path, "path"),
            _arguments.optional_text(description, "description"),
            _arguments.labels(tags, "tags"),
        )

    def _end_call(self, status: str, message: str) -> _native.Call[_native.RunRecord]:
        if self._joined:
            raise MisuseError(
                f"run {self.id} was joined through MLPLAT_RUN_ID; the process that started it ends it"
            )
        return self._handle.end(
            _arguments.text(status, "status").upper(), _arguments.optional_text(message, "message")
        )


def _say_what_was_left_out(uploaded: tuple[str, list[tuple[str, str]]]) -> str:
    path, skipped = uploaded
    for local, why in skipped:
        print(f"mlplat: {local} was left out: {why}", file=sys.stderr)
    return path


def _end_open_runs() -> None:
    """Ends what was started without `with` and never ended, and delivers what was logged, at the exit of the process."""
    from . import _exit

    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None) or _exit.last()
    status, message = outcome(type(error) if error else None, error, None)
    for run in reversed(_open[:]):
        if run._is_ours():
            try:
                run._leave()
                run._note_end(run._handle.end_soon(status, message))
            except Exception as failure:
                print(f"mlplat: run {run.id} could not be ended: {failure}", file=sys.stderr)
    flush_at_exit()


def hurry() -> None:
    """Tells what is left to deliver, after Ctrl-C. An exit that may follow does not wait for it either."""
    global _hurried
    _hurried = True
    flush_at_exit()


def flush_at_exit() -> None:
    """Waits, for a while, until what this process logged is delivered; what is left is told on stderr."""
    try:
        try:
            _native.flush_all(timedelta() if _hurried else None).wait()
        except KeyboardInterrupt:
            _native.flush_all(timedelta()).wait()
    except Exception as failure:
        print(f"mlplat: what was logged may not be delivered yet: {failure}", file=sys.stderr)


def after_fork() -> None:
    """To be called in a process that was forked off: it is another one to the native part too."""
    _native.after_fork()
    # Processes of multiprocessing leave without `atexit`; it has a registry of its own, which it empties at their start.
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _at_exit:
        util.register_after_fork(flush_at_exit, lambda flush: util.Finalize(None, flush, exitpriority=100))


def innermost() -> ActiveRunBase | None:
    """The active run of this context, or else the only one of the process."""
    stack = _stack.get()
    if stack:
        if not stack[-1]._ended:
            return stack[-1]
        # Another thread may have ended one of them.
        stack = [run for run in stack if not run._ended]
        if stack:
            return stack[-1]
    tops = [run for run in _open if not any(other.parent_run_id == run.id for other in _open)]
    return tops[0] if len(tops) == 1 else None


def no_active_run() -> NoActiveRunError:
    """What to raise when there is none."""
    if len(_open) > 1:
        return NoActiveRunError(
            "several runs are active in other threads, so it is not clear which one is meant; use the methods of the run "
            "object"
        )
    return NoActiveRunError(
        "there is no active run; start one with `with mlplat.start_run(experiment=…):`, or set MLPLAT_RUN_ID to join one"
    )


def run_id_to_join() -> str | None:
    """The run of MLPLAT_RUN_ID, unless this process has a run already."""
    return None if _open else os.environ.get("MLPLAT_RUN_ID") or None


def active_run_id() -> str:
    """Id of the active run, for what becomes part of its lineage; empty where there is none."""
    run = innermost()
    if run is None:
        return run_id_to_join() or ""
    # A run of another project is none for the one that is asked.
    return run.id if is_same_project(run._client, current_client()) else ""


def settings(
    system_metrics: bool | float | None, environment: bool | None, console: bool | str | None
) -> Settings:
    """What goes along with a run to start."""
    from ._companions._settings import Settings

    return Settings(system_metrics, environment, console)


def start_call(
    experiment: str | None,
    name: str | None,
    parent: RunInfo | str | None,
    description: str,
    tags: Mapping[str, object] | None,
    run_id: str | None,
    resume_from: int | None,
    settings: Settings,
) -> tuple[_native.Client, _native.Call[_native.RunHandle], bool]:
    """The call that starts a run, or joins the one of MLPLAT_RUN_ID: client, call, whether it joins."""
    client = current_client()
    joined = run_id_to_join()
    if joined and run_id is None:
        return client, _native.join_run(client, joined), True
    if resume_from is not None and run_id is None:
        raise MisuseError("resume_from needs the run_id of the run to resume")
    if run_id is not None:
        _check_not_active(run_id, resume_from)
    outer = _outer(client)
    keep_experiment = experiment is None
    if experiment is None:
        experiment = outer.experiment if outer else os.environ.get("MLPLAT_EXPERIMENT") or "default"
    parent_id = _parent_id(parent if parent is not None else outer, client)
    tags = _arguments.labels(tags, "tags")
    if run_id is None:
        from ._companions import _registry

        tags = {**_registry.tags_at_start(parent_id, settings), **tags}
    start = {
        "run_id": None if run_id is None else _arguments.text(run_id, "run_id"),
        "experiment": _arguments.text(experiment, "experiment"),
        "keep_experiment": keep_experiment,
        "name": _arguments.optional_text(name, "name"),
        "parent": parent_id,
        "description": _arguments.optional_text(description, "description"),
        "tags": tags,
        "resume_from": None if resume_from is None else _arguments.integer(resume_from, "resume_from"),
    }
    return client, _native.start_run(client, start), False


def _check_not_active(run_id: object, resume_from: object) -> None:
    if any(run.id == run_id and not run._ended for run in _open):
        advice = (
            "use its run object, or mlplat.active_run()"
            if resume_from is None
            else "end it before it goes on from an earlier step"
        )
        raise MisuseError(f"run {run_id} is active in this process already; {advice}")


def _outer(client: _native.Client) -> ActiveRunBase | None:
    """The active run of this context that a run of `client` can be nested in: one of the same project."""
    runs = (run for run in reversed(_stack.get()) if not run._ended)
    return next((run for run in runs if is_same_project(run._client, client)), None)


def _parent_id(parent: RunInfo | str | None, client: _native.Client) -> str | None:
    if not isinstance(parent, RunInfo):
        if parent is not None and not isinstance(parent, str):
            raise WrongTypeError(f"parent is a {type(parent).__name__}; give a run or its id")
        return parent
    # The same server may have another address, so only the project tells for sure.
    if parent._client.project != client.project:
        raise MisuseError(
            f"parent is a run of the project `{parent._client.project}`, and runs start in `{client.project}` now; a run "
            "and its parent are in one project"
        )
    return parent.id
