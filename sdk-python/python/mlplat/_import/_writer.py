"""Writes the runs of a source: the one place that knows how an import stays repeatable.

Invariant: each run has one id however often it is imported into a project, and each stream of points is a writer of its
own whose records are numbered, so that the server stores every point once. What was changed in mlplat stays until
the source changes the same. A run is marked as complete last, and only if nothing of it was left out; one that is marked
with the same fingerprint is passed by.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from .. import _native, _place, _runs
from .._errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from .._progress import Line
from ._batches import log_stream, log_texts, set_tags
from ._experiments import Experiments
from ._files import log_files
from ._missing import log_missing
from ._names import MAX_DESCRIPTION, Names, name_of, value_of
from ._origin import SOURCE_TAG, kind_of, origin_of, place_of
from ._records import NAMESPACE, Source, SourceExperiment, SourceRun, digest_of, sentence_of
from ._seen import SEEN_TAG, Seen
from ._summary import Summary, Wish

DONE_TAG = "import.complete"
LEFT_OUT_TAG = "import.left_out"

_ENDED = ("FINISHED", "FAILED", "KILLED")
_MAX_NAME = 250
_MAX_SOURCE = 2000
_MAX_SOURCE_TYPE = 100


def import_all(client: _native.Client, source: Source, wish: Wish) -> Summary:
    """Imports what is wished of a source."""
    return _Import(client, source, wish).all()


class _Import:
    def __init__(self, client: _native.Client, source: Source, wish: Wish) -> None:
        self.client = client
        self.source = source
        self.wish = wish
        self.summary = Summary()
        # Key -> id of the runs that are in mlplat.
        self.ids: dict[str, str] = {}
        # Key -> name in mlplat of the experiments.
        self.experiments: dict[str, str] = {}

    def all(self) -> Summary:
        began = time.monotonic()
        runs = [run for experiment in self._experiments() for run in self._runs(experiment)]
        progress = _Progress(len(runs))
        try:
            for run in _parents_first(runs):
                progress.show(f"{run.experiment.name}/{run.name}", self.summary)
                self._one(run)
        finally:
            progress.clear()
        self.summary.errors += self.source.problems
        self.summary.notes += self.source.notes
        self.summary.seconds = time.monotonic() - began
        return self.summary

    def _experiments(self) -> list[SourceExperiment]:
        found = self.source.experiments()
        for name in self.wish.experiments:
            if not any(experiment.name == name for experiment in found):
                self.summary.fail(f"there is no experiment {name!r} in {self.source.describe()}")
        wanted = []
        for experiment in found:
            if self.wish.experiments and experiment.name not in self.wish.experiments:
                continue
            if experiment.deleted and not self.wish.deleted:
                self.summary.left_out += 1
                self.summary.note(
                    f"experiment {experiment.name!r} is deleted and was left out; --deleted imports it"
                )
                continue
            wanted.append(experiment)
        self.summary.experiments = len(wanted)
        if not self.wish.dry_run:
            self.experiments = Experiments(self.client, self.source, self.summary).bring(wanted)
        return wanted

    def _runs(self, experiment: SourceExperiment) -> Iterator[SourceRun]:
        try:
            for run in self.source.runs(experiment):
                if run.deleted and not self.wish.deleted:
                    self.summary.left_out += 1
                    self.summary.note("deleted runs were left out; --deleted imports them")
                else:
                    yield run
        except Exception as error:
            # Whatever it is, the runs of the other experiments are imported.
            self.summary.fail(f"runs of {experiment.name!r} cannot be listed: {sentence_of(error)}")

    def _one(self, run: SourceRun) -> None:
        try:
            before = self._find(run)
            marked = before.tags.get(DONE_TAG) if before is not None else None
            # Where it takes reading all points, that is done once: for the streams, if the run is not complete.
            known = self._fingerprint(run) if marked or self.source.grows_at_end else None
            if marked and marked == known:
                self.summary.unchanged += 1
                return
            self._check_kind(before)
            if run.ended_us is not None and run.ended_us < run.started_us:
                seconds = (run.started_us - run.ended_us) / 1e6
                self.summary.note(
                    f"{_called(run)} ended {seconds:g} s before it began there; here it ends when it began"
                )
            if self.wish.dry_run:
                self._count(run, before)
            else:
                left = self._write(run, before)
                self._mark(run, before, known or self._fingerprint(run), left)
            self.summary.runs += 1
        except Exception as error:
            # Whatever it is, the other runs are imported.
            self.summary.fail(f"{_called(run)}: {sentence_of(error)}")

    def _mark(self, run: SourceRun, before: _runs.Run | None, fingerprint: str, left: list[str]) -> None:
        """Marks a run as complete, or with what was left out of it."""
        if left:
            set_tags(self.client, run.id, {DONE_TAG: "", LEFT_OUT_TAG: value_of("\n".join(left))})
            return
        if before is not None and LEFT_OUT_TAG in before.tags:
            _native.delete_params_and_tags(self.client, run.id, [], [LEFT_OUT_TAG]).wait()
        set_tags(self.client, run.id, {DONE_TAG: fingerprint})

    def _fingerprint(self, run: SourceRun) -> str:
        said = digest_of(
            (run.name, run.description, run.parent, run.deleted, run.status, run.message, run.ended_us),
            (sorted(run.params.items()), sorted(run.tags.items()), run.datasets),
        )
        files = self.wish.artifacts
        return f"{said} {self.source.fingerprint(run, files)}" + ("" if files else " without files")

    def _count(self, run: SourceRun, before: _runs.Run | None) -> None:
        """What `_write` would write."""
        names = self._names(before)
        names.add(names.params, run.params)
        names.add(names.tags, run.tags)
        for _, points in self.source.streams(run):
            for key, *_ in points:
                self.summary.points += 1
                if key not in names.metrics.names:
                    names.add(names.metrics, [key])

    def _names(self, before: _runs.Run | None) -> Names:
        """The names of the keys of a run, with those that they got before."""
        if before is None:
            return Names(self.summary.note, {})
        return Names(self.summary.note, before.tags, before.metric_summaries)

    def _find(self, run: SourceRun) -> _runs.Run | None:
        """The run in this project, by its own id or by the one it got because another project has it too."""
        for run_id in (run.id, self._other_id(run)):
            try:
                found = _runs.get_run(run_id, view="all")
            except NotFoundError:
                continue
            run.id = self.ids[run.key] = found.id
            return found
        return None

    def _other_id(self, run: SourceRun) -> str:
        return str(uuid.uuid5(NAMESPACE, f"{self.client.project} {run.key}"))

    def _check_kind(self, before: _runs.Run | None) -> None:
        """A database, a folder and a server number the same points differently, so that they would come twice."""
        known = before.tags.get(SOURCE_TAG) if before is not None else None
        if known is not None and kind_of(known) != kind_of(self.source.describe()):
            raise FailedPreconditionError(
                f"it was imported from {place_of(known)}, and goes on only from there"
            )

    def _write(self, run: SourceRun, before: _runs.Run | None) -> list[str]:
        """Brings a run over; returns in sentences what was left out."""
        names = self._names(before)
        params = names.add(names.params, run.params)
        tags = names.add(names.tags, run.tags)
        said = Seen.of(run, [tags[key] for key in run.tags])
        if before is None:
            # It is not deleted yet, and its params and tags are not there.
            self._create(run, Seen(name=said.name, description=said.description))
            seen, was_deleted = Seen(name=said.name, description=said.description), False
        else:
            seen, was_deleted = Seen.read(before.tags.get(SEEN_TAG)), before.deleted_at is not None
            # Until all is there again, it is not what the mark says.
            set_tags(self.client, run.id, {DONE_TAG: ""})
            was_deleted = self._restored(run, seen, was_deleted)
            self._describe(run, said, seen, was_deleted)
        set_tags(self.client, run.id, names.changed())
        if said.texts != seen.texts:
            log_texts(
                self.client,
                run.id,
                {params[key]: value for key, value in run.params.items()},
                {tags[key]: value for key, value in run.tags.items()},
            )
            if gone := sorted(set(seen.tags) - set(said.tags)):
                _native.delete_params_and_tags(self.client, run.id, [], gone).wait()
        branches = [] if before is None else [0, *(branch.number for branch in before.branches)]
        for name, points in self.source.streams(run):
            if self.source.grows_at_end:
                new = log_stream(self.client, run.id, name, points, names)
            else:
                new = log_missing(self.client, run.id, name, points, names, branches)
            self.summary.points += new
        self._log_datasets(run)
        left = log_files(self.client, self.source, run, self.summary) if self.wish.artifacts else []
        if said.end != seen.end:
            self._end(run, seen, before)
        if run.deleted and not seen.deleted and not was_deleted:
            # And can be restored.
            _native.delete_runs(self.client, [run.id], False).wait()
        set_tags(self.client, run.id, {SEEN_TAG: said.text()})
        return left

    def _end(self, run: SourceRun, seen: Seen, before: _runs.Run | None) -> None:
        """Ends the run as it ended in the source, or takes it up again where it goes on there."""
        message = run.message[:MAX_DESCRIPTION]
        ended_us = max(run.started_us if run.ended_us is None else run.ended_us, run.started_us)
        if before is not None and before.status in _ENDED:
            known_us = round(before.ended_at.timestamp() * 1e6) if before.ended_at is not None else None
            if (before.status, before.status_message, known_us) == (run.status, message, ended_us):
                return
            # An end is final. Until the run has the new one, it is not what the mark says.
            set_tags(self.client, run.id, {SEEN_TAG: replace(seen, end="").text()})
            _native.import_resume(self.client, run.id).wait()
        if run.status in _ENDED:
            _native.import_end(self.client, run.id, run.status, message, ended_us * 1000).wait()

    def _restored(self, run: SourceRun, seen: Seen, deleted: bool) -> bool:
        """Restores what was restored in the source; returns whether the run is deleted still."""
        if deleted and seen.deleted and not run.deleted:
            _native.restore_runs(self.client, [run.id], False).wait()
            return False
        return deleted

    def _describe(self, run: SourceRun, said: Seen, seen: Seen, deleted: bool) -> None:
        """Name and description, as far as the source has changed them."""
        name = name_of(run.name) if said.name != seen.name else None
        description = run.description[:MAX_DESCRIPTION] if said.description != seen.description else None
        if name is None and description is None:
            return
        # A deleted run is changed by nobody.
        if deleted:
            _native.restore_runs(self.client, [run.id], False).wait()
        _native.update_run(self.client, run.id, name, description, None).wait()
        if deleted:
            _native.delete_runs(self.client, [run.id], False).wait()

    def _log_datasets(self, run: SourceRun) -> None:
        for data in run.datasets:
            entry = {
                "name": name_of(data.name),
                "digest": data.digest[:_MAX_NAME],
                "source": data.source[:_MAX_SOURCE],
                "source_type": data.source_type[:_MAX_SOURCE_TYPE],
                "context": data.context[:_MAX_NAME],
                "fields": [],
                "rows": None,
            }
            _native.log_input(self.client, run.id, entry).wait()

    def _create(self, run: SourceRun, seen: Seen) -> None:
        start = {
            "run_id": run.id,
            "experiment": self.experiments[run.experiment.key],
            "name": name_of(run.name),
            "parent": self.ids.get(run.parent or ""),
            "description": run.description[:MAX_DESCRIPTION],
            "tags": {SOURCE_TAG: origin_of(self.source, run.key), SEEN_TAG: seen.text()},
            "started_at": run.started_us * 1000,
        }
        try:
            _native.import_run(self.client, start).wait()
        except AlreadyExistsError:
            # In another project of this server.
            start["run_id"] = run.id = self._other_id(run)
            _native.import_run(self.client, start).wait()
        self.ids[run.key] = run.id


def _called(run: SourceRun) -> str:
    return f"run {run.name!r} ({run.key}) of {run.experiment.name!r}"


def _parents_first(runs: list[SourceRun]) -> Iterator[SourceRun]:
    """Each run after the one it is nested in."""
    by_key = {run.key: run for run in runs}
    done: set[str] = set()
    for run in runs:
        line: list[SourceRun] = []
        one: SourceRun | None = run
        while one is not None and one.key not in done and one not in line:
            line.append(one)
            one = by_key.get(one.parent) if one.parent else None
        for next_one in reversed(line):
            done.add(next_one.key)
            yield next_one


class _Progress:
    """One line on a terminal, nothing elsewhere, and nothing in continuous integration."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.began = time.monotonic()
        self.line = Line() if sys.stderr.isatty() and not _place.quiet() else None

    def show(self, what: str, summary: Summary) -> None:
        self.done += 1
        if self.line is not None:
            facts = [
                f"{self.done} of {self.total} runs",
                f"{summary.points:,} points",
                f"{summary.files:,} files",
            ]
            elapsed = time.monotonic() - self.began
            self.line.count("importing", what, facts, self.done / self.total, elapsed)

    def clear(self) -> None:
        if self.line is not None:
            self.line.clear()
