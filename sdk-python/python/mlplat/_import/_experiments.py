"""Brings the experiments of a source over.

Invariant: which experiment is which is known by a tag of it, so that it stays the same when it is renamed there. What the
source says of it wins at every import; what the source never said stays as it is in mlplat.
"""

from __future__ import annotations

from .. import _native
from .._errors import MlplatError
from ._names import MAX_DESCRIPTION, name_of, value_of
from ._origin import SOURCE_TAG, is_moved, origin_of
from ._records import Source, SourceExperiment, digest_of
from ._seen import SEEN_TAG, Seen
from ._summary import Summary

# Runs that name no experiment go into it, whatever else is there.
_DEFAULT = "default"


class Experiments:
    """The experiments of the project, found by what they are in the source."""

    def __init__(self, client: _native.Client, source: Source, summary: Summary) -> None:
        self.client = client
        self.source = source
        self.summary = summary
        found = _native.list_experiments(client, "all").wait()
        self.by_name = {one.name: one for one in found}
        self.by_origin = {
            one.tags[SOURCE_TAG]: one for one in found if SOURCE_TAG in one.tags and one.name != _DEFAULT
        }

    def bring(self, experiments: list[SourceExperiment]) -> dict[str, str]:
        """Creates experiments, or changes them to what they are in the source; returns their names here, by key."""
        # The known ones first: what is new there may have the name that one of them had.
        ordered = sorted(experiments, key=lambda one: origin_of(self.source, one.key) not in self.by_origin)
        return {experiment.key: self._brought(experiment) for experiment in ordered}

    def _brought(self, experiment: SourceExperiment) -> str:
        """One that cannot be brought is told, and its runs go into the one of its name all the same."""
        try:
            return self._bring(experiment)
        except MlplatError as failure:
            self.summary.fail(f"the experiment {experiment.name!r} could not be brought over: {failure}")
            return name_of(experiment.name)

    def _bring(self, experiment: SourceExperiment) -> str:
        origin, name = origin_of(self.source, experiment.key), name_of(experiment.name)
        ours = self.by_origin.get(origin) or self.by_name.get(name)
        if ours is None:
            tags = self._tags(experiment, origin)
            description = experiment.description[:MAX_DESCRIPTION]
            created = _native.create_experiment(self.client, name, description, tags).wait()
            self.by_name[name] = created
            return name
        # A deleted one is changed by nobody. One in which several of the sources are is what the first of them says.
        known = ours.tags.get(SOURCE_TAG, origin)
        if ours.deleted_at is None and (known == origin or is_moved(origin, known)):
            return self._update(ours, experiment, name, origin)
        return ours.name

    def _update(self, ours: _native.Experiment, experiment: SourceExperiment, name: str, origin: str) -> str:
        seen = Seen.read(ours.tags.get(SEEN_TAG))
        # What the source never had was said in mlplat; what it had and has no more is gone.
        kept = {key: value for key, value in ours.tags.items() if key not in seen.tags}
        tags = {**kept, **self._tags(experiment, origin)}
        description = experiment.description[:MAX_DESCRIPTION]
        if not description and not seen.description:
            description = ours.description
        new_name = self._new_name(ours, name)
        if (description, tags, new_name) == (ours.description, ours.tags, None):
            return ours.name
        changed = _native.update_experiment(self.client, ours.name, new_name, description, tags).wait()
        del self.by_name[ours.name]
        self.by_name[changed.name] = changed
        return changed.name

    def _new_name(self, ours: _native.Experiment, name: str) -> str | None:
        """The name to give it, if it has another one and this is free."""
        if name == ours.name:
            return None
        if name in self.by_name:
            self.summary.fail(
                f"the experiment {ours.name!r} is called {name!r} there, but here another one has that name"
            )
            return None
        return name

    def _tags(self, experiment: SourceExperiment, origin: str) -> dict[str, str]:
        """Its tags in the source, and what a later import has to know."""
        tags = {name_of(key): value_of(value) for key, value in experiment.tags.items()}
        description = digest_of(experiment.description) if experiment.description else ""
        seen = Seen(description=description, tags=sorted(tags))
        return {**tags, SOURCE_TAG: origin, SEEN_TAG: seen.text()}
