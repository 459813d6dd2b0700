"""Runs beside each other: params, metrics, tags and inputs, what differs first."""

from __future__ import annotations

from . import _arguments, _native
from ._run import Run
from ._runs import get_run
from ._table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._run_info import RunInfo


class RunComparison(Table):
    """A row per param, metric, tag and input, a column per run. What differs comes first; a run that lacks it has null."""

    __slots__ = ("runs",)

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        """The runs, in the order of the columns."""
        rows = sorted(_rows(runs), key=lambda row: not row[2])
        titles = _titles(runs)
        columns: list[tuple[str, object]] = [
            ("kind", [row[0] for row in rows]),
            ("key", [row[1] for row in rows]),
            ("differs", [row[2] for row in rows]),
        ]
        columns += [(title, [row[3][at] for row in rows]) for at, title in enumerate(titles)]
        super().__init__(_native.from_columns(columns))

    @property
    def differences(self) -> list[dict[str, str | None]]:
        """The rows that differ, as dicts: kind, key, and a value per run."""
        return [
            {name: value for name, value in row.items() if name != "differs"}
            for row in self.to_dicts()
            if row["differs"]
        ]

    def __repr__(self) -> str:
        names = [name for name in self.column_names if name != "differs"]
        rows = [(row["differs"], [_shown(row[name]) for name in names]) for row in self.to_dicts()]
        widths = [max([len(name), *(len(cells[at]) for _, cells in rows)]) for at, name in enumerate(names)]
        lines = [f"<{self._title()}>"]
        for mark, cells in [(False, names), *rows]:
            line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{'≠' if mark else ' '} {line}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        names = [name for name in self.column_names if name != "differs"]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = ""
        for row in self.to_dicts():
            weight = "bold" if row["differs"] else "normal"
            cells = "".join(f"<td>{html.escape(_shown(row[name]))}</td>" for name in names)
            body += f"<tr style='font-weight:{weight}'>{cells}</tr>"
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<small>{html.escape(self._title())}</small>"
        )

    def _title(self) -> str:
        differing = sum(1 for row in self.to_dicts() if row["differs"])
        return f"RunComparison: {len(self.runs)} runs, {differing} of {len(self)} rows differ"


def compare_runs(runs: Iterable[RunInfo | str]) -> RunComparison:
    """Two runs or more beside each other, as they are now: params, metrics, tags and inputs, what differs first."""
    return RunComparison([get_run(run_id) for run_id in _arguments.run_ids(runs, "runs")])


def _titles(runs: list[Run]) -> list[str]:
    """The names of the runs, with the end of the id where two have the same."""
    names = [run.name for run in runs]
    unique = [
        name if names.count(name) == 1 else f"{name} ({runs[at].id[-8:]})" for at, name in enumerate(names)
    ]
    # Whatever they are called, columns have names of their own.
    return [
        title
        if unique.index(title) == at and title not in ("kind", "key", "differs")
        else f"{title} #{at + 1}"
        for at, title in enumerate(unique)
    ]


def _rows(runs: list[Run]) -> list[tuple[str, str, bool, list[str | None]]]:
    groups: list[tuple[str, list[dict[str, str]]]] = [
        ("param", [run.params for run in runs]),
        ("metric", _metric_texts([run.metrics for run in runs])),
        ("tag", [run.tags for run in runs]),
        ("input", [{f"{i.context} {i.name}".strip(): i.digest for i in run.inputs} for run in runs]),
        (
            "run",
            [{"experiment": run.experiment, "status": run.status, "seconds": _seconds(run)} for run in runs],
        ),
    ]
    rows: list[tuple[str, str, bool, list[str | None]]] = []
    for kind, values in groups:
        for key in sorted({key for of_run in values for key in of_run}):
            cells = [of_run.get(key) for of_run in values]
            rows.append((kind, key, any(cell != cells[0] for cell in cells), cells))
    return rows


def _metric_texts(metrics: list[dict[str, float]]) -> list[dict[str, str]]:
    """Values as short texts: six digits, and more where values that differ would look alike."""
    texts: list[dict[str, str]] = [{} for _ in metrics]
    for key in {key for of_run in metrics for key in of_run}:
        # Adding zero makes zero of its negative, which is no other value.
        values = {at: of_run[key] + 0.0 for at, of_run in enumerate(metrics) if key in of_run}
        exact = {at: repr(value) for at, value in values.items()}
        tries = ({at: f"{value:.{digits}g}" for at, value in values.items()} for digits in range(6, 17))
        different = len(set(exact.values()))
        shown = next((tried for tried in tries if len(set(tried.values())) == different), exact)
        for at, text in shown.items():
            texts[at][key] = text
    return texts


def _seconds(run: Run) -> str:
    return "" if run.ended_at is None else f"{(run.ended_at - run.started_at).total_seconds():.3f}"


def _shown(value: object) -> str:
    text = "" if value is None else str(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:59] + "…"
