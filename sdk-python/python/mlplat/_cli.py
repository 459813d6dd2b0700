"""The `mlplat` command line: a look at runs, features, models and lineage, what is left to deliver, and the server."""

from __future__ import annotations

import argparse
import os
import sys

import mlplat
from mlplat import _cli_look, _cli_runs, _cli_sync
from mlplat._cli_output import print_facts, print_json, print_rows
from mlplat.lineage import graph_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_SERVER = "mlplat-server.exe" if os.name == "nt" else "mlplat-server"


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
    _cli_look.add(runs, command)
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
    _cli_sync.add(groups)
    _import_commands(subcommands, command)
    return parser


def _import_commands(subcommands: Callable[..., Any], command: Callable[..., Any]) -> None:
    from mlplat._import._commands import add_commands

    add_commands(subcommands("import", "import runs of other tools"), command)


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
        return print_json([{field: getattr(view, field) for field in fields} for view in views])
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
    print_rows(("VIEW", "VERSION", "KEYS", "SOURCE", "TTL", "FEATURES"), rows)


def _models_list(options: Any) -> None:
    models = mlplat.models.list_models()
    if options.json:
        fields = ("name", "latest_version", "aliases", "description", "tags", "created_at", "created_by")
        return print_json([{field: getattr(model, field) for field in fields} for model in models])
    rows = [
        (
            model.name,
            str(model.latest_version),
            ", ".join(f"{alias}={number}" for alias, number in model.aliases.items()),
            f"{model.created_at:%Y-%m-%d %H:%M}",
        )
        for model in models
    ]
    print_rows(("MODEL", "LATEST", "ALIASES", "CREATED"), rows)


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
    print_json(facts) if options.json else print_facts(facts)


def _lineage_show(options: Any) -> None:
    graph = graph_call(options.node, options.direction, options.depth, 0).wait()
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(graph.to_svg())
    if options.json:
        fields = ("id", "kind", "namespace", "name", "version", "run_id", "type", "state")
        nodes = [{field: getattr(node, field) for field in fields} for node in graph.nodes]
        edges = [{"source": edge.source, "target": edge.target} for edge in graph.edges]
        print_json({"nodes": nodes, "edges": edges, "truncated": graph.truncated})
    elif not options.svg:
        print(graph)


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
