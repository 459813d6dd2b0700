"""The calls about runs that the blocking and the async API share: arguments are checked here, nothing is waited for."""

from __future__ import annotations

from . import _arguments, _native
from ._connection import client as current_client
from ._run_info import RunInfo
from ._table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._types import PathLike


def create_project_call(
    name: str, description: str, tags: Mapping[str, object] | None
) -> _native.Call[_native.Project]:
    return _native.create_project(
        current_client(),
        _arguments.text(name, "name"),
        _arguments.optional_text(description, "description"),
        _arguments.labels(tags, "tags"),
    )


def create_experiment_call(
    name: str, description: str, tags: Mapping[str, object] | None
) -> _native.Call[_native.Experiment]:
    return _native.create_experiment(
        current_client(),
        _arguments.text(name, "name"),
        _arguments.optional_text(description, "description"),
        _arguments.labels(tags, "tags"),
    )


def histories_call(run: RunInfo, keys: list[str], *which: int | None) -> _native.Call[dict[str, Table]]:
    asked, history = list(dict.fromkeys(keys)), _history(*which)
    if _is_empty(history):
        return _no_points(run).then(lambda found: {key: Table(found[0][1]) for key in asked})
    found = _native.metric_histories(run._client, run.id, asked, history)
    return found.then(lambda found: {key: Table(points) for key, points in found})


def history_call(run: RunInfo, key: str, *which: int | None) -> _native.Call[Table]:
    asked, history = [_arguments.text(key, "key")], _history(*which)
    if _is_empty(history):
        return _no_points(run).then(lambda found: Table(found[0][1]))
    return _native.metric_histories(run._client, run.id, asked, history).then(
        lambda found: Table(found[0][1])
    )


def _history(
    start_step: int | None,
    end_step: int | None,
    last: int | None,
    buckets: int | None,
    branch: int | None,
) -> dict[str, int | None]:
    return {
        "start_step": _arguments.optional_integer(start_step, "start_step"),
        "end_step": _arguments.optional_integer(end_step, "end_step"),
        "last": _arguments.optional_count(last, "last", 2**63 - 1),
        "buckets": _arguments.optional_count(buckets, "buckets", 100_000),
        "branch": _arguments.optional_count(branch, "branch", 2**31 - 1, least=0),
    }


def _is_empty(history: dict[str, int | None]) -> bool:
    """Whether the range of steps has none in it, which the server would refuse."""
    start, end = history["start_step"], history["end_step"]
    return start is not None and end is not None and end < start


def _no_points(run: RunInfo) -> _native.Call[list[tuple[str, _native.Batches]]]:
    """The history of a metric that nobody logs: no rows, with the columns that any other one has."""
    import uuid

    return _native.metric_histories(run._client, run.id, [uuid.uuid4().hex], _history(*[None] * 5))


def artifacts_call(run: RunInfo, path: str) -> _native.Call[list[_native.Artifact]]:
    return _native.list_artifacts(run._client, run.id, _arguments.optional_text(path, "path"))


def download_call(client: _native.Client, run_id: str, path: str, into: PathLike | None) -> _native.Call[str]:
    if into is None:
        import tempfile

        into = tempfile.mkdtemp(prefix="mlplat-")
    path = _arguments.optional_text(path, "path")
    return _native.download_artifact(client, run_id, path, _arguments.path(into, "into"))


def read_call(
    client: _native.Client, run_id: str, path: str, offset: int, length: int | None
) -> _native.Call[bytes]:
    path = _arguments.text(path, "path")
    offset = _arguments.count(offset, "offset")
    length = None if length is None else _arguments.count(length, "length")
    return _native.read_artifact(client, run_id, path, "", offset, length)


def update_call(
    client: _native.Client,
    run: RunInfo | str,
    name: str | None,
    description: str | None,
    tags: Mapping[str, object] | None,
) -> _native.Call[_native.RunRecord]:
    run_id = run.id if isinstance(run, RunInfo) else _arguments.text(run, "run")
    return _native.update_run(
        client,
        run_id,
        None if name is None else _arguments.text(name, "name"),
        None if description is None else _arguments.optional_text(description, "description"),
        None if tags is None else _arguments.labels(tags, "tags"),
    )


def search_of(
    filter: str,
    experiment: str | Sequence[str] | None,
    order_by: str | Sequence[str] | None,
    view: str,
    columns: Sequence[str] | None,
) -> dict[str, object]:
    fields = [] if columns is None else _arguments.texts(columns, "columns")
    return {
        "filter": _arguments.optional_text(filter, "filter"),
        "experiments": [] if experiment is None else _arguments.texts(experiment, "experiment"),
        "order_by": [] if order_by is None else _arguments.texts(order_by, "order_by"),
        "view": _arguments.text(view, "view"),
        # No columns at all are other than no say in it.
        "columns": ["none"] if columns is not None and not fields else fields,
    }


def search_call(
    filter: str,
    experiment: str | Sequence[str] | None,
    order_by: str | Sequence[str] | None,
    view: str,
    columns: Sequence[str] | None,
    limit: int | None,
) -> _native.Call[_native.Batches]:
    search = search_of(filter, experiment, order_by, view, columns)
    most = _arguments.optional_integer(limit, "limit", least=0)
    return _native.search_runs(current_client(), search, most)
