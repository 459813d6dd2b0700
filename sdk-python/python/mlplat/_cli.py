"""The `mlplat` command line: a look at runs, features, models and lineage, what is left to deliver, and the server."""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from datetime import date, datetime, timedelta

import mlplat
from mlplat import _cli_runs, _native
from mlplat.lineage import graph_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_SERVER = "mlplat-server.exe" if os.name == "nt" else "mlplat-server"
_NOBODY = ":0"
"""The owner of what was refused: it is of no single process."""
_SYNC = "deliver what processes that are gone have logged"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["server"]:
        return _server(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        mlplat.connect(options.url, options.project)
        options.command(options)
    except mlplat.MlplatError as error:
        print(f"mlplat: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `mlplat runs list | head`: nobody reads on. Python would complain when it closes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url", help="address of the server (default: MLPLAT_URL, else http://127.0.0.1:5000)"
    )
    common.add_argument("--project", help="project to look at (default: MLPLAT_PROJECT, else default)")
    common.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(
        prog="mlplat", description="Experiment tracking, features, models and lineage."
    )
    parser.add_argument("--version", action="version", version=f"mlplat {mlplat.__version__}")
    groups = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    groups.add_parser("server", help="start the server (needs the package mlplat-server)")

    def command(group: Any, name: str, function: Callable[[Any], None], help: str) -> Any:
        made = group.add_parser(name, parents=[common], help=help, description=help)
        made.set_defaults(command=function)
        return made

    def subcommands(name: str, help: str) -> Any:
        group = groups.add_parser(name, help=help, description=help)
        return group.add_subparsers(title="commands", required=True, metavar="COMMAND")

    runs = subcommands("runs", "look at runs")
    listing = command(runs, "list", _runs_list, "list runs, newest first")
    listing.add_argument("--experiment", action="append", help="only runs of this experiment")
    listing.add_argument("--filter", default="", help="e.g. 'metrics.mae < 15'")
    listing.add_argument("--order-by", action="append", help="e.g. 'metrics.mae ASC'")
    listing.add_argument("--limit", type=int, default=50, help="most runs to list (default: 50)")
    listing.add_argument("--deleted", action="store_true", help="list deleted runs instead")
    showing = command(runs, "show", _runs_show, "show one run, deleted or not")
    showing.add_argument("run", help="id of the run")
    _cli_runs.add(runs, subcommands, groups, command)
    features = subcommands("features", "look at features")
    command(features, "list", _features_list, "list the feature views")
    models = subcommands("models", "look at models")
    command(models, "list", _models_list, "list the registered models")
    showing = command(models, "show", _models_show, "show one version of a model")
    showing.add_argument("model", help="NAME, NAME@VERSION or NAME@ALIAS; without a version the newest")
    lineage = subcommands("lineage", "look at lineage")
    graph = command(lineage, "show", _lineage_show, "show where something came from")
    graph.add_argument(
        "node",
        help="id of a run, model:NAME@VERSION, feature_view:NAME, source:NAME, training_set:NAME or "
        "dataset:NAMESPACE#NAME",
    )
    graph.add_argument("--direction", choices=["upstream", "downstream", "both"], default="upstream")
    graph.add_argument("--depth", type=int, default=0, help="most edges from there")
    graph.add_argument("--svg", metavar="FILE", help="draw it into this file")
    sync = groups.add_parser("sync", help=_SYNC, description=_SYNC)
    sync.set_defaults(command=_sync)
    sync.add_argument("--url", help="only what is for this server (default: all servers)")
    sync.add_argument("--project", help="only what is for this project (default: all projects)")
    sync.add_argument("--json", action="store_true", help="print JSON")
    sync.add_argument("--watch", action="store_true", help="go on until interrupted")
    sync.add_argument("--rejected", action="store_true", help="also try again what a server refused")
    _import_commands(subcommands, command)
    return parser


def _import_commands(subcommands: Callable[..., Any], command: Callable[..., Any]) -> None:
    from mlplat._import._commands import add_commands

    add_commands(subcommands("import", "import runs of other tools"), command)


def _sync(options: Any) -> None:
    """Delivers the journals of dead processes, by default for all servers and projects."""
    import time

    agent = f"mlplat-python/{mlplat.__version__}"
    # With --watch the same trouble is told once.
    last = ""
    while True:
        report = _native.sync(options.url, options.project, options.rejected, agent).wait()
        others = _journals_of_others(options.url, options.project)
        text = _sync_text(report, others)
        if options.json:
            fields = ("path", "url", "project", "owner", "records", "points", "rejected", "left")
            journals = [{field: getattr(left, field) for field in fields} for left in report.journals]
            for journal in journals:
                journal["owner"] = "" if journal["owner"] == _NOBODY else journal["owner"]
            counts = {"live": report.live, "rejected": report.rejected, "others": sum(others.values())}
            _print_json({"journals": journals, **counts})
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


def _journals_of_others(url: str | None, project: str | None) -> dict[str, int]:
    """How many journals are for servers and projects that were not asked for, by server and project."""
    if url is None and project is None:
        return {}
    # In its normal form, as in the journals.
    asked = mlplat.connect(url, project)
    home = os.environ.get("MLPLAT_HOME") or os.path.join(os.path.expanduser("~"), ".mlplat")
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


def _runs_list(options: Any) -> None:
    runs = mlplat.search_runs(
        options.filter,
        experiment=options.experiment,
        order_by=options.order_by,
        view="deleted" if options.deleted else "active",
        limit=options.limit,
    ).to_dicts()
    if options.json:
        return _print_json([_grouped(run) for run in runs])
    _print_rows(
        ("RUN", "EXPERIMENT", "NAME", "STATUS", "STARTED", "METRICS"),
        [
            (
                run["run_id"],
                run["experiment"],
                run["name"],
                run["status"],
                f"{run['started_at']:%Y-%m-%d %H:%M}",
                ", ".join(f"{key}={value:g}" for key, value in _grouped(run)["metrics"].items()),
            )
            for run in runs
        ],
    )


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


def _runs_show(options: Any) -> None:
    run = mlplat.get_run(options.run, view="all")
    artifacts = run.artifacts()
    fields = (
        "id", "name", "experiment", "parent_run_id", "status", "status_message", "description", "started_at", "ended_at",
        "created_by", "deleted_at", "params", "metrics", "tags",
    )  # fmt: skip
    facts: dict[str, Any] = {field: getattr(run, field) for field in fields}
    facts["inputs"] = {f"{i.name} {i.context}".strip(): f"{i.digest} {i.source}".strip() for i in run.inputs}
    facts["artifacts"] = {file.path: file.size_bytes for file in artifacts}
    _print_json(facts) if options.json else _print_facts(facts)


def _features_list(options: Any) -> None:
    views = mlplat.features.list_feature_views()
    if options.json:
        fields = (
            "name",
            "version",
            "join_keys",
            "source_name",
            "ttl",
            "schema",
            "online",
            "description",
            "owner",
            "tags",
        )
        return _print_json([{field: getattr(view, field) for field in fields} for view in views])
    rows = [
        (
            view.name,
            f"v{view.version}",
            ", ".join(view.join_keys),
            view.source_name,
            "always" if view.ttl is None else str(view.ttl),
            ", ".join(view.features),
        )
        for view in views
    ]
    _print_rows(("VIEW", "VERSION", "KEYS", "SOURCE", "TTL", "FEATURES"), rows)


def _models_list(options: Any) -> None:
    models = mlplat.models.list_models()
    if options.json:
        fields = ("name", "latest_version", "aliases", "description", "tags", "created_at", "created_by")
        return _print_json([{field: getattr(model, field) for field in fields} for model in models])
    rows = [
        (
            model.name,
            str(model.latest_version),
            ", ".join(f"{alias}={number}" for alias, number in model.aliases.items()),
            f"{model.created_at:%Y-%m-%d %H:%M}",
        )
        for model in models
    ]
    _print_rows(("MODEL", "LATEST", "ALIASES", "CREATED"), rows)


def _models_show(options: Any) -> None:
    name, _, version = options.model.partition("@")
    found = mlplat.models.get_version(name, version or None)
    fields = (
        "name",
        "version",
        "stage",
        "aliases",
        "run_id",
        "artifact_path",
        "description",
        "tags",
        "params",
        "metrics",
        "created_at",
        "created_by",
    )
    facts: dict[str, Any] = {field: getattr(found, field) for field in fields}
    facts["files"] = {file.path: file.size_bytes for file in found.files}
    facts["feature_views"] = {
        f"{use.feature_view} v{use.version}": ", ".join(use.features) for use in found.feature_views
    }
    _print_json(facts) if options.json else _print_facts(facts)


def _lineage_show(options: Any) -> None:
    graph = graph_call(options.node, options.direction, options.depth, 0).wait()
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(graph.to_svg())
    if options.json:
        fields = ("id", "kind", "namespace", "name", "version", "run_id", "type", "state")
        nodes = [{field: getattr(node, field) for field in fields} for node in graph.nodes]
        edges = [{"source": edge.source, "target": edge.target} for edge in graph.edges]
        _print_json({"nodes": nodes, "edges": edges, "truncated": graph.truncated})
    elif not options.svg:
        print(graph)


def _print_json(value: object) -> None:
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """What JSON has. It has no NaN and no infinities: they become the texts that protobuf's JSON has for them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def _print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_facts(facts: dict[str, Any]) -> None:
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if value in (None, "", {}, [], ()):
            continue
        if isinstance(value, dict):
            print(name)
            for key, item in value.items():
                print(f"  {key}: {item}")
        else:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            print(f"{name:{width}}  {text}")


def _server(arguments: Sequence[str]) -> int:
    """Becomes the server of the package mlplat-server."""
    binary = _find_server()
    if binary is None:
        print(
            "mlplat: the server is a package of its own; install it with `pip install mlplat-server`",
            file=sys.stderr,
        )
        return 1
    command = [binary, *arguments]
    sys.stdout.flush()
    if os.name == "nt":
        import subprocess

        return subprocess.call(command)
    os.execv(binary, command)


def _find_server() -> str | None:
    """Beside this Python first, so that an environment uses its own server."""
    import shutil
    import sysconfig

    folders = [
        os.path.dirname(os.path.abspath(sys.argv[0])),
        os.path.dirname(sys.executable),
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", f"{os.name}_user"),
    ]
    for folder in folders:
        found = shutil.which(_SERVER, path=folder)
        if found:
            return found
    return shutil.which(_SERVER)
