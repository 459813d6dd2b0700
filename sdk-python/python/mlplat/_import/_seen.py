"""What the last import saw of a run or an experiment in its source, kept in a tag of it.

It tells what was changed in the source from what was changed in mlplat. Invariant: the tag is written after what it
speaks of, so that an import that broke off is done again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ._names import MAX_VALUE
from ._records import SourceRun, digest_of

SEEN_TAG = "import.seen"


@dataclass
class Seen:
    """Digests, each empty where nothing is known."""

    name: str = ""
    description: str = ""
    texts: str = ""
    """Of params and tags."""
    end: str = ""
    """Of status, message and time of the end."""
    deleted: bool = False
    tags: Sequence[str] = ()
    """Names of the tags in mlplat: one that is no longer in the source is removed."""

    @staticmethod
    def of(run: SourceRun, tags: Sequence[str]) -> Seen:
        """What there is to see now."""
        texts = digest_of(sorted(run.params.items()), sorted(run.tags.items()))
        end = digest_of(run.status, run.message, run.ended_us)
        return Seen(digest_of(run.name), digest_of(run.description), texts, end, run.deleted, tags)

    @staticmethod
    def read(text: str | None) -> Seen:
        """What the tag says; of one that was removed or changed nothing."""
        try:
            return Seen(**json.loads(text or "{}"))
        except (ValueError, TypeError):
            return Seen()

    def text(self) -> str:
        """For the tag."""
        text = json.dumps(asdict(self), ensure_ascii=False)
        if len(text.encode(errors="replace")) > MAX_VALUE:
            text = json.dumps({**asdict(self), "tags": []})
        return text
