"""What runs of wandb logged that is no number, as files: a table of values, histograms, and series of images.

Invariant: each value is in one of them, and no file is read that is not below the folders of the run, whatever the log
says. Files get the same names and content whenever the log is read, so that a second
import stores nothing, and one of a log that has grown only what is new.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

from ._local_files import is_below
from ._records import Placed
from ._wandb_history import Value

TABLE = "wandb/values.json"
"""Columns step, time (seconds since 1970), key, kind, value: text as it is, all else as JSON. For `run.load_table`."""

# As `_media` writes them.
_PER_FILE = 64
_MAX_BINS = 512
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg")
_NAMED = 5


def files_of(values: Iterable[Value], folders: list[str], scratch: str) -> Iterator[Placed | str]:
    """The files; media are looked for in these folders."""
    with _Table(os.path.join(scratch, "values.json")) as table:
        histograms: dict[str, list[dict[str, Any]]] = {}
        counted: dict[tuple[str, int, int], int] = {}
        missing: list[str] = []
        for value in values:
            record = _histogram(value) if value.kind == "histogram" else None
            if record is not None:
                histograms.setdefault(value.key, []).append(record)
                continue
            table.add(value)
            for name in _paths(value.found):
                places = ((os.path.join(folder, name), folder) for folder in folders)
                path = next((path for path, folder in places if is_below(path, folder)), None)
                if path is None:
                    missing.append(name)
                elif (
                    value.kind.startswith("image") and name.lower().endswith(_IMAGES) and _is_path(value.key)
                ):
                    yield Placed(_image_path(value, name, counted), path)
    if table.rows:
        yield Placed(TABLE, table.path)
    for at, (key, records) in enumerate(histograms.items()):
        for begin in range(0, len(records), _PER_FILE):
            yield _histogram_file(
                key, records[begin : begin + _PER_FILE], f"{scratch}/histogram-{at}-{begin}.gz"
            )
    if missing:
        names = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        yield f"{len(missing)} media files are not in its folder: {names}"


class _Table:
    """The table, written row by row."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows = 0

    def __enter__(self) -> _Table:
        self.file = open(self.path, "w", encoding="utf-8")
        self.file.write('{"columns": ["step", "time", "key", "kind", "value"], "data": [\n')
        return self

    def add(self, value: Value) -> None:
        text = value.found if isinstance(value.found, str) else json.dumps(value.found, ensure_ascii=False)
        row = json.dumps([value.step, value.micros / 1e6, value.key, value.kind, text])
        self.file.write(f"{',' if self.rows else ''}{row}\n")
        self.rows += 1

    def __exit__(self, *_: object) -> None:
        self.file.write("]}\n")
        self.file.close()


def _histogram(value: Value) -> dict[str, Any] | None:
    """The record of a histogram as `run.histograms` reads it; None where it has another form."""
    counts, packed = value.found.get("values"), value.found.get("packedBins")
    try:
        if packed:
            low, width, number = float(packed["min"]), float(packed["size"]), int(packed["count"])
            edges = [low + width * at for at in range(min(number, _MAX_BINS) + 1)]
        else:
            edges = [float(edge) for edge in value.found.get("bins")]
        numbers = [int(count) if float(count).is_integer() else float(count) for count in counts]
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    whole = 1 <= len(numbers) <= _MAX_BINS and len(edges) == len(numbers) + 1 and _is_path(value.key)
    if not whole or not all(map(math.isfinite, edges)) or sorted(edges) != edges:
        return None
    return {"step": value.step, "timestamp_ms": value.micros // 1000, "edges": edges, "counts": numbers}


def _histogram_file(key: str, records: list[dict[str, Any]], path: str) -> Placed:
    held = {"format": "mlplat-histograms", "version": 1, "histograms": records}
    with open(path, "wb") as file:
        file.write(gzip.compress(json.dumps(held, separators=(",", ":")).encode(), 6, mtime=0))
    first = records[0]
    return Placed(f"histograms/{key}/{first['step']:012d}_{first['timestamp_ms']:013d}_000.json.gz", path)


def _paths(found: Any) -> Iterator[str]:
    """The files that media are in, by their paths in the folder of the run."""
    if isinstance(found, list):
        for one in found:
            yield from _paths(one)
    if not isinstance(found, dict) or "_type" not in found:
        return
    several = found.get("filenames")
    names = [found.get("path"), *(several if isinstance(several, list) else ())]
    yield from (name for name in names if isinstance(name, str) and name)


def _image_path(value: Value, name: str, counted: dict[tuple[str, int, int], int]) -> str:
    millis = value.micros // 1000
    of = value.key, value.step, millis
    index = counted[of] = counted.get(of, -1) + 1
    ending = os.path.splitext(name)[1].lower()
    return f"images/{value.key}/{value.step:012d}_{millis:013d}_{index:03d}{ending}"


def _is_path(key: str) -> bool:
    """Whether files can be called so."""
    parts = key.split("/")
    clean = not any(ord(letter) < 32 or letter == "\\" for letter in key)
    return (
        clean
        and len(key.encode(errors="replace")) <= 900
        and not any(part in ("", ".", "..") for part in parts)
    )
