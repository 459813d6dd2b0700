"""Hides what looks like a secret in what is noted of a run."""

from __future__ import annotations

import itertools
import re

HIDDEN = "***"

_WORDS = frozenset(
    [
        "apikey",
        "auth",
        "authorization",
        "bearer",
        "credential",
        "credentials",
        "pass",
        "passphrase",
        "passwd",
        "password",
        "pwd",
        "secret",
        "secrets",
        "token",
    ]
)
_PAIRS = frozenset(
    [
        "api key",
        "api keys",
        "access key",
        "access keys",
        "private key",
        "private keys",
        "account key",
        "encryption key",
    ]
)
_ENDS = ("apikey", "passphrase", "passwd", "password", "secret")
"""Of words that are written together, like PGPASSWORD."""
_COLUMNS = frozenset(
    [
        "caption", "column", "dataset", "feature", "group", "image", "img", "index", "input",
        "join", "label", "metric", "output", "primary", "public", "sort", "target", "text",
    ]
)  # fmt: skip
"""What a key is no secret of: it names a column or an entry there."""
_ASSIGNED = re.compile(r"^(-{0,2}[\w.-]+)([=:])(.+)$", re.DOTALL)
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"]+@")
_NOT_BINARY = re.compile(r"^(?![A-Za-z](?:[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{5})+$).+", re.MULTILINE)
"""Lines of a difference, but for those of a binary patch: a length and groups of five characters."""
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


def masked_diff(diff: bytes) -> bytes:
    """The same of a difference of git. Binary patches stay as they are: a text in them that looks like a token is none."""
    text = diff.decode("utf-8", "surrogateescape")
    return _NOT_BINARY.sub(lambda line: masked(line[0]), text).encode("utf-8", "surrogateescape")


def masked_arguments(arguments: list[str]) -> list[str]:
    """A command line without the values of what is called a password, token, key and the like."""
    found: list[str] = []
    hide = False
    for argument in arguments:
        if hide and not argument.startswith("--"):
            found.append(HIDDEN)
            hide = False
            continue
        assigned = _ASSIGNED.match(argument)
        hide = argument.startswith("-") and assigned is None and _is_secret(argument)
        if assigned and _is_secret(assigned[1]):
            found.append(f"{assigned[1]}{assigned[2]}{HIDDEN}")
        else:
            found.append(masked(argument))
    return found


def _is_secret(name: str) -> bool:
    # By whole words: a tokenizer, a number of tokens, an author and a monkey are no secrets.
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = [word for word in re.split(r"[-_.]+", parted.lower()) if word]
    pairs = {f"{one} {two}" for one, two in itertools.pairwise(words)}
    if not _WORDS.isdisjoint(words) or not _PAIRS.isdisjoint(pairs):
        return True
    # A key is one at the end of a name: `--num-key-value-heads` is none.
    is_key = words[-1:] == ["key"] and _COLUMNS.isdisjoint(words[-2:-1])
    return is_key or any(word.endswith(_ENDS) for word in words)
