"""`mlplat sync`: what processes that are gone have left."""

from __future__ import annotations

import glob
import json
import os

import mlplat
from mlplat import _native
from mlplat._cli_output import print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NOBODY = ":0"
"""The owner of what was refused: it is of no single process."""
_HELP = "deliver what processes that are gone have logged"


def add(groups: Any) -> None:
    """Adds the command."""
    sync = groups.add_parser("sync", help=_HELP, description=_HELP)
    sync.set_defaults(command=_sync)
    sync.add_argument("--url", help="only what is for this server (default: all servers)")
    sync.add_argument("--project", help="only what is for this project (default: all projects)")
    sync.add_argument(
        "--to", metavar="URL", help="the server to deliver to (default: the one that it is for)"
    )
    sync.add_argument("--json", action="store_true", help="print JSON")
    sync.add_argument("--watch", action="store_true", help="go on until interrupted")
    sync.add_argument("--rejected", action="store_true", help="also try again what a server refused")


def _sync(options: Any) -> None:
    """Delivers the journals of dead processes, by default for all servers and projects."""
    import time

    agent = f"mlplat-python/{mlplat.__version__}"
    # With --watch the same trouble is told once.
    last = ""
    while True:
        report = _native.sync(options.url, options.project, options.rejected, options.to, agent).wait()
        _deliver_consoles(options)
        others = _journals_of_others(options.url, options.project)
        text = _sync_text(report, others)
        if options.json:
            fields = ("path", "url", "project", "owner", "records", "points", "rejected", "left")
            journals = [{field: getattr(left, field) for field in fields} for left in report.journals]
            for journal in journals:
                journal["owner"] = "" if journal["owner"] == _NOBODY else journal["owner"]
            counts = {"live": report.live, "rejected": report.rejected, "others": sum(others.values())}
            print_json({"journals": journals, **counts})
        elif text != last or not options.watch:
            print(text, flush=True)
        last = text
        if not options.watch:
            break
        time.sleep(10)
    left = [journal for journal in report.journals if journal.left]
    if left:
        raise mlplat.UnavailableError(
            f"{len(left)} journals are not (wholly) delivered", reason="JOURNALS_LEFT"
        )


def _deliver_consoles(options: Any) -> None:
    """What killed processes printed comes after their journals."""
    from mlplat._companions import _kept
    from mlplat._connection import make_client

    for url, project in _kept.servers():
        client = make_client(url, project)
        asked = make_client(options.url or url, options.project or project)
        if (asked.url, asked.project) == (url, project):
            _kept.deliver(client, make_client(options.to, project) if options.to else None)


def _journals_of_others(url: str | None, project: str | None) -> dict[str, int]:
    """How many journals are for servers and projects that were not asked for, by server and project."""
    from mlplat._companions import _kept

    if url is None and project is None:
        return {}
    # In its normal form, as in the journals.
    asked = mlplat.connect(url, project)
    home = _kept.home()
    found: dict[str, int] = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(home), "journal", "*", "meta.json"))):
        try:
            with open(path, encoding="utf-8") as file:
                meta = json.load(file)
            of_others = (url is not None and meta["url"] != asked.url) or (
                project is not None and meta["project"] != asked.project
            )
            where = f"{meta['url']} {meta['project']}"
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just being removed, or not ours
        if of_others:
            found[where] = found.get(where, 0) + 1
    return found


def _sync_text(report: _native.SyncReport, others: dict[str, int]) -> str:
    lines = []
    for journal in report.journals:
        origin = f"by {journal.owner}" if journal.owner != _NOBODY else "refused before"
        # What is refused is among the records.
        done = "sent" if journal.rejected else "delivered"
        lines.append(
            f"{journal.url} {journal.project} ({origin}): {done} {journal.records} records, {journal.points} points"
        )
        if journal.rejected:
            lines.append(f"  {journal.rejected} records were refused by the server, and are kept")
        if journal.left:
            lines.append(f"  the rest is left in {journal.path}: {journal.left}")
    if not report.journals:
        lines.append("nothing is left to deliver" + (" there" if others else ""))
    if report.live:
        lines.append(f"{report.live} journals belong to processes that live, and deliver them themselves")
    if others:
        count, places = sum(others.values()), ", ".join(others)
        lines.append(f"{count} journals are for other servers or projects ({places}), and were left alone")
    if report.rejected:
        lines.append(f"{report.rejected} journals hold what a server refused; --rejected tries it again")
    return "\n".join(lines)
