"""The commands that keep runs and experiments, and compare runs."""

from __future__ import annotations

import json
import sys

import mlplat
from mlplat._cli_look import run_id, run_ids
from mlplat._cli_output import print_rows
from mlplat._terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def add(runs: Any, subcommands: Callable[[str, str], Any], groups: Any, command: Callable[..., Any]) -> None:
    """Adds them: to the commands of runs, and groups of their own."""
    comparing = command(runs, "compare", _compare, "show runs beside each other, what differs first")
    comparing.add_argument("run", nargs="+", help="ids of two runs or more")
    comparing.add_argument("--all", action="store_true", help="also what is equal")
    tree = command(runs, "tree", _tree, "show a run with the runs nested in it")
    tree.add_argument("run", help="id of the run")
    for name, function, help in (
        ("delete", _delete, "delete runs; they can be restored until they are collected"),
        ("restore", _restore, "restore deleted runs"),
        ("move", _move, "move runs into another experiment"),
    ):
        made = command(runs, name, function, help)
        made.add_argument("run", nargs="+", help="ids of runs")
        made.add_argument("--nested", action="store_true", help="also the runs nested in them")
        if name == "move":
            made.add_argument(
                "--to", required=True, metavar="EXPERIMENT", help="created where it does not exist"
            )

    experiments = subcommands("experiments", "look at experiments, and keep them")
    listing = command(experiments, "list", _experiments_list, "list the experiments")
    listing.add_argument("--deleted", action="store_true", help="list deleted ones instead")
    deleting = command(experiments, "delete", _experiments_delete, "delete an experiment with its runs")
    deleting.add_argument("name", help="name of the experiment")
    restoring = command(experiments, "restore", _experiments_restore, "restore a deleted experiment")
    restoring.add_argument("name", help="name of the experiment")
    renaming = command(experiments, "rename", _experiments_rename, "rename an experiment")
    renaming.add_argument("name", help="name that it has")
    renaming.add_argument("new_name", help="name that it gets")
    moving = command(
        experiments, "move", _experiments_move, "move all runs of an experiment into another one"
    )
    moving.add_argument("name", help="name of the experiment")
    moving.add_argument("--to", required=True, metavar="EXPERIMENT", help="created where it does not exist")

    collecting = command(groups, "gc", _gc, "remove for good what was deleted long ago")
    collecting.add_argument(
        "--older-than-days",
        type=int,
        metavar="N",
        help="deleted at least N days ago (default: as the server keeps it)",
    )
    collecting.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _compare(options: Any) -> None:
    comparison = mlplat.compare_runs(run_ids(options.run))
    rows = comparison.to_dicts() if options.all or options.json else comparison.differences
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    names = [name for name in comparison.column_names if name != "differs"]
    cells = [["" if row[name] is None else str(row[name]) for name in names] for row in rows]
    print_rows([name.upper() if at < 2 else name for at, name in enumerate(names)], cells)
    if not rows:
        print("nothing differs", file=sys.stderr)


def _tree(options: Any) -> None:
    tree = mlplat.run_tree(run_id(options.run))
    print(json.dumps(tree.splitlines(), ensure_ascii=False) if options.json else printable(tree, keep="\n"))


def _say(options: Any, count: int, what: str) -> None:
    if options.json:
        print(json.dumps({"changed_runs": count}))
    else:
        print(f"{count} {'run' if count == 1 else 'runs'} {what}")


def _delete(options: Any) -> None:
    _say(options, mlplat.delete_runs(run_ids(options.run), nested=options.nested), "deleted")


def _restore(options: Any) -> None:
    _say(options, mlplat.restore_runs(run_ids(options.run), nested=options.nested), "restored")


def _move(options: Any) -> None:
    _say(
        options,
        mlplat.move_runs(run_ids(options.run), options.to, nested=options.nested),
        f"moved to {options.to}",
    )


def _experiments_list(options: Any) -> None:
    found = mlplat.list_experiments(view="deleted" if options.deleted else "active")
    facts = [
        {
            "name": experiment.name,
            "id": experiment.id,
            "created_at": experiment.created_at.isoformat(),
            "deleted_at": experiment.deleted_at.isoformat() if experiment.deleted_at else None,
            "artifact_location": experiment.artifact_location,
            "tags": experiment.tags,
            "description": experiment.description,
        }
        for experiment in found
    ]
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    rows = [(experiment.name, f"{experiment.created_at:%Y-%m-%d %H:%M}") for experiment in found]
    print_rows(("EXPERIMENT", "CREATED"), rows)


def _experiments_delete(options: Any) -> None:
    mlplat.delete_experiment(options.name)


def _experiments_restore(options: Any) -> None:
    mlplat.restore_experiment(options.name)


def _experiments_rename(options: Any) -> None:
    mlplat.update_experiment(options.name, new_name=options.new_name)


def _experiments_move(options: Any) -> None:
    _say(options, mlplat.move_experiment(options.name, options.to), f"moved to {options.to}")


def _gc(options: Any) -> None:
    collected = mlplat.collect_garbage(options.older_than_days, dry_run=options.dry_run)
    facts = {name: getattr(collected, name) for name in ("runs", "experiments", "objects", "kept_runs")}
    if options.json:
        print(json.dumps(facts))
        return
    verb = "would be removed" if options.dry_run else "removed"
    print(f"{collected.runs} runs, {collected.experiments} experiments, {collected.objects} files {verb}")
    if collected.kept_runs:
        print(f"{collected.kept_runs} runs stay, as models were published from them")
