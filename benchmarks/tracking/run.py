"""Tracking by mlplat and by its peers, side by side in one run; see README.md."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import limits
import rows_logging
import rows_reading
import rows_storage
from bench import Bench, Row, cores
from processes import TaskError
from report import Line, markdown_table, text_table
from servers import PEERS, ROOT, Mlflow, Mlplat, Postgres, peer_python, peer_version

ROWS = {row.name: row for row in (*rows_reading.ROWS, *rows_logging.ROWS, *rows_storage.ROWS)}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured(row: Row, bench: Bench) -> tuple[dict[str, dict], dict]:
    """What each database gives for this row, and the peers; an empty result where it failed, which is said."""
    ours = {}
    for database, server in bench.servers.items():
        began = time.monotonic()
        try:
            ours[database] = row.ours(bench, server)
        except (TaskError, RuntimeError, AssertionError) as error:
            say(f"  {row.name} on {database} FAILED: {error}")
        say(f"  {row.name}: mlplat on {database}, {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    try:
        theirs = row.theirs(bench)
    except (TaskError, RuntimeError) as error:
        say(f"  {row.name}: the peers FAILED: {error}")
        theirs = {}
    say(f"  {row.name}: peers, {time.monotonic() - began:.0f} s")
    return ours, theirs


def compare(bench: Bench, names: list[str]) -> dict[str, list[Line]]:
    """The lines of the table of each database."""
    lines: dict[str, list[Line]] = {database: [] for database in bench.servers}
    for name in names:
        row = ROWS[name]
        ours, theirs = measured(row, bench)
        for database, found in lines.items():
            if database in ours:
                found += row.lines(bench, ours[database], theirs)
            else:
                found.append(Line(name, "FAILED", reached=False))
    return lines


def side_by_side(options: argparse.Namespace) -> int:
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mlplat-bench-", dir=options.folder))
        )
        say("physical limits")
        bench = Bench(folder, options.quick, limits.measure(folder, 100 if options.quick else 500))
        if options.database in ("sqlite", "both"):
            bench.servers["sqlite"] = Mlplat(folder / "sqlite")
        if options.database in ("postgresql", "both"):
            bench.postgres = Postgres()
            stack.callback(bench.postgres.stop)
            bench.servers["postgresql"] = Mlplat(folder / "postgresql", bench.postgres.create("bench"))
        for server in bench.servers.values():
            stack.callback(server.stop)
        for peer in () if options.no_peers else PEERS:
            if python := peer_python(peer):
                bench.pythons[peer] = python
        if "mlflow" in bench.pythons:
            bench.mlflow = Mlflow(bench.pythons["mlflow"], folder / "mlflow")
            stack.callback(bench.mlflow.stop)
            bench.mlflows("prepare")
        versions = {name: peer_version(python, name) for name, python in bench.pythons.items()}
        lines = compare(bench, options.rows)
        text = heading(bench, versions)
    minutes = (time.monotonic() - began) / 60
    print(text)
    for database, found in lines.items():
        print(f"\nmlplat on {database}\n{text_table(found)}")
    print(f"\n{minutes:.1f} minutes")
    if options.markdown:
        parts = [
            text,
            *(f"mlplat on {database}\n\n{markdown_table(found)}" for database, found in lines.items()),
        ]
        options.markdown.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    missed = [line.what.strip() for found in lines.values() for line in found if line.reached is False]
    print(f"targets missed: {len(missed)}")
    return 1 if missed and options.check else 0


def heading(bench: Bench, versions: dict[str, str]) -> str:
    said = ", ".join(f"{name} {version}" for name, version in versions.items()) or "no peers"
    return (
        f"{time.strftime('%Y-%m-%d')}, {cores()} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"{said}{', quick' if bench.quick else ''}. Medians.\n\nLimits: {bench.limits}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repetition: about 2 minutes")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="only these")
    parser.add_argument("--no-peers", action="store_true", help="mlplat alone")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    parser.add_argument("--folder", type=Path, default=None, help="where data goes (default: TMPDIR)")
    os.chdir(ROOT)
    return side_by_side(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
