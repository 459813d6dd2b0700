"""The little YAML that MLflow's `meta.yaml` files are: a mapping of names to scalars, once nested.

Invariant: scalars are texts here; `null` is none.
"""

from __future__ import annotations

import re


def read_flat_yaml(path: str) -> dict[str, str]:
    """The entries of the file; those of a mapping inside have `outer.inner` names, and lists are left out."""
    with open(path, encoding="utf-8") as file:
        return parse_flat_yaml(file.read())


def parse_flat_yaml(text: str) -> dict[str, str]:
    """As :func:`read_flat_yaml`, of a text."""
    found: dict[str, str] = {}
    outer = ""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        entry = re.match(r"( *)([^\s#'\"\-][^:]*|'[^']*'|\"[^\"]*\"):(?: (.*))?$", line)
        if entry is None:
            continue
        indent, name, value = len(entry[1]), _scalar(entry[2]), (entry[3] or "").strip()
        # Long scalars go on in lines that are indented more.
        while at < len(lines) and value and _goes_on(value, lines[at], indent):
            value, at = _joined(value, lines[at]), at + 1
        if indent == 0:
            outer = "" if value else f"{name}."
        if value and value != "null" and not value.startswith(("[]", "{}")):
            found[(outer if indent else "") + name] = _scalar(value)
    return found


def _goes_on(value: str, line: str, indent: int) -> bool:
    if value[0] in "'\"" and not _is_closed(value):
        return True
    return value[0] not in "'\"[{" and line.startswith(" " * (indent + 1)) and bool(line.strip())


def _is_closed(value: str) -> bool:
    if value[0] == "'":
        return len(value) > 1 and value.count("'") % 2 == 0
    return re.fullmatch(r'"(?:[^"\\]|\\.)*"', value, re.DOTALL) is not None


def _joined(value: str, line: str) -> str:
    """Two lines of one scalar: folded into one, with a newline for each empty line."""
    line = line.strip()
    if not line:
        return value + "\n"
    if value[0] == '"' and (len(value) - len(value.rstrip("\\"))) % 2:
        # An odd backslash takes the end of the line away.
        return value[:-1] + line
    return value + ("" if value.endswith("\n") else " ") + line


def _scalar(value: str) -> str:
    if value.startswith("'") and value.endswith("'") and len(value) > 1:
        return value[1:-1].replace("''", "'")
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        return _unescaped(value[1:-1])
    return value


_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", "N": "\x85",
    "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU" and len(code) > 1:
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", one, text, flags=re.DOTALL)
