"""What a source knows of its runs, in words that are the same for all sources.

Invariant: a stream gives the same points in the same order whenever it is read, and a source that has grown has only
added to its end. That is what makes a second import change nothing, and an interrupted one go on. A source that cannot
promise this says so, and what it has is compared with what is stored.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from .._errors import MlplatError

Point: TypeAlias = tuple[str, int, int, float]
"""Metric key, step, microseconds since 1970, value."""

Listed: TypeAlias = tuple[str, int, int]
"""Path, size and time of change of a file, the time 0 where it is not known."""

NAMESPACE = uuid.UUID("5d0a7c1e-6a3c-5b0e-9d52-3f0f8f0f6c11")
"""For the ids that are made of the names that things have in a source."""


def run_id_of(text: str) -> str:
    """The id of a run: MLflow's are UUIDs without dashes and stay what they are; other names give one each."""
    try:
        return str(uuid.UUID(hex=text))
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, text))


@dataclass
class Dataset:
    """Data that a run read."""

    name: str
    digest: str
    source: str
    source_type: str
    context: str


@dataclass
class SourceExperiment:
    """A named group of runs."""

    key: str
    name: str
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    deleted: bool = False


@dataclass
class SourceRun:
    """One run, without its points and files."""

    key: str
    experiment: SourceExperiment
    name: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    started_us: int
    ended_us: int | None = None
    message: str = ""
    description: str = ""
    parent: str | None = None
    """Key of the run it is nested in."""
    deleted: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    datasets: list[Dataset] = field(default_factory=list)

    id: str = ""
    """The id that it has in mlplat."""

    def __post_init__(self) -> None:
        self.id = self.id or run_id_of(self.key)


@dataclass
class Files:
    """A file or folder of this machine that belongs into a directory of a run."""

    path: str
    directory: str = ""
    name: str = ""
    """What it is called in the run; by default as here."""

    @property
    def target(self) -> str:
        """Its path in the run."""
        name = self.name or os.path.basename(self.path.rstrip("/"))
        return f"{self.directory}/{name}" if self.directory else name


@dataclass
class Placed:
    """A file of this machine that is called otherwise in the run."""

    target: str
    """Its path in the run."""
    path: str


@dataclass
class Fetched:
    """A file that is elsewhere, and is fetched when it is its turn: that may fail for one and work for the next."""

    target: str
    """Its path in the run."""
    fetch: Callable[[str], None]
    """Writes its content to this local path."""


class Source(Protocol):
    """Where runs come from."""

    grows_at_end: bool
    """Whether its streams only ever grow at their ends."""
    problems: list[str]
    """What could not be read at all, in sentences."""
    notes: list[str]
    """What was passed by for a good reason, in sentences."""

    def describe(self) -> str:
        """What it is, a colon, and where it is."""
        ...

    def experiments(self) -> Sequence[SourceExperiment]:
        """All of them."""
        ...

    def runs(self, experiment: SourceExperiment) -> Iterator[SourceRun]:
        """The runs of an experiment."""
        ...

    def fingerprint(self, run: SourceRun, files: bool) -> str:
        """Changes whenever points of the run change, or if wished its files; cheap where streams grow at their ends.

        Of what the streams gave, where these were read before and may have got points since.
        """
        ...

    def streams(self, run: SourceRun) -> Iterator[tuple[str, Iterator[Point]]]:
        """The points of a run, in one or several named streams."""
        ...

    def files(self, run: SourceRun, present: dict[str, int]) -> Iterator[Files | Placed | Fetched | str]:
        """What the run has of files, or in a sentence why some cannot be read; `present` has the sizes of those
        imported."""
        ...


def sentence_of(error: Exception) -> str:
    """What went wrong; of an exception that nobody expected also its kind, as the text alone may say nothing."""
    if isinstance(error, (MlplatError, OSError, ValueError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def digest_of(*facts: object) -> str:
    """A short text that differs where the facts do."""
    return hashlib.sha256(repr(facts).encode(errors="backslashreplace")).hexdigest()[:16]
