"""A run as it was when it was read: the blocking API. Its async twin is `aio/_run.py`."""

from __future__ import annotations

from . import _arguments, _late, _native
from ._rich import RichReading
from ._run_calls import artifacts_call, download_call, histories_call, history_call, read_call
from ._steps import drive
from ._table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Mapping

    from ._types import PathLike, When


class Run(RichReading):
    """A run as it was when it was read: params, tags, metrics, status; and the way to its files and histories."""

    __slots__ = ("_client", "_record", "_writers")

    _writers: tuple[int, list[tuple[str, int]]]
    """Process, and names and next numbers with which this object logs points; see `_late`."""

    def metric_history(
        self,
        key: str,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
        last: int | None = None,
        buckets: int | None = None,
        branch: int | None = None,
    ) -> Table:
        """The points of a metric: columns step, timestamp, value, ordered by step, then as logged.

        Both ends of the range of steps are inclusive. `last` gives only so many points at its end. `buckets` gives what a
        chart of that width needs: the first, least, greatest and last point of each bucket (and its first NaN), at
        little cost even for millions of points. `branch` is the number of one of `branches`, or 0; without it the
        current one is read. A metric that was never logged has no rows, and neither has a range with its ends the other way
        round.
        """
        return history_call(self, key, start_step, end_step, last, buckets, branch).wait()

    def metric_histories(
        self,
        keys: Iterable[str] | None = None,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
        last: int | None = None,
        buckets: int | None = None,
        branch: int | None = None,
    ) -> dict[str, Table]:
        """The points of several metrics by key, read in one call; the rest is as in :meth:`metric_history`.

        By default those of `metrics`.
        """
        wanted = list(self.metrics) if keys is None else _arguments.texts(keys, "keys")
        if not wanted:
            return {}
        return histories_call(self, wanted, start_step, end_step, last, buckets, branch).wait()

    def artifacts(self, path: str = "") -> list[_native.Artifact]:
        """The files of the run, or those at or below `path`."""
        return artifacts_call(self, path).wait()

    def download_artifact(self, path: str = "", into: PathLike | None = None) -> str:
        """Downloads a file or directory of the run and returns where it is now.

        It goes into the directory `into`, by default a new temporary one. Without `path` all files are downloaded.
        """
        return download_call(self._client, self.id, path, into).wait()

    def read_artifact(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """The content of a file of the run: `length` bytes from `offset` on, fewer at its end; by default all of it.

        At most 1 GiB at once, as it is in memory as a whole: of a longer file read ranges, or use :meth:`open_artifact` or
        :meth:`download_artifact`.
        """
        return read_call(self._client, self.id, path, offset, length).wait()

    def open_artifact(self, path: str) -> io.BufferedReader:
        """A file of the run, opened for reading at any place, without downloading it: `with run.open_artifact("x") as file: …`.

        It stays the content that it was when it was opened; when the file of the run is replaced, reading fails.
        """
        from ._artifact_file import open_call, opened

        return opened(self._client, self.id, open_call(self._client, self.id, path).wait())

    def set_tag(self, key: str, value: object) -> None:
        """Sets a label, also where the run has ended; its other labels stay."""
        self.set_tags({_arguments.text(key, "key"): value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets labels, also where the run has ended; its other labels stay. `tags` shows them then."""
        drive(_late.set_tags_steps(self, tags))

    def delete_tags(self, keys: str | Iterable[str]) -> None:
        """Deletes labels, also where the run has ended; one that it does not have is no error."""
        drive(_late.delete_tags_steps(self, keys))

    def log_metric(
        self, key: str, value: object, step: int | None = None, *, timestamp: When | None = None
    ) -> None:
        """Logs a value of a metric, also where the run has ended; see :meth:`log_metrics`."""
        self.log_metrics({_arguments.text(key, "key"): value}, step, timestamp=timestamp)

    def log_metrics(
        self, metrics: Mapping[str, object], step: int | None = None, *, timestamp: When | None = None
    ) -> None:
        """Logs values of several metrics at one step, also where the run has ended, e.g. those of a later evaluation.

        Without `step` it is one more than the last of each key. The status of the run stays. Unlike in a run under way this
        waits for the server.
        """
        drive(_late.log_metrics_steps(self, metrics, step, timestamp))

    def refresh(self) -> Run:
        """The run as it is now."""
        client = self._client
        return _native.get_run(client, self.id, "all").then(lambda record: Run(client, record)).wait()
