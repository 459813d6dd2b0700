"""Where a run or an experiment came from, kept in a tag of it.

Invariant: the text is the same at every import from the same place: kind of source, place, and key there.
"""

from __future__ import annotations

import os

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


def is_moved(origin: str, before: str) -> bool:
    """Whether what came from `before` is now at `origin`: the same key in a store of the same kind, and the old place is empty."""
    same = (kind_of(origin), origin.rpartition("#")[2]) == (kind_of(before), before.rpartition("#")[2])
    place = place_of(before).partition(":")[2]
    return same and os.path.isabs(place) and not os.path.exists(place)
