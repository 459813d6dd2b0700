"""Runs: the async API, the twin of `_runs.py`."""

from __future__ import annotations

import sys

from .. import _active, _arguments, _native
from .._connection import client as current_client
from .._outcome import outcome
from .._run_calls import create_experiment_call, create_project_call, search_call, update_call
from .._run_info import RunInfo
from .._table import Table
from ._rich import RichLogging
from ._run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Literal

    from .._companions._settings import Settings
    from .._types import PathLike, When


class ActiveRun(RichLogging):
    """A run under way; see :class:`mlplat.ActiveRun`."""

    __slots__ = (*_active.SLOTS, "_log")

    def __init__(self, client: _native.Client, handle: _native.RunHandle, joined: bool) -> None:
        super().__init__(client, handle, joined)
        # Logging does not wait for anything, so it is the same in both flavours.
        self._log = _native.RunLog(client, handle, joined)

    async def log_param(self, key: str, value: object) -> None:
        """Logs an input of the run as text."""
        self._write_params({_arguments.text(key, "key"): value})

    async def log_params(self, params: Mapping[str, object]) -> None:
        """Logs inputs of the run as text."""
        self._write_params(params)

    async def log_series(
        self,
        key: str,
        steps: object | None,
        values: object,
        timestamps: object | None = None,
    ) -> None:
        """Logs many values of one metric at once; see :meth:`mlplat.ActiveRun.log_series`."""
        self._write_series(key, steps, values, timestamps)

    async def log_metric(
        self, key: str, value: object, step: int | None = None, *, timestamp: When | None = None
    ) -> None:
        """Logs a value of a metric; without `step` it is one more than the last of this key, from 0."""
        self._log.log_metric(key, value, step, timestamp=timestamp)

    async def log_metrics(
        self,
        metrics: Mapping[str, object],
        step: int | None = None,
        *,
        timestamp: When | None = None,
    ) -> None:
        """Logs values of several metrics at one step."""
        self._log.log_metrics(metrics, step, timestamp=timestamp)

    async def set_tag(self, key: str, value: object) -> None:
        """Sets a label."""
        self._write_tags({_arguments.text(key, "key"): value})

    async def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets labels."""
        self._write_tags(tags)

    async def log_artifact(
        self, path: PathLike, artifact_path: str | None = None, *, media_type: str | None = None
    ) -> str:
        """Uploads a file or directory; see :meth:`mlplat.ActiveRun.log_artifact`."""
        return await self._artifact_call(path, artifact_path, media_type)

    async def publish_model(
        self,
        name: str,
        path: PathLike,
        *,
        description: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> _native.ModelVersion:
        """Publishes a file or directory as the next version of a model; see :meth:`mlplat.ActiveRun.publish_model`."""
        from .._model_files._publish import publish_steps
        from .._steps import drive_async

        return await drive_async(publish_steps(self, name, path, description, tags))

    async def log_input(
        self,
        dataset: object,
        context: str | None = None,
        *,
        name: str | None = None,
        source: PathLike | None = None,
        digest: str | None = None,
    ) -> _native.DatasetInput:
        """Notes that the run read a data set; see :meth:`mlplat.ActiveRun.log_input`."""
        return await self._input_call(dataset, context, name, source, digest)

    async def flush(self, timeout: float | timedelta | None = None) -> bool:
        """Waits until everything that was logged is stored; see :meth:`mlplat.ActiveRun.flush`."""
        return await self._flush_call(timeout)

    async def refresh(self) -> Run:
        """The run as the server knows it now."""
        return Run(self._client, await self._handle.refresh())

    async def end(self, status: str = "FINISHED", message: str = "") -> None:
        """Ends the run: FINISHED, FAILED or KILLED. Not needed after an `async with` block.

        A task that is cancelled while it waits for this stops waiting: the run has ended, what is left is in the journal.
        """
        call = self._end_call(status, message)
        await self._left()
        self._deactivate()
        await self._wait_for_end(call, status, message)

    async def _wait_for_end(self, call: _native.Call[_native.RunRecord], status: str, message: str) -> None:
        try:
            self._note_end(await call)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._note_unfinished_end(status, message)
            raise

    async def _left(self) -> None:
        """As `_leave`, without holding up the event loop."""
        import asyncio

        await asyncio.to_thread(self._leave)

    async def __aenter__(self) -> ActiveRun:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deactivate()
        if not self._is_ours():
            return
        status, message = outcome(kind, error, traceback)
        try:
            await self._left()
            await self._wait_for_end(self._end_call(status, message), status, message)
        except Exception as failure:
            if error is None:
                raise
            # The exception of the block is the one to see.
            print(f"mlplat: run {self.id} could not be ended: {failure}", file=sys.stderr)


class RunStart:
    """A run that starts when it is awaited or entered by `async with`."""

    __slots__ = ("_arguments", "_asked_for_system_metrics", "_run", "_settings")

    def __init__(self, settings: Settings, asked_for_system_metrics: bool, *arguments: Any) -> None:
        self._settings = settings
        self._asked_for_system_metrics = asked_for_system_metrics
        self._arguments = arguments
        self._run: ActiveRun | None = None

    def __await__(self) -> Generator[Any, None, ActiveRun]:
        client, call, joined = _active.start_call(*self._arguments, settings=self._settings)
        run = ActiveRun(client, (yield from call.__await__()), joined)
        run._begin(self._settings, self._asked_for_system_metrics, self._arguments[5] is None)
        return run

    async def __aenter__(self) -> ActiveRun:
        self._run = await self
        return self._run

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._run is not None:
            await self._run.__aexit__(kind, error, traceback)


def start_run(
    experiment: str | None = None,
    name: str | None = None,
    *,
    parent: RunInfo | str | None = None,
    description: str = "",
    tags: Mapping[str, object] | None = None,
    run_id: str | None = None,
    resume_from: int | None = None,
    system_metrics: bool | float | None = None,
    environment: bool | None = None,
    console: bool | Literal["python", "fd"] | None = None,
) -> RunStart:
    """Starts a run: `async with mlplat.aio.start_run(experiment="delays") as run: …`; see :func:`mlplat.start_run`."""
    settings = _active.settings(system_metrics, environment, console)
    return RunStart(
        settings, bool(system_metrics), experiment, name, parent, description, tags, run_id, resume_from
    )


async def active_run() -> ActiveRun | None:
    """The active run; see :func:`mlplat.active_run`."""
    run = _active.innermost()
    if run is None and _active.run_id_to_join():
        return await start_run()
    if run is None or isinstance(run, ActiveRun):
        return run
    # Started by the blocking API: the same run, seen from here.
    return ActiveRun(run._client, run._handle, joined=True)


async def _required() -> ActiveRun:
    run = await active_run()
    if run is None:
        raise _active.no_active_run()
    return run


async def end_run(status: str = "FINISHED", message: str = "") -> None:
    """Ends the active run; not needed after an `async with` block."""
    await (await _required()).end(status, message)


async def log_param(key: str, value: object) -> None:
    """Logs an input of the active run as text."""
    await (await _required()).log_param(key, value)


async def log_params(params: Mapping[str, object]) -> None:
    """Logs inputs of the active run as text."""
    await (await _required()).log_params(params)


async def log_metric(
    key: str, value: object, step: int | None = None, *, timestamp: When | None = None
) -> None:
    """Logs a value of a metric of the active run."""
    await (await _required()).log_metric(key, value, step, timestamp=timestamp)


async def log_series(
    key: str, steps: object | None, values: object, timestamps: object | None = None
) -> None:
    """Logs many values of one metric of the active run at once; see :meth:`mlplat.ActiveRun.log_series`."""
    await (await _required()).log_series(key, steps, values, timestamps)


async def log_metrics(
    metrics: Mapping[str, object], step: int | None = None, *, timestamp: When | None = None
) -> None:
    """Logs values of several metrics of the active run."""
    await (await _required()).log_metrics(metrics, step, timestamp=timestamp)


async def set_tag(key: str, value: object) -> None:
    """Sets a label of the active run."""
    await (await _required()).set_tag(key, value)


async def set_tags(tags: Mapping[str, object]) -> None:
    """Sets labels of the active run."""
    await (await _required()).set_tags(tags)


async def log_artifact(
    path: PathLike, artifact_path: str | None = None, *, media_type: str | None = None
) -> str:
    """Uploads a file or directory to the active run and returns its path in the run."""
    run = await _required()
    return await run.log_artifact(path, artifact_path, media_type=media_type)


async def log_input(
    dataset: object,
    context: str | None = None,
    *,
    name: str | None = None,
    source: PathLike | None = None,
    digest: str | None = None,
) -> _native.DatasetInput:
    """Notes that the active run read a data set; see :meth:`mlplat.ActiveRun.log_input`."""
    return await (await _required()).log_input(dataset, context, name=name, source=source, digest=digest)


async def publish_model(
    name: str, path: PathLike, *, description: str = "", tags: Mapping[str, object] | None = None
) -> _native.ModelVersion:
    """Publishes a file or directory of the active run as the next version of a model."""
    run = await _required()
    return await run.publish_model(name, path, description=description, tags=tags)


async def get_run(run_id: str, *, view: str = "active") -> Run:
    """One run by its id, as it is now; see :func:`mlplat.get_run`."""
    client = current_client()
    return Run(
        client,
        await _native.get_run(client, _arguments.text(run_id, "run_id"), _arguments.text(view, "view")),
    )


async def update_run(
    run: RunInfo | str,
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
) -> Run:
    """Changes name, notes or (all) labels of a run, ended or not; see :func:`mlplat.update_run`."""
    client = current_client()
    return Run(client, await update_call(client, run, name, description, tags))


async def search_runs(
    filter: str = "",
    *,
    experiment: str | Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    view: str = "active",
    columns: Sequence[str] | None = None,
    limit: int | None = None,
) -> Table:
    """The runs that fit a filter, as a table; see :func:`mlplat.search_runs`."""
    return await search_call(filter, experiment, order_by, view, columns, limit).then(Table)


async def create_project(
    name: str, *, description: str = "", tags: Mapping[str, object] | None = None
) -> _native.Project:
    """Creates a project: a tenant with experiments, features, models and lineage of its own."""
    return await create_project_call(name, description, tags)


async def get_project(name: str) -> _native.Project:
    """One project by name."""
    return await _native.get_project(current_client(), _arguments.text(name, "name"))


async def list_projects() -> list[_native.Project]:
    """The projects that you may see, by name."""
    return await _native.list_projects(current_client())


async def list_experiments(*, view: str = "active") -> list[_native.Experiment]:
    """The experiments of the project, by name; see :func:`mlplat.list_experiments`."""
    return await _native.list_experiments(current_client(), _arguments.text(view, "view"))


async def get_experiment(name: str) -> _native.Experiment:
    """One experiment by name."""
    return await _native.get_experiment(current_client(), _arguments.text(name, "name"))


async def create_experiment(
    name: str, *, description: str = "", tags: Mapping[str, object] | None = None
) -> _native.Experiment:
    """Creates an experiment, for its notes and labels."""
    return await create_experiment_call(name, description, tags)


async def server_info() -> _native.ServerInfo:
    """Version, name and limits of the server."""
    return await _native.server_info(current_client())
