"""`mlplat import …`: the command line of the importers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .._connection import client
from .._errors import MlplatError
from ._records import Source
from ._summary import Summary, Wish
from ._writer import import_all


def add_commands(group: Any, command: Callable[..., Any]) -> None:
    """Adds the commands to a group of subcommands."""
    mlflow = command(group, "mlflow", _mlflow, "import experiments, runs, metrics and files of MLflow")
    mlflow.add_argument(
        "uri",
        help="tracking URI: sqlite:///mlflow.db, http://host:5000, or the path of a database or mlruns folder",
    )
    mlflow.add_argument("--experiment", action="append", default=[], help="only this experiment")
    mlflow.add_argument("--deleted", action="store_true", help="also what is deleted there")
    mlflow.add_argument("--artifacts-root", metavar="DIR", help="where the folders of the files are now")
    wandb = command(group, "wandb", _wandb, "import offline runs of Weights & Biases")
    wandb.add_argument("folder", help="offline-run-… folder, or the wandb folder with several of them")
    wandb.add_argument("--experiment", help="experiment to import into (default: the project of each run)")
    for one in (mlflow, wandb):
        one.add_argument("--dry-run", action="store_true", help="read and count everything, write nothing")
        one.add_argument("--no-artifacts", action="store_true", help="leave files out")


def _mlflow(options: Any) -> None:
    from ._mlflow import open_store

    wish = Wish(tuple(options.experiment), not options.no_artifacts, options.deleted, options.dry_run)
    _run(open_store(options.uri, options.artifacts_root), wish, options)


def _wandb(options: Any) -> None:
    from ._wandb import Offline

    wish = Wish(artifacts=not options.no_artifacts, dry_run=options.dry_run)
    _run(Offline(options.folder, options.experiment), wish, options)


def _run(source: Source, wish: Wish, options: Any) -> None:
    summary = import_all(client(), source, wish)
    if options.json:
        print(json.dumps(asdict(summary), indent=2, ensure_ascii=False))
    else:
        print(_told(summary, wish))
    if summary.errors:
        raise IncompleteError(
            f"not all could be imported ({len(summary.errors)} problems); run the command again to go on"
        )


def _told(summary: Summary, wish: Wish) -> str:
    for text in (*summary.notes, *summary.errors):
        print(f"mlplat: {text}", file=sys.stderr)
    done = "would be imported" if wish.dry_run else "imported"
    lines = [
        f"{summary.runs} runs of {summary.experiments} experiments {done}, {summary.unchanged} were there already"
        + (f", {summary.left_out} left out" if summary.left_out else ""),
        f"{summary.points:,} points"
        + ("" if wish.dry_run else f", {summary.files:,} files ({summary.bytes:,} bytes)")
        + f" in {summary.seconds:.1f} s",
    ]
    return "\n".join(lines)


class IncompleteError(MlplatError):
    """Something of the source could not be imported."""
