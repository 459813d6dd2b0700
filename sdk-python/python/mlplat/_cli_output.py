"""How the command line prints: JSON, rows, and facts about one thing."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, timedelta

from mlplat._terminal import columns, printable, width_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_NARROWEST = 10
"""Columns that a cut text keeps."""

_LINES = "\n\t"
"""Notes have lines."""


def print_json(value: object) -> None:
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """What JSON has. It has no NaN and no infinities: they become the texts that protobuf's JSON has for them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def print_rows(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    elastic: Sequence[int] = (),
    droppable: Sequence[int] = (),
) -> None:
    """Columns beside each other. On a terminal lines fit: the `elastic` columns are cut, then the `droppable` ones left out.

    Elsewhere nothing is cut, as other programs read it.
    """
    table = [[printable(cell) for cell in row] for row in (head, *rows)]
    shown = list(range(len(head)))
    on_terminal = sys.stdout.isatty()
    natural = [max(columns(row[at]) for row in table) for at in shown]
    widths = natural
    if on_terminal:
        room = width_of(sys.stdout)
        left_out = iter(droppable)
        while True:
            widths = _shrunk(natural, [at for at in elastic if at in shown], room - _total(natural, shown))
            next_out = next(left_out, None) if _total(widths, shown) > room else None
            if next_out is None:
                break
            shown.remove(next_out)
    for row in table:
        cells = [_cut(row[at], widths[at]) for at in shown]
        padded = [cell + " " * (widths[at] - columns(cell)) for at, cell in zip(shown, cells, strict=True)]
        print("  ".join(padded).rstrip())


def _total(widths: list[int], shown: list[int]) -> int:
    return sum(widths[at] for at in shown) + 2 * (len(shown) - 1)


def _shrunk(widths: list[int], elastic: list[int], spare: int) -> list[int]:
    """Smaller columns, the widest made so first, until there is no space missing (`spare` is not negative)."""
    shrunk = list(widths)
    while spare < 0 and elastic:
        widest = max(elastic, key=lambda at: shrunk[at])
        if shrunk[widest] <= _NARROWEST:
            break
        shrunk[widest] -= 1
        spare += 1
    return shrunk


def _cut(text: str, width: int) -> str:
    if columns(text) <= width:
        return text
    while columns(text) > width - 1:
        text = text[:-1]
    return text + "…"


def print_facts(facts: dict[str, Any]) -> None:
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if value in (None, "", {}, [], ()):
            continue
        if isinstance(value, dict):
            print(name)
            for key, item in value.items():
                print(f"  {printable(key)}: {printable(str(item), keep=_LINES)}")
        else:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            print(f"{name:{width}}  {printable(text, keep=_LINES)}")
