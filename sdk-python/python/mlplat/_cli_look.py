"""The commands that look at runs: the list of them, and one of them."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone

import mlplat
from mlplat._cli_output import print_facts, print_json, print_rows
from mlplat._terminal import spoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_METRICS = 3
_HEAD = ("RUN", "EXPERIMENT", "NAME", "STATUS", "STARTED", "DURATION")
_EXPERIMENT, _NAME, _STARTED, _DURATION = 1, 2, 4, 5
_SHORT_ID = 12
"""Ids begin with the time, so that those of one moment look alike; their ends do not."""


def add(runs: Any, command: Callable[..., Any]) -> None:
    """Adds them to the commands of runs."""
    listing = command(runs, "list", _list, "list runs, newest first")
    listing.add_argument("--experiment", action="append", help="only runs of this experiment")
    listing.add_argument("--filter", default="", help="e.g. 'metrics.mae < 15'")
    listing.add_argument("--order-by", action="append", help="e.g. 'metrics.mae ASC'")
    listing.add_argument("--limit", type=int, default=50, help="most runs to list (default: 50)")
    listing.add_argument("--deleted", action="store_true", help="list deleted runs instead")
    listing.add_argument(
        "--metrics",
        action="append",
        metavar="KEY,KEY…",
        help="metrics to show, or '' for none; keys with commas in double quotes or backquotes (default: up to three that "
        "most of the runs have; with --json all)",
    )
    showing = command(runs, "show", _show, "show one run, deleted or not")
    showing.add_argument("run", help="id of the run, or its end as it is listed")


def run_id(text: str) -> str:
    """The id of a run that is named by it, or by the end of it that `runs list` shows on a terminal."""
    if not re.fullmatch(r"[0-9a-fA-F]{8,12}", text):
        return text
    filter = f"run_id LIKE '%{text.lower()}'"
    found = mlplat.search_runs(filter, columns=[], view="all", limit=2).to_dicts()
    if len(found) > 1:
        raise mlplat.MisuseError(f"the ids of several runs end in {text}; give a whole one")
    return found[0]["run_id"] if found else text


def run_ids(texts: list[str]) -> list[str]:
    """As :func:`run_id`, of several."""
    return [run_id(text) for text in texts]


def _list(options: Any) -> None:
    wanted = None
    if options.metrics is not None:
        wanted = list(dict.fromkeys(key for text in options.metrics for key in _keys(text)))
    runs = mlplat.search_runs(
        options.filter,
        experiment=options.experiment,
        order_by=options.order_by,
        view="deleted" if options.deleted else "active",
        columns=_columns(wanted, options.json),
        limit=options.limit,
    ).to_dicts()
    grouped = [_grouped(run) for run in runs]
    if options.json:
        return print_json(grouped)
    keys = _telling(grouped, options) if wanted is None else wanted
    on_terminal = sys.stdout.isatty()
    rows = [
        (
            run["run_id"][-_SHORT_ID:] if on_terminal else run["run_id"],
            run["experiment"],
            run["name"],
            run["status"],
            f"{run['started_at']:%Y-%m-%d %H:%M}",
            _duration(run),
            *(_number(run["metrics"].get(key)) for key in keys),
        )
        for run in grouped
    ]
    # The first metric is worth more than the experiment, which is often the same for all.
    metrics = range(len(_HEAD), len(_HEAD) + len(keys))
    droppable = [*reversed(metrics[1:]), _EXPERIMENT, *metrics[:1], _DURATION, _STARTED]
    print_rows((*_HEAD, *keys), rows, elastic=(_NAME, _EXPERIMENT), droppable=droppable)


def _keys(text: str) -> list[str]:
    """The keys between commas; what is quoted, as in the search, may have commas in it."""
    found = re.findall(r"""\s*(?:"([^"]*)"|`([^`]*)`|([^,]*?))\s*(?:,|$)""", text)
    return [key for key in map("".join, found) if key]


def _columns(metrics: list[str] | None, as_json: bool) -> list[str] | None:
    """What to ask the server for; None is everything."""
    if metrics is None:
        return None
    named = [f"metrics.`{key}`" for key in metrics]
    return [*named, "params", "tags"] if as_json else named


def _telling(runs: list[dict[str, Any]], options: Any) -> list[str]:
    """A few metrics that say most of these runs: those that were asked about, then those that most of them have."""
    asked = " ".join([options.filter, *(options.order_by or ())])
    counts: dict[str, int] = {}
    for run in runs:
        for key in run["metrics"]:
            counts[key] = counts.get(key, 0) + 1

    def rank(key: str) -> tuple[bool, bool, int, str]:
        named = re.search(rf"metrics\.[`\"]?{re.escape(key)}(?![\w./-])", asked)
        return named is None, key.startswith("system/"), -counts[key], key

    return sorted(counts, key=rank)[:_METRICS]


def _duration(run: dict[str, Any]) -> str:
    end = run["ended_at"] or datetime.now(timezone.utc)
    return spoken(max(0.0, (end - run["started_at"]).total_seconds()))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _grouped(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of runs with metrics, params and tags as dicts."""
    run: dict[str, Any] = {"metrics": {}, "params": {}, "tags": {}}
    for name, value in row.items():
        group, dot, key = name.partition(".")
        if dot and group in run:
            if value is not None:
                run[group][key] = value
        else:
            run[name] = value
    return run


def _show(options: Any) -> None:
    run = mlplat.get_run(run_id(options.run), view="all")
    artifacts = run.artifacts()
    fields = (
        "id", "name", "experiment", "parent_run_id", "status", "status_message", "description", "started_at", "ended_at",
        "created_by", "deleted_at", "params", "metrics", "tags",
    )  # fmt: skip
    facts: dict[str, Any] = {field: getattr(run, field) for field in fields}
    facts["inputs"] = {f"{i.name} {i.context}".strip(): f"{i.digest} {i.source}".strip() for i in run.inputs}
    facts["artifacts"] = {file.path: file.size_bytes for file in artifacts}
    print_json(facts) if options.json else print_facts(facts)
