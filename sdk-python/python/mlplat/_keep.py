"""Keeping runs and experiments: deleting, restoring, moving, renaming, and collecting what was deleted long ago.

What is deleted is hidden, and can be restored until the server collects it (after 30 days, unless it is set up otherwise).
"""

from __future__ import annotations

from . import _arguments, _native
from ._connection import client as current_client
from ._run_info import RunInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Collected:
    """What a collection of garbage has removed, or would remove."""

    __slots__ = ("experiments", "kept_runs", "objects", "runs")

    def __init__(self, counts: tuple[int, int, int, int]) -> None:
        self.runs, self.experiments, self.kept_runs, self.objects = counts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Collected) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return (
            f"Collected(runs={self.runs}, experiments={self.experiments}, kept_runs={self.kept_runs}, "
            f"objects={self.objects})"
        )


def delete_runs(runs: RunInfo | str | Iterable[RunInfo | str], *, nested: bool = False) -> int:
    """Deletes a run or several, with `nested` also the runs nested in them; returns how many were not deleted before.

    They are hidden from searches and :func:`get_run` unless asked for, and :func:`restore_runs` brings them back.
    """
    return _native.delete_runs(
        current_client(), _arguments.run_ids(runs, "runs"), _arguments.flag(nested, "nested")
    ).wait()


def restore_runs(runs: RunInfo | str | Iterable[RunInfo | str], *, nested: bool = False) -> int:
    """Restores deleted runs, with `nested` also those nested in them; returns how many were deleted."""
    return _native.restore_runs(
        current_client(), _arguments.run_ids(runs, "runs"), _arguments.flag(nested, "nested")
    ).wait()


def move_runs(runs: RunInfo | str | Iterable[RunInfo | str], experiment: str, *, nested: bool = False) -> int:
    """Moves runs into an experiment, which is created where it does not exist; returns how many were in another one."""
    ids = _arguments.run_ids(runs, "runs")
    target = _arguments.text(experiment, "experiment")
    return _native.move_runs(current_client(), ids, target, _arguments.flag(nested, "nested")).wait()


def move_experiment(name: str, into: str) -> int:
    """Moves all runs of an experiment into another one, deleted ones too; returns how many.

    The other one is created where it does not exist. The experiment itself stays, without runs; :func:`delete_experiment` deletes it.
    """
    source, target = _arguments.text(name, "name"), _arguments.text(into, "into")
    return _native.move_experiment(current_client(), source, target).wait()


def delete_params(run: RunInfo | str, keys: str | Iterable[str]) -> int:
    """Deletes params of a run; returns how many of them it had."""
    wanted = _arguments.texts(keys, "keys")
    run_id = _arguments.run_id(run, "run")
    return _native.delete_params_and_tags(current_client(), run_id, wanted, []).wait()


def delete_tags(run: RunInfo | str, keys: str | Iterable[str]) -> int:
    """Deletes labels of a run; returns how many of them it had."""
    wanted = _arguments.texts(keys, "keys")
    run_id = _arguments.run_id(run, "run")
    return _native.delete_params_and_tags(current_client(), run_id, [], wanted).wait()


def delete_experiment(name: str) -> _native.Experiment:
    """Deletes an experiment with its runs; until it is collected the name stays taken."""
    return _native.delete_experiment(current_client(), _arguments.text(name, "name")).wait()


def restore_experiment(name: str) -> _native.Experiment:
    """Restores an experiment with the runs that were deleted with it."""
    return _native.restore_experiment(current_client(), _arguments.text(name, "name")).wait()


def update_experiment(
    name: str,
    *,
    new_name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
) -> _native.Experiment:
    """Renames an experiment, or changes its notes or (all) labels; what is not given stays.

    The lineage of its runs keeps the name under which they were created.
    """
    labels = None if tags is None else _arguments.labels(tags, "tags")
    found = _arguments.text(name, "name")
    renamed = None if new_name is None else _arguments.text(new_name, "new_name")
    notes = None if description is None else _arguments.optional_text(description, "description")
    return _native.update_experiment(current_client(), found, renamed, notes, labels).wait()


def collect_garbage(older_than_days: int | None = None, *, dry_run: bool = False) -> Collected:
    """Removes for good what was deleted at least so many days ago; by default as long as the server keeps it.

    Only owners of the project may. A run that a model version was published from stays. The server does it by itself
    every hour.
    """
    days = _arguments.optional_integer(older_than_days, "older_than_days", least=0)
    return Collected(
        _native.collect_garbage(current_client(), days, _arguments.flag(dry_run, "dry_run")).wait()
    )
