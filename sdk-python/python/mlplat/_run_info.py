"""What is known of a run, the same for the blocking and the async API."""

from __future__ import annotations

from . import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime


class RunInfo:
    """A run as it was when it was read; it does not change by itself."""

    # What has a native part cannot have slots twice: the classes below this one say where they keep these.
    __slots__ = ()

    _record: _native.RunRecord
    _client: _native.Client

    def __init__(self, client: _native.Client, record: _native.RunRecord) -> None:
        self._client = client
        self._record = record

    @property
    def id(self) -> str:
        """UUIDv7 of the run; also the OpenLineage runId."""
        return self._record.id

    @property
    def experiment(self) -> str:
        """Name of its experiment."""
        return self._record.experiment

    @property
    def name(self) -> str:
        """Display name; not unique."""
        return self._record.name

    @property
    def parent_run_id(self) -> str | None:
        """The run it is nested in."""
        return self._record.parent_run_id

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED, KILLED, or CRASHED when its process was not heard of for a while."""
        return self._record.status

    @property
    def status_message(self) -> str:
        """Why it ended as it did, e.g. the exception."""
        return self._record.status_message

    @property
    def description(self) -> str:
        """Notes, in Markdown."""
        return self._record.description

    @property
    def params(self) -> dict[str, str]:
        """Inputs of the run, as text."""
        return self._record.params

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric: of the greatest step, then the greatest timestamp, then logged last."""
        return self._record.metrics

    @property
    def metric_summaries(self) -> dict[str, _native.MetricSummary]:
        """Last, min, max and count of each metric; min and max ignore NaN."""
        return self._record.metric_summaries

    @property
    def tags(self) -> dict[str, str]:
        """Free labels."""
        return self._record.tags

    @property
    def started_at(self) -> datetime:
        """When it started."""
        return self._record.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it runs."""
        return self._record.ended_at

    @property
    def created_by(self) -> str:
        """Who created it."""
        return self._record.created_by

    @property
    def heartbeat_at(self) -> datetime | None:
        """When its process was last heard of; None for a run whose process sends no heartbeats."""
        return self._record.heartbeat_at

    @property
    def branches(self) -> list[_native.RunBranch]:
        """How it was resumed from earlier steps; empty for a run that never was. The last one is the current one."""
        return self._record.branches

    @property
    def deleted_at(self) -> datetime | None:
        """When it was deleted; None unless it can still be restored."""
        return self._record.deleted_at

    @property
    def inputs(self) -> list[_native.DatasetInput]:
        """The data sets that it read, as logged."""
        return self._record.inputs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunInfo) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, experiment={self.experiment!r}, status={self.status!r}, "
            f"id={self.id!r})"
        )

    def _repr_html_(self) -> str:
        from ._companions import _view

        return _view.full(self._client, self._record, _view.Series(self))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
