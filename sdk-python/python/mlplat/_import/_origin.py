"""Where a run or an experiment came from, kept in a tag of it.

Invariant: the text is the same at every import from the same place: kind of source, place, and key there.
"""

from __future__ import annotations

from ._records import Source

SOURCE_TAG = "import.source"


def origin_of(source: Source, key: str) -> str:
    """For the tag: `mlflow-database:/data/mlflow.db#7`."""
    return f"{source.describe()}#{key}"


def kind_of(origin: str) -> str:
    """What kind of source it is."""
    return origin.partition(":")[0]


def place_of(origin: str) -> str:
    """The source, without the key of what came from it."""
    return origin.rpartition("#")[0]


def may_be_same(origin: str, other: str) -> bool:
    """Whether both have the same key in sources of one kind: a store that was moved keeps its keys."""
    return (kind_of(origin), origin.rpartition("#")[2]) == (kind_of(other), other.rpartition("#")[2])
