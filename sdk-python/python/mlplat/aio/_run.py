"""A run as it was when it was read: the async API, the twin of `../_run.py`."""

from __future__ import annotations

from .. import _arguments, _late, _native
from .._run_calls import artifacts_call, download_call, histories_call, history_call, read_call
from .._steps import drive_async
from .._table import Table
from ._rich import RichReading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Mapping

    from .._types import PathLike, When


class Run(RichReading):
    """A run as it was when it was read; see :class:`mlplat.Run`."""

    __slots__ = ("_client", "_record", "_writers")

    _writers: tuple[int, list[tuple[str, int]]]
    """Process, and names and next numbers with which this object logs points; see `_late`."""

    async def metric_history(
        self,
        key: str,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
        last: int | None = None,
        buckets: int | None = None,
        branch: int | None = None,
    ) -> Table:
        """The points of a metric; see :meth:`mlplat.Run.metric_history`."""
        return await history_call(self, key, start_step, end_step, last, buckets, branch)

    async def metric_histories(
        self,
        keys: Iterable[str] | None = None,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
        last: int | None = None,
        buckets: int | None = None,
        branch: int | None = None,
    ) -> dict[str, Table]:
        """The points of several metrics by key; see :meth:`mlplat.Run.metric_histories`."""
        wanted = list(self.metrics) if keys is None else _arguments.texts(keys, "keys")
        if not wanted:
            return {}
        return await histories_call(self, wanted, start_step, end_step, last, buckets, branch)

    async def artifacts(self, path: str = "") -> list[_native.Artifact]:
        """The files of the run, or those at or below `path`."""
        return await artifacts_call(self, path)

    async def download_artifact(self, path: str = "", into: PathLike | None = None) -> str:
        """Downloads a file or directory; see :meth:`mlplat.Run.download_artifact`."""
        return await download_call(self._client, self.id, path, into)

    async def read_artifact(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """A range of a file of the run; see :meth:`mlplat.Run.read_artifact`."""
        return await read_call(self._client, self.id, path, offset, length)

    async def open_artifact(self, path: str) -> io.BufferedReader:
        """A file of the run, opened for reading; see :meth:`mlplat.Run.open_artifact`. Its reads block: use it in a thread."""
        from .._artifact_file import open_call, opened

        return opened(self._client, self.id, await open_call(self._client, self.id, path))

    async def set_tag(self, key: str, value: object) -> None:
        """Sets a label, also where the run has ended; its other labels stay."""
        await self.set_tags({_arguments.text(key, "key"): value})

    async def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets labels, also where the run has ended; its other labels stay. `tags` shows them then."""
        await drive_async(_late.set_tags_steps(self, tags))

    async def delete_tags(self, keys: str | Iterable[str]) -> None:
        """Deletes labels, also where the run has ended; one that it does not have is no error."""
        await drive_async(_late.delete_tags_steps(self, keys))

    async def log_metric(
        self, key: str, value: object, step: int | None = None, *, timestamp: When | None = None
    ) -> None:
        """Logs a value of a metric, also where the run has ended; see :meth:`mlplat.Run.log_metrics`."""
        await self.log_metrics({_arguments.text(key, "key"): value}, step, timestamp=timestamp)

    async def log_metrics(
        self, metrics: Mapping[str, object], step: int | None = None, *, timestamp: When | None = None
    ) -> None:
        """Logs values of several metrics, also where the run has ended; see :meth:`mlplat.Run.log_metrics`."""
        await drive_async(_late.log_metrics_steps(self, metrics, step, timestamp))

    async def refresh(self) -> Run:
        """The run as it is now."""
        return Run(self._client, await _native.get_run(self._client, self.id, "all"))
