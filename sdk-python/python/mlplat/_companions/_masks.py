"""Hides what looks like a secret in what is noted of a run."""

from __future__ import annotations

import re

HIDDEN = "***"

_NAMES = r"(?:pass(?:word|wd|phrase)?|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|auth|credentials?|bearer)"
_OPTION = re.compile(rf"^--?[\w.-]*{_NAMES}[\w.-]*$", re.IGNORECASE)
_ASSIGNED = re.compile(rf"^(-{{0,2}}[\w.-]*{_NAMES}[\w.-]*[=:])(.+)$", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"]+@")
_KNOWN = re.compile(
    r"\b(?:"
    r"sk-[A-Za-z0-9_-]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}"
    r"|hf_[A-Za-z0-9]{20,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|AKIA[0-9A-Z]{16}"
    r"|AIza[A-Za-z0-9_-]{30,}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
    r")"
)


def masked(text: str) -> str:
    """A text without tokens of well-known forms, and without the user and password of addresses."""
    return _KNOWN.sub(HIDDEN, _URL.sub(rf"\1{HIDDEN}@", text))


def masked_arguments(arguments: list[str]) -> list[str]:
    """A command line without the values of what is called a password, token, key and the like."""
    found: list[str] = []
    hide = False
    for argument in arguments:
        if hide and not argument.startswith("--"):
            found.append(HIDDEN)
            hide = False
            continue
        hide = bool(_OPTION.match(argument))
        assigned = _ASSIGNED.match(argument)
        found.append(assigned[1] + HIDDEN if assigned else masked(argument))
    return found
