"""Runs: the blocking API. Its async twin is `aio/_runs.py`."""

from __future__ import annotations

import sys

from . import _active, _arguments, _native
from ._connection import client as current_client
from ._outcome import outcome
from ._rich import RichLogging
from ._run import Run
from ._run_calls import create_experiment_call, create_project_call, search_call, update_call
from ._run_info import RunInfo
from ._table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Literal

    from ._types import PathLike, When


class ActiveRun(RichLogging, _native.RunLog):
    """A run under way. Use it in a `with` block, which ends it: FINISHED, FAILED by an exception, KILLED by Ctrl-C.

    What is logged goes to a journal on this machine first: that takes microseconds, needs no server, raises nothing
    because of the network, and survives the death of the process. It is delivered in the background; `flush()` and the
    end of the run wait for that.
    """

    __slots__ = _active.SLOTS

    # `log_metric` and `log_metrics` are native, as they are called in every step of a training.

    def log_param(self, key: str, value: object) -> None:
        """Logs an input of the run as text; a key that is logged again holds the last value."""
        self._write_params({_arguments.text(key, "key"): value})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Logs inputs of the run as text."""
        self._write_params(params)

    def log_series(
        self,
        key: str,
        steps: object | None,
        values: object,
        timestamps: object | None = None,
    ) -> None:
        """Logs many values of one metric at once, millions per second.

        `steps`, `values` and `timestamps` are columns of one length: numpy arrays, anything that speaks Arrow (pyarrow,
        polars, pandas), or lists. Without `steps` they are counted on from the last one; without `timestamps` it is now.
        """
        self._write_series(key, steps, values, timestamps)

    def set_tag(self, key: str, value: object) -> None:
        """Sets a label."""
        self._write_tags({_arguments.text(key, "key"): value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets labels."""
        self._write_tags(tags)

    def log_artifact(
        self, path: PathLike, artifact_path: str | None = None, *, media_type: str | None = None
    ) -> str:
        """Uploads a file, or a directory with all below it, and returns its path in the run.

        It keeps its name; `artifact_path` is the directory of the run to put it into. A directory may have up to 100,000
        files; more of them go up in several calls, or as one archive.
        """
        return self._artifact_call(path, artifact_path, media_type).wait()

    def publish_model(
        self,
        name: str,
        path: PathLike,
        *,
        description: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> _native.ModelVersion:
        """Publishes a file or directory as the next version of a model.

        `path` is local (and uploaded, unless the run has the same content already), or else an artifact of the run.
        Metrics, params and the feature views that the run read are captured with it. A directory of `log_model` that holds
        files of another model too is refused.
        """
        from ._model_files._publish import publish_steps
        from ._steps import drive

        return drive(publish_steps(self, name, path, description, tags))

    def log_input(
        self,
        dataset: object,
        context: str | None = None,
        *,
        name: str | None = None,
        source: PathLike | None = None,
        digest: str | None = None,
    ) -> _native.DatasetInput:
        """Notes that the run read a data set, for `context` (e.g. "training"); it becomes an input in the lineage.

        A table of pandas, polars or pyarrow, an array, a path or URI, or a data set of Hugging Face. Its digest is computed
        here; columns and rows are noted too, its content is not. `source` says where it came from.
        """
        return self._input_call(dataset, context, name, source, digest).wait()

    def flush(self, timeout: float | timedelta | None = None) -> bool:
        """Waits until everything that was logged is stored by the server, and says whether it is.

        It waits `timeout` seconds; by default a minute (`MLPLAT_FLUSH_TIMEOUT`), but only 5 seconds
        (`MLPLAT_OFFLINE_TIMEOUT`) where the server cannot be reached. What is left is safe in the journal.
        """
        try:
            return self._flush_call(timeout).wait()
        except KeyboardInterrupt:
            _active.hurry()
            raise

    def refresh(self) -> Run:
        """The run as the server knows it now."""
        client = self._client
        return self._handle.refresh().then(lambda record: Run(client, record)).wait()

    def end(self, status: str = "FINISHED", message: str = "") -> None:
        """Ends the run: FINISHED, FAILED or KILLED. Not needed after a `with` block. Waits as :meth:`flush` does.

        Ctrl-C ends the waiting: the run has ended then, and what is left is safe in the journal.
        """
        call = self._end_call(status, message)
        self._leave()
        self._deactivate()
        self._wait_for_end(call, status, message)

    def _wait_for_end(self, call: _native.Call[_native.RunRecord], status: str, message: str) -> None:
        try:
            self._note_end(call.wait())
        except KeyboardInterrupt:
            self._note_unfinished_end(status, message)
            _active.hurry()
            raise

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
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
            self._leave()
            self._wait_for_end(self._end_call(status, message), status, message)
        except Exception as failure:
            if error is None:
                raise
            # The exception of the block is the one to see.
            print(f"mlplat: run {self.id} could not be ended: {failure}", file=sys.stderr)


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
) -> ActiveRun:
    """Starts a run and makes it the active one: `with mlplat.start_run(experiment="delays") as run: …`.

    The experiment is created where it does not exist; by default it is that of the run around this one, else
    `MLPLAT_EXPERIMENT`, else `default`. A run inside another one of the same project is its child. Where `MLPLAT_RUN_ID`
    is set, the process takes part in that run instead, and leaves it to others to end it.

    It returns at once, and needs no server. With the `run_id` of a run that exists that run goes on; with `resume_from`
    what it logged from that step on is set aside (it stays readable), and logged anew.

    Three things go along with a run by itself. `system_metrics`: the machine, as metrics `system/…` every 10 seconds, or
    so many seconds. `environment`: git commit and difference, command line, packages and machine, as tags `mlplat.…` and
    files below `environment/`. `console`: what the process prints, as `console.log`; `"fd"` also hears libraries in C and
    child processes. A process that resumes a run has files of its own beside these. False leaves one out; None is what
    `MLPLAT_SYSTEM_METRICS`, `MLPLAT_ENVIRONMENT` and `MLPLAT_CONSOLE` say, by default all of them.
    """
    settings = _active.settings(system_metrics, environment, console)
    client, call, joined = _active.start_call(
        experiment, name, parent, description, tags, run_id, resume_from, settings
    )
    run = ActiveRun(client, call.wait(), joined)
    run._begin(settings, bool(system_metrics), run_id is None)
    return run


def active_run() -> ActiveRun | None:
    """The active run of this thread, else the only one of the process, else the one of `MLPLAT_RUN_ID`, else None."""
    run = _active.innermost()
    if run is None and _active.run_id_to_join():
        return start_run()
    if run is None or isinstance(run, ActiveRun):
        return run
    # Started by the async API: the same run, seen from here.
    return ActiveRun(run._client, run._handle, joined=True)


def _required() -> ActiveRun:
    run = active_run()
    if run is None:
        raise _active.no_active_run()
    return run


def end_run(status: str = "FINISHED", message: str = "") -> None:
    """Ends the active run; not needed after a `with` block."""
    _required().end(status, message)


def log_param(key: str, value: object) -> None:
    """Logs an input of the active run as text."""
    _required().log_param(key, value)


def log_params(params: Mapping[str, object]) -> None:
    """Logs inputs of the active run as text."""
    _required().log_params(params)


def log_metric(key: str, value: object, step: int | None = None, *, timestamp: When | None = None) -> None:
    """Logs a value of a metric of the active run."""
    _required().log_metric(key, value, step, timestamp=timestamp)


def log_series(key: str, steps: object | None, values: object, timestamps: object | None = None) -> None:
    """Logs many values of one metric of the active run at once; see :meth:`ActiveRun.log_series`."""
    _required().log_series(key, steps, values, timestamps)


def log_metrics(
    metrics: Mapping[str, object], step: int | None = None, *, timestamp: When | None = None
) -> None:
    """Logs values of several metrics of the active run."""
    _required().log_metrics(metrics, step, timestamp=timestamp)


def set_tag(key: str, value: object) -> None:
    """Sets a label of the active run."""
    _required().set_tag(key, value)


def set_tags(tags: Mapping[str, object]) -> None:
    """Sets labels of the active run."""
    _required().set_tags(tags)


def log_artifact(path: PathLike, artifact_path: str | None = None, *, media_type: str | None = None) -> str:
    """Uploads a file or directory to the active run and returns its path in the run."""
    return _required().log_artifact(path, artifact_path, media_type=media_type)


def log_input(
    dataset: object,
    context: str | None = None,
    *,
    name: str | None = None,
    source: PathLike | None = None,
    digest: str | None = None,
) -> _native.DatasetInput:
    """Notes that the active run read a data set; see :meth:`ActiveRun.log_input`."""
    return _required().log_input(dataset, context, name=name, source=source, digest=digest)


def publish_model(
    name: str, path: PathLike, *, description: str = "", tags: Mapping[str, object] | None = None
) -> _native.ModelVersion:
    """Publishes a file or directory of the active run as the next version of a model."""
    return _required().publish_model(name, path, description=description, tags=tags)


def get_run(run_id: str, *, view: str = "active") -> Run:
    """One run by its id, as it is now. A deleted one is found with `view="all"` or `"deleted"`."""
    client = current_client()
    call = _native.get_run(client, _arguments.text(run_id, "run_id"), _arguments.text(view, "view"))
    return call.then(lambda record: Run(client, record)).wait()


def update_run(
    run: RunInfo | str,
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
) -> Run:
    """Changes name, notes or (all) labels of a run, ended or not; what is not given stays.

    `get_run(run_id).set_tags({…})` adds labels to those that it has.
    """
    client = current_client()
    return update_call(client, run, name, description, tags).then(lambda record: Run(client, record)).wait()


def search_runs(
    filter: str = "",
    *,
    experiment: str | Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    view: str = "active",
    columns: Sequence[str] | None = None,
    limit: int | None = None,
) -> Table:
    """The runs that fit a filter like `metrics.mae < 15 AND params.depth = "3"`, as a table, newest first.

    It has a column per metric, param and tag: `metrics.mae`, `params.depth`, `tags.team`; or only those that `columns`
    names, which is quicker. `order_by` is e.g. `metrics.mae ASC` or `min(metrics.loss)`. With `view="deleted"` or `"all"`
    deleted runs are found too. :func:`iter_runs` gives the same in pages, :func:`find_runs` run objects.
    """
    return search_call(filter, experiment, order_by, view, columns, limit).then(Table).wait()


def create_project(
    name: str, *, description: str = "", tags: Mapping[str, object] | None = None
) -> _native.Project:
    """Creates a project: a tenant with experiments, features, models and lineage of its own."""
    return create_project_call(name, description, tags).wait()


def get_project(name: str) -> _native.Project:
    """One project by name."""
    return _native.get_project(current_client(), _arguments.text(name, "name")).wait()


def list_projects() -> list[_native.Project]:
    """The projects that you may see, by name."""
    return _native.list_projects(current_client()).wait()


def list_experiments(*, view: str = "active") -> list[_native.Experiment]:
    """The experiments of the project, by name; with `view="deleted"` or `"all"` deleted ones too."""
    return _native.list_experiments(current_client(), _arguments.text(view, "view")).wait()


def get_experiment(name: str) -> _native.Experiment:
    """One experiment by name."""
    return _native.get_experiment(current_client(), _arguments.text(name, "name")).wait()


def create_experiment(
    name: str, *, description: str = "", tags: Mapping[str, object] | None = None
) -> _native.Experiment:
    """Creates an experiment. Starting a run does that too, so this is for its notes and labels."""
    return create_experiment_call(name, description, tags).wait()
