"""Finding, comparing and keeping runs: the async API, the twin of `_find.py`, `_keep.py` and `_compare.py`."""

from __future__ import annotations

from .. import _arguments, _native
from .._connection import client as current_client
from .._find import page_size_of
from .._run import Run as BlockingRun
from .._run_calls import search_of
from .._run_info import RunInfo
from .._table import Table
from ._run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from .._compare import RunComparison
    from .._keep import Collected


def iter_runs(
    filter: str = "",
    *,
    experiment: str | Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    view: str = "active",
    columns: Sequence[str] | None = None,
    page_size: int = 1000,
) -> AsyncIterator[Table]:
    """The runs that fit, as one table per page: `async for page in …`; see :func:`mlplat.iter_runs`."""
    search = search_of(filter, experiment, order_by, view, columns)
    size = page_size_of(page_size)
    client = current_client()

    async def pages() -> AsyncIterator[Table]:
        token: str | None = ""
        while token is not None:
            batches, token = await _native.search_page(client, search, size, token)
            yield Table(batches)

    return pages()


async def find_runs(
    filter: str = "",
    *,
    experiment: str | Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    view: str = "active",
    limit: int | None = 100,
) -> list[Run]:
    """The runs that fit, as run objects; see :func:`mlplat.find_runs`."""
    client = current_client()
    search = search_of(filter, experiment, order_by, view, None)
    most = _arguments.optional_integer(limit, "limit", least=0)
    return [Run(client, record) for record in await _native.find_runs(client, search, most)]


async def child_runs(run: RunInfo | str) -> list[Run]:
    """The runs nested in a run, directly, oldest first."""
    client = current_client()
    records = await _native.child_runs(client, _arguments.run_id(run, "run"))
    return [Run(client, record) for record in records]


async def run_tree(run: RunInfo | str) -> str:
    """A run and all runs nested in it, drawn as a tree of text."""
    return await _native.run_tree(current_client(), _arguments.run_id(run, "run"))


async def compare_runs(runs: Iterable[RunInfo | str]) -> RunComparison:
    """Two runs or more beside each other; see :func:`mlplat.compare_runs`."""
    from .._compare import RunComparison

    client = current_client()
    ids = _arguments.run_ids(runs, "runs")
    records = [await _native.get_run(client, run_id, "active") for run_id in ids]
    return RunComparison([BlockingRun(client, record) for record in records])


async def delete_runs(runs: RunInfo | str | Iterable[RunInfo | str], *, nested: bool = False) -> int:
    """Deletes runs; see :func:`mlplat.delete_runs`."""
    return await _native.delete_runs(
        current_client(), _arguments.run_ids(runs, "runs"), _arguments.flag(nested, "nested")
    )


async def restore_runs(runs: RunInfo | str | Iterable[RunInfo | str], *, nested: bool = False) -> int:
    """Restores deleted runs; see :func:`mlplat.restore_runs`."""
    return await _native.restore_runs(
        current_client(), _arguments.run_ids(runs, "runs"), _arguments.flag(nested, "nested")
    )


async def move_runs(
    runs: RunInfo | str | Iterable[RunInfo | str], experiment: str, *, nested: bool = False
) -> int:
    """Moves runs into an experiment; see :func:`mlplat.move_runs`."""
    ids = _arguments.run_ids(runs, "runs")
    target = _arguments.text(experiment, "experiment")
    return await _native.move_runs(current_client(), ids, target, _arguments.flag(nested, "nested"))


async def move_experiment(name: str, into: str) -> int:
    """Moves all runs of an experiment into another one; see :func:`mlplat.move_experiment`."""
    source, target = _arguments.text(name, "name"), _arguments.text(into, "into")
    return await _native.move_experiment(current_client(), source, target)


async def delete_params(run: RunInfo | str, keys: str | Iterable[str]) -> int:
    """Deletes params of a run; returns how many of them it had."""
    wanted = _arguments.texts(keys, "keys")
    run_id = _arguments.run_id(run, "run")
    return await _native.delete_params_and_tags(current_client(), run_id, wanted, [])


async def delete_tags(run: RunInfo | str, keys: str | Iterable[str]) -> int:
    """Deletes labels of a run; returns how many of them it had."""
    wanted = _arguments.texts(keys, "keys")
    run_id = _arguments.run_id(run, "run")
    return await _native.delete_params_and_tags(current_client(), run_id, [], wanted)


async def delete_experiment(name: str) -> _native.Experiment:
    """Deletes an experiment with its runs; until it is collected the name stays taken."""
    return await _native.delete_experiment(current_client(), _arguments.text(name, "name"))


async def restore_experiment(name: str) -> _native.Experiment:
    """Restores an experiment with the runs that were deleted with it."""
    return await _native.restore_experiment(current_client(), _arguments.text(name, "name"))


async def update_experiment(
    name: str,
    *,
    new_name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
) -> _native.Experiment:
    """Renames an experiment, or changes its notes or (all) labels; see :func:`mlplat.update_experiment`."""
    labels = None if tags is None else _arguments.labels(tags, "tags")
    found = _arguments.text(name, "name")
    renamed = None if new_name is None else _arguments.text(new_name, "new_name")
    notes = None if description is None else _arguments.optional_text(description, "description")
    return await _native.update_experiment(current_client(), found, renamed, notes, labels)


async def collect_garbage(older_than_days: int | None = None, *, dry_run: bool = False) -> Collected:
    """Removes for good what was deleted long ago; see :func:`mlplat.collect_garbage`."""
    from .._keep import Collected

    days = _arguments.optional_integer(older_than_days, "older_than_days", least=0)
    return Collected(
        await _native.collect_garbage(current_client(), days, _arguments.flag(dry_run, "dry_run"))
    )
