"""The table: one line per thing measured, as text for a terminal or as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = ("what", "mlplat", "peer", "ratio", "CPU: mlplat / peer", "target", "reached", "physical limit")


@dataclass(frozen=True)
class Line:
    """`reached` is None where nothing was asked for, or where there was no peer to compare with."""

    what: str
    mlplat: str
    peer: str = ""
    ratio: float | None = None
    cpu: str = ""
    target: str = ""
    reached: bool | None = None
    limit: str = ""

    def cells(self) -> tuple[str, ...]:
        reached = {True: "yes", False: "NO", None: ""}[self.reached]
        ratio = "" if self.ratio is None else times(self.ratio)
        return (self.what, self.mlplat, self.peer, ratio, self.cpu, self.target, reached, self.limit)


def times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 20 else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"


def duration(seconds: float) -> str:
    """With three digits, in the unit that fits."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return (
                f"{seconds * factor:.3g} {unit}"
                if seconds * factor < 1000
                else f"{seconds * factor:.0f} {unit}"
            )
    return f"{seconds * 1e9:.3g} ns"


def rate(per_second: float) -> str:
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if per_second >= factor:
            return f"{per_second / factor:.3g} {unit}/s"
    return f"{per_second:.3g} /s"


def text_table(lines: list[Line]) -> str:
    rows = [HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown_table(lines: list[Line]) -> str:
    rows = [HEAD, ("---",) * len(HEAD), *(line.cells() for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
