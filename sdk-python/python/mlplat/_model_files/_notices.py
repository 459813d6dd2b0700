"""What is said on stderr about a model that is stored: each time to who logs it, once a process where autologging does."""

from __future__ import annotations

import sys

_said: set[str] = set()


def say(what: str, details: str = "") -> None:
    """Says it. Autologging repeats neither the text nor the same one with other details."""
    # Where nobody has called autolog(), it is not imported.
    session = sys.modules.get("mlplat._autolog._session")
    if session is not None and session.current() is not None:
        if what in _said:
            return
        _said.add(what)
    print(f"mlplat: {what}{details}", file=sys.stderr)
