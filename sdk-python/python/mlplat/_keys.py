"""Keys of metrics that come from elsewhere: libraries that log by themselves, other trackers."""

from __future__ import annotations

import unicodedata

MOST = 250


def metric_key(key: str, most: int = MOST) -> str:
    """A key that the server takes: control characters and backquotes become `_`, and what is too long is cut."""
    if key.isprintable() and "`" not in key:
        return key[:most] or "_"
    # Control characters, as the server knows them, are those of Unicode's category Cc.
    return "".join(
        "_" if letter == "`" or unicodedata.category(letter) == "Cc" else letter for letter in key
    )[:most]
