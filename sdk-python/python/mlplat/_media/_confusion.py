"""Confusion matrices: a table, and a picture that needs no drawing library."""

from __future__ import annotations

import html
import json

from .. import _arguments
from .._errors import MisuseError, WrongTypeError
from . import _arrays, _names
from ._text import utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .._spool import Item

_MAX_LABELS = 1000
_MAX_NUMBERS = 40
"""With more labels than this the cells are coloured only."""


def confusion_items(
    run_id: str,
    y_true: object,
    y_pred: object | None,
    labels: Sequence[object] | None,
    key: str,
    step: int | None,
) -> list[Item]:
    """The files of `log_confusion_matrix`: picture and table."""
    name = _names.artifact_path(key, "key")
    given = None if labels is None else list(_arguments.items(labels, "labels"))
    names, counts = _matrix(y_true, given) if y_pred is None else _counted(y_true, y_pred, given)
    if len(names) > _MAX_LABELS:
        raise MisuseError(f"a confusion matrix of {len(names)} labels; the limit is {_MAX_LABELS}")
    rows = [
        [names[row], names[column], counts[row][column]]
        for row in range(len(names))
        for column in range(len(names))
    ]
    table = json.dumps({"columns": ["actual", "predicted", "count"], "data": rows}, ensure_ascii=False)
    picture = svg(names, counts)
    if step is None:
        return [(utf8(picture), f"figures/{name}.svg"), (utf8(table), f"tables/{name}.json")]
    at = _arguments.integer(step, "step")
    return [
        (utf8(picture), _names.of_step(run_id, "images", name, ".svg", at)),
        (utf8(table), _names.of_step(run_id, "tables", name, ".json", at)),
    ]


def _values(values: object, what: str) -> list[Any]:
    if hasattr(values, "tolist"):
        found = (values.detach().cpu() if hasattr(values, "detach") else values).tolist()  # pyright: ignore
    else:
        found = list(_arguments.items(values, what))
    if not isinstance(found, list) or any(isinstance(value, (list, tuple, dict)) for value in found):
        raise WrongTypeError(f"{what} has more than one dimension; give one label per row")
    return found


def _counted(
    y_true: object, y_pred: object, labels: list[object] | None
) -> tuple[list[str], list[list[float]]]:
    truth, guesses = _values(y_true, "y_true"), _values(y_pred, "y_pred")
    if len(truth) != len(guesses):
        raise MisuseError(f"y_true has {len(truth)} rows and y_pred {len(guesses)}")
    present = {*truth, *guesses}
    if labels is None:
        try:
            order = sorted(present)
        except TypeError:
            order = sorted(present, key=str)
        names = [str(label) for label in order]
    elif present <= set(labels):
        order, names = labels, [str(label) for label in labels]
    elif all(isinstance(label, int) and 0 <= label < len(labels) for label in present):
        # Names of the classes 0, 1, 2, …
        order, names = list(range(len(labels))), [str(label) for label in labels]
    else:
        missing = next(label for label in present if label not in set(labels))
        raise MisuseError(f"{missing!r} is not among the labels")
    at = {label: position for position, label in enumerate(order)}
    counts: list[list[float]] = [[0] * len(order) for _ in order]
    for actual, guess in zip(truth, guesses, strict=True):
        counts[at[actual]][at[guess]] += 1
    return names, counts


def _matrix(matrix: object, labels: list[object] | None) -> tuple[list[str], list[list[float]]]:
    counts = _arrays.array(matrix, "the matrix")
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] == 0:
        raise MisuseError(
            f"a confusion matrix of shape {tuple(counts.shape)}; give a square one, or y_true and y_pred"
        )
    if labels is not None and len(labels) != len(counts):
        raise MisuseError(f"{len(labels)} labels for a matrix of {len(counts)}")
    return [str(label) for label in labels or range(len(counts))], counts.tolist()


def svg(names: list[str], counts: list[list[float]]) -> str:
    """The picture: rows are what is, columns what was predicted; colours by the share of the row."""
    size = len(names)
    cell = max(6, min(56, 560 // size))
    numbers = size <= _MAX_NUMBERS and cell >= 14
    longest = max((len(name) for name in names), default=1)
    margin = min(170, 34 + 7 * min(longest, 18))
    side = size * cell
    width, height = margin + side + 20, margin + side + 20
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        "font-family='sans-serif' font-size='11'>",
        f"<rect width='{width}' height='{height}' fill='white'/>",
        f"<text x='{margin + side / 2}' y='14' text-anchor='middle' font-weight='bold'>predicted</text>",
        f"<text transform='translate(14 {margin + side / 2}) rotate(-90)' text-anchor='middle' font-weight='bold'>actual</text>",
    ]
    for row in range(size):
        total = sum(counts[row]) or 1
        for column in range(size):
            value = counts[row][column]
            share = max(0.0, min(1.0, value / total))
            x, y = margin + column * cell, margin + row * cell
            red, green, blue = (round(255 + (end - 255) * share) for end in (8, 69, 148))
            title = f"{names[row]} taken for {names[column]}: {value:g}"
            parts.append(
                f"<rect x='{x}' y='{y}' width='{cell}' height='{cell}' fill='rgb({red},{green},{blue})' stroke='#e5e5e5'>"
                f"<title>{html.escape(title)}</title></rect>"
            )
            if numbers:
                colour = "white" if share > 0.55 else "#222"
                parts.append(
                    f"<text x='{x + cell / 2}' y='{y + cell / 2 + 4}' text-anchor='middle' fill='{colour}'>{value:g}</text>"
                )
    if cell >= 11:
        for at, name in enumerate(names):
            text = html.escape(name if len(name) <= 18 else name[:17] + "…")
            middle = margin + at * cell + cell / 2
            parts.append(f"<text x='{margin - 6}' y='{middle + 4}' text-anchor='end'>{text}</text>")
            parts.append(f"<text transform='translate({middle + 4} {margin - 6}) rotate(-60)'>{text}</text>")
    return "".join(parts) + "</svg>"
