"""Keys and values of a source, as the server takes them.

Invariant: two keys of a run never become one, and a key that has a name in mlplat keeps it at every later import.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

from .._keys import MOST as MAX_KEY
from .._keys import metric_key

MAX_VALUE = 64 * 1024
MAX_DESCRIPTION = 10_000
RENAMED_TAG = "import.renamed"

# What the tag says of a run with more names than fit into it: they are found anew at every import, by the rule of then.
_TOO_MANY = "too many: 2"
_TOO_MANY_OLD = "too many"


def name_of(text: str) -> str:
    """A name that the server takes: no control characters, of bounded length."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:MAX_KEY] or "unnamed"


def old_metric_key(key: str) -> str:
    """The rule of before keys of metrics could have all characters."""
    if key.isidentifier() and len(key) <= MAX_KEY:
        return key
    letters = (letter if letter.isalnum() or letter in "_-./ :" else "_" for letter in key)
    return "".join(letters)[:MAX_KEY] or "_"


def value_of(text: str) -> str:
    """A param or label that the server takes; of one that is too long, the beginning."""
    # Halves of a pair of UTF-16, as JSON can have them, are no text.
    text = text.encode(errors="replace").decode().replace("\0", "\ufffd")
    if len(text.encode()) > MAX_VALUE:
        text = text.encode()[:MAX_VALUE].decode(errors="ignore")
    return text


class Alike(str):
    """What stands for a key whose plain name another key of the source has."""

    __slots__ = ("plain",)

    def __new__(cls, what: str, plain: str) -> Alike:
        found = super().__new__(cls, what)
        found.plain = plain
        return found

    def name(self) -> str:
        """A name of its own, for where no other names are known."""
        return with_suffix(self.plain, self, 1)


def with_suffix(name: str, key: str, turn: int) -> str:
    """The name with a suffix made of the key."""
    suffix = "-" + hashlib.sha256(f"{key} {turn}".encode(errors="replace")).hexdigest()[:6]
    return name[: MAX_KEY - len(suffix)] + suffix


class _Kind:
    """The names of the metrics, params or tags of one run."""

    def __init__(self, word: str, clean: Callable[[str], str], known: Mapping[str, str]) -> None:
        self.word = word
        self.clean = clean
        self.renamed = dict(known)
        self.names = dict(known)
        self.taken = set(known.values())

    def add(self, keys: Iterable[str]) -> list[str]:
        """Gives names to keys; returns, in sentences, those that are not the keys themselves."""
        new = [key for key in keys if key not in self.names]
        # Those that can stay what they are come first, so that no other takes their name.
        new.sort(key=lambda key: isinstance(key, Alike) or self.clean(key) != key)
        told = []
        for key in new:
            name = self.names[key] = self._free(key)
            self.taken.add(name)
            if name != key:
                self.renamed[key] = name
                told.append(f"the {self.word} {key[:MAX_KEY]!r} is called {name!r} here")
        return told

    def _free(self, key: str) -> str:
        name = wanted = self.clean(key.plain if isinstance(key, Alike) else key)
        turn = 0
        while name in self.taken:
            turn += 1
            name = with_suffix(wanted, key, turn)
        return name


class Names:
    """The names that the keys of one run have in mlplat.

    Those that differ from their keys are kept in a tag of the run: what comes first takes the plain name, and which
    that is must not change when the source grows.
    """

    def __init__(
        self, note: Callable[[str], None], tags: Mapping[str, str], metrics: Iterable[str] = ()
    ) -> None:
        self.note = note
        self.kept = tags.get(RENAMED_TAG, "")
        try:
            known = json.loads(self.kept or "{}")
        except ValueError:
            known = {}
        clean = old_metric_key if self.kept == _TOO_MANY_OLD else metric_key
        self.metrics = _Kind("metric", clean, known.get("metrics", {}))
        self.params = _Kind("param", name_of, known.get("params", {}))
        self.tags = _Kind("tag", name_of, known.get("tags", {}))
        if self.kept not in (_TOO_MANY, _TOO_MANY_OLD):
            # What is in mlplat without having been renamed is there under its own key.
            self.metrics.add(key for key in metrics if key not in self.metrics.taken)

    def add(self, kind: _Kind, keys: Iterable[str]) -> Mapping[str, str]:
        """Names for all of these keys, and for those that came before."""
        for text in kind.add(keys):
            self.note(text)
        return kind.names

    def changed(self) -> dict[str, str]:
        """The tag to keep, where it is not kept as it is now; to be stored not later than what has the names."""
        if self.kept in (_TOO_MANY, _TOO_MANY_OLD):
            # It stays so: with some of the names only, a later import would take them for all.
            return {}
        kinds = {"metrics": self.metrics, "params": self.params, "tags": self.tags}
        renamed = {word: kind.renamed for word, kind in kinds.items() if kind.renamed}
        text = json.dumps(renamed, sort_keys=True, ensure_ascii=False) if renamed else ""
        if len(text.encode(errors="replace")) > MAX_VALUE:
            # Without the tag, names depend on the order of the keys alone.
            text = _TOO_MANY
        if text == self.kept:
            return {}
        self.kept = text
        return {RENAMED_TAG: text}
