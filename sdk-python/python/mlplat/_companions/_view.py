"""A run as a small page: status, last metrics with their course, params, notes.

Pure HTML with inline SVG and no script, so that it looks the same in notebooks, in what nbconvert makes of them, and on
GitHub. Colours follow the text around it, so that it fits dark themes.
"""

from __future__ import annotations

import html
import math
import re
from datetime import datetime, timezone

from .. import _native
from .._errors import MlplatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .._run_info import RunInfo

_METRICS = 8
_PARAMS = 16
_WIDTH, _HEIGHT = 132, 26

_CHIP = "display:inline-block;border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:0 6px;margin:2px 4px 2px 0"
_COLOURS = {
    "RUNNING": "#0969da",
    "FINISHED": "#1a7f37",
    "FAILED": "#cf222e",
    "KILLED": "#9a6700",
    "CRASHED": "#cf222e",
}


class Series:
    """The histories behind the lines. One is read again only when it has grown by a tenth, so that following a long run
    costs little; what came since is its last value alone."""

    __slots__ = ("_known", "_run")

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._known: dict[str, tuple[int, list[float]]] = {}

    def values(self, key: str, summary: _native.MetricSummary) -> list[float]:
        """Values of a metric by step; empty where they cannot be read now."""
        count, values = self._known.get(key, (0, []))
        if summary.count > max(count * 1.1, count + 8) or (summary.count != count and summary.count < 1000):
            try:
                values = thinned(_history(self._run, key), _WIDTH)
            except MlplatError:
                return values
            self._known[key] = (summary.count, values)
            return values
        return values if summary.count == count else [*values, summary.last]


def _history(run: RunInfo, key: str) -> list[float]:
    from .._run import Run

    table = Run(run._client, run._record).metric_history(key, buckets=_WIDTH)
    return [row["value"] for row in table.to_dicts()]


def thinned(values: Sequence[float], buckets: int) -> list[float]:
    """At most two values per bucket, its least and its greatest in their order, so that every peak stays visible."""
    if len(values) <= 2 * buckets:
        return list(values)
    found: list[float] = []
    for at in range(buckets):
        bucket = values[at * len(values) // buckets : (at + 1) * len(values) // buckets]
        finite = [index for index, value in enumerate(bucket) if math.isfinite(value)]
        if not finite:
            found.append(math.nan)
            continue
        ends = {min(finite, key=bucket.__getitem__), max(finite, key=bucket.__getitem__)}
        found += [bucket[index] for index in sorted(ends)]
    return found


def sparkline(values: Sequence[float], width: int = _WIDTH, height: int = _HEIGHT) -> str:
    """The course of a metric as a small picture; what is no finite number is a gap."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = high - low

    def y(value: float) -> float:
        share = 0.5 if span == 0 or math.isinf(span) else (value - low) / span
        return round(height - 4 - share * (height - 8), 1)

    def x(at: int) -> float:
        return round(3 + at * (width - 6) / max(1, len(values) - 1), 1)

    pieces: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if math.isfinite(value):
            pieces[-1].append(f"{x(at)},{y(value)}")
        elif pieces[-1]:
            pieces.append([])
    lines = "".join(
        f"<polyline points='{' '.join(piece)}' fill='none' stroke='#0969da' stroke-width='1.4' stroke-linejoin='round'/>"
        for piece in pieces
        if len(piece) > 1
    )
    last = max(at for at, value in enumerate(values) if math.isfinite(value))
    dot = f"<circle cx='{x(last)}' cy='{y(values[last])}' r='2.2' fill='#0969da'/>"
    return f"<svg width='{width}' height='{height}' viewBox='0 0 {width} {height}' style='vertical-align:middle'>{lines}{dot}</svg>"


def full(client: _native.Client, record: _native.RunRecord, series: Series) -> str:
    """The whole view."""
    parts = [
        "<div style='border:1px solid rgba(128,128,128,.35);border-radius:8px;padding:10px 14px;max-width:760px;"
        "overflow-x:auto;font:13px/1.45 system-ui,sans-serif'>",
        f"<div>{_status(record)} <strong>{html.escape(record.name)}</strong> "
        f"<span style='opacity:.7'>in {html.escape(record.experiment)} · {_duration(record)}</span></div>",
    ]
    if record.status_message:
        parts.append(f"<div style='color:#cf222e'>{html.escape(_cut(record.status_message, 300))}</div>")
    if record.description:
        notes = _notes(_cut(record.description, 600))
        parts.append(f"<div style='white-space:pre-wrap;margin-top:4px'>{notes}</div>")
    parts.append(_metrics(record, series))
    if record.params:
        shown = sorted(record.params.items(), key=lambda entry: _natural(entry[0]))[:_PARAMS]
        chips = "".join(
            f"<span style='{_CHIP}'>{html.escape(_cut(key, 40))} = <strong>{html.escape(_cut(value, 60))}</strong></span>"
            for key, value in shown
        )
        rest = len(record.params) - len(shown)
        parts.append(f"<div style='margin-top:6px'>{chips}{_more(rest)}</div>")
    parts.append(_footer(client, record))
    return "".join(parts) + "</div>"


def line(client: _native.Client, record: _native.RunRecord, series: Series) -> str:
    """The view that takes one line."""
    keys = _keys(record)[:3]
    numbers = ""
    for key in keys:
        summary = record.metric_summaries[key]
        # One course is enough, and it stands beside its number.
        course = f" {_course(series, key, summary, 84, 18)}" if key == keys[0] else ""
        numbers += f" · {html.escape(_cut(key, 40))} <strong>{_number(summary.last)}</strong>{course}"
    name = _link(client, record, f"<strong>{html.escape(_cut(record.name, 60))}</strong>")
    return (
        "<div style='font:13px/1.45 system-ui,sans-serif;white-space:nowrap;overflow:hidden;text-overflow:ellipsis'>"
        f"{_status(record)} {name} "
        f"<span style='opacity:.7'>in {html.escape(record.experiment)} · {_duration(record)}</span>{numbers}</div>"
    )


def _notes(text: str) -> str:
    """Notes are Markdown; what stands inside of a line of it is shown, and anything else stays as it is written."""
    safe = html.escape(text)
    safe = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", safe)
    safe = re.sub(r"\*\*([^*\n]+)\*\*", r"<strong>\1</strong>", safe)
    return re.sub(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"<i>\1</i>", safe)


def _status(record: _native.RunRecord) -> str:
    colour = _COLOURS.get(record.status, "#57606a")
    return f"<span style='color:{colour};font-weight:600'>● {html.escape(record.status)}</span>"


def _keys(record: _native.RunRecord) -> list[str]:
    """The metrics to show: the last to have changed first, those of the machine not at all."""
    summaries = record.metric_summaries
    keys = [key for key in summaries if not key.startswith("system/")]
    return sorted(keys, key=lambda key: (-summaries[key].last_timestamp.timestamp() // 60, _natural(key)))


def _natural(key: str) -> list[tuple[int, str]]:
    """Numbers within keys in their order, as people count: 2 comes before 10."""
    parts = re.split(r"([0-9]{1,18})", key)
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)]


def _course(
    series: Series, key: str, summary: _native.MetricSummary, width: int = _WIDTH, height: int = _HEIGHT
) -> str:
    """The picture of a metric; a single value has no course."""
    return sparkline(series.values(key, summary), width, height) if summary.count > 1 else ""


def _metrics(record: _native.RunRecord, series: Series) -> str:
    keys = _keys(record)
    if not keys:
        return ""
    cell = "style='text-align:right;padding:1px 10px;border:0'"
    left = "style='text-align:left;padding:1px 10px 1px 0;border:0'"
    rows = [
        f"<tr style='opacity:.7;background:none'><td {left}>metric</td><td {left}></td><td {cell}>last</td>"
        f"<td {cell}>min</td><td {cell}>max</td><td {cell}>step</td></tr>"
    ]
    for key in keys[:_METRICS]:
        summary = record.metric_summaries[key]
        rows.append(
            f"<tr style='background:none'><td {left}>{html.escape(_cut(key, 50))}</td>"
            f"<td {left}>{_course(series, key, summary)}</td>"
            f"<td {cell}><strong>{_number(summary.last)}</strong></td><td {cell}>{_number(summary.min)}</td>"
            f"<td {cell}>{_number(summary.max)}</td><td {cell}>{summary.last_step}</td></tr>"
        )
    return f"<table style='margin:6px 0 0 0;border:0;border-collapse:collapse'>{''.join(rows)}</table>{_more(len(keys) - _METRICS)}"


def _footer(client: _native.Client, record: _native.RunRecord) -> str:
    facts = [_link(client, record, html.escape(record.id))]
    machine = {
        key: record.metrics.get(f"system/{key}") for key in ("cpu_percent", "memory_percent", "gpu_0_percent")
    }
    names = {"cpu_percent": "CPU", "memory_percent": "memory", "gpu_0_percent": "GPU"}
    facts += [f"{names[key]} {value:.0f} %" for key, value in machine.items() if value is not None]
    commit = record.tags.get("mlplat.git.commit", "")
    if commit:
        dirty = " + changes" if record.tags.get("mlplat.git.dirty") == "true" else ""
        facts.append(f"git {html.escape(commit[:8])}{dirty}")
    read = sorted({data.name for data in record.inputs})
    if read:
        facts.append("read " + html.escape(_cut(", ".join(read), 100)))
    return f"<div style='opacity:.7;margin-top:6px'>{' · '.join(facts)}</div>"


def _link(client: _native.Client, record: _native.RunRecord, text: str) -> str:
    """A link to the run on its server, where that is an address for browsers."""
    if not client.url.startswith(("http://", "https://")):
        return text
    address = html.escape(
        f"{client.url.rstrip('/')}/#/projects/{client.project}/runs/{record.id}", quote=True
    )
    return f"<a href='{address}' target='_blank'>{text}</a>"


def _duration(record: _native.RunRecord) -> str:
    end = record.ended_at or datetime.now(timezone.utc)
    seconds = max(0, int((end - record.started_at).total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.5g}"


def _more(count: int) -> str:
    return f"<small style='opacity:.7;white-space:nowrap'>and {count} more</small>" if count > 0 else ""


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
