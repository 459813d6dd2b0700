"""Finding runs beyond the one table: page by page, as run objects, and what is nested in a run."""

from __future__ import annotations

from . import _arguments, _native
from ._connection import client as current_client
from ._errors import MisuseError
from ._run import Run
from ._run_calls import search_of
from ._table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._run_info import RunInfo

_MAX_PAGE = 1000


def iter_runs(
    filter: str = "",
    *,
    experiment: str | Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    view: str = "active",
    columns: Sequence[str] | None = None,
    page_size: int = 1000,
) -> Iterator[Table]:
    """As :func:`search_runs`, as one table per page, so that any number of runs fits into memory.

    Runs that are created meanwhile do not shift the pages: no run comes twice, and none is left out.
    """
    search = search_of(filter, experiment, order_by, view, columns)
    size = page_size_of(page_size)
    client = current_client()

    def pages() -> Iterator[Table]:
        token: str | None = ""
        while token is not None:
            batches, token = _native.search_page(client, search, size, token).wait()
            yield Table(batches)

    return pages()


def find_runs(
    filter: str = "",
    *,
    experiment: str | Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    view: str = "active",
    limit: int | None = 100,
) -> list[Run]:
    """As :func:`search_runs`, as run objects: with params, tags, metric summaries and inputs."""
    client = current_client()
    search = search_of(filter, experiment, order_by, view, None)
    most = _arguments.optional_integer(limit, "limit", least=0)
    return [Run(client, record) for record in _native.find_runs(client, search, most).wait()]


def child_runs(run: RunInfo | str) -> list[Run]:
    """The runs nested in a run, directly, oldest first."""
    client = current_client()
    records = _native.child_runs(client, _arguments.run_id(run, "run")).wait()
    return [Run(client, record) for record in records]


def run_tree(run: RunInfo | str) -> str:
    """A run and all runs nested in it, drawn as a tree of text."""
    return _native.run_tree(current_client(), _arguments.run_id(run, "run")).wait()


def page_size_of(value: object) -> int:
    """A size that a page can have."""
    size = _arguments.integer(value, "page_size")
    if not 1 <= size <= _MAX_PAGE:
        raise MisuseError(f"page_size is {size}; give 1 to {_MAX_PAGE}")
    return size
