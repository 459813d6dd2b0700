"""The functions of :mod:`mlplat` for asyncio: the same names, to be awaited.

    async with mlplat.aio.start_run(experiment="delays") as run:
        await run.log_metric("mae", 14.2)
    train = await mlplat.aio.features.historical(flights, ["weather:temp"])

Connections, the active run and the errors are shared with the blocking functions.
"""

from __future__ import annotations

from .._connection import connect
from . import features, lineage, models
from ._keep import (
    child_runs,
    collect_garbage,
    compare_runs,
    delete_experiment,
    delete_params,
    delete_runs,
    delete_tags,
    find_runs,
    iter_runs,
    move_runs,
    restore_experiment,
    restore_runs,
    run_tree,
    update_experiment,
)
from ._runs import (
    ActiveRun,
    Run,
    active_run,
    create_experiment,
    create_project,
    end_run,
    get_experiment,
    get_project,
    get_run,
    list_experiments,
    list_projects,
    log_artifact,
    log_input,
    log_metric,
    log_metrics,
    log_param,
    log_params,
    log_series,
    publish_model,
    search_runs,
    server_info,
    set_tag,
    set_tags,
    start_run,
    update_run,
)

__all__ = [
    "ActiveRun",
    "Run",
    "active_run",
    "child_runs",
    "collect_garbage",
    "compare_runs",
    "connect",
    "create_experiment",
    "create_project",
    "delete_experiment",
    "delete_params",
    "delete_runs",
    "delete_tags",
    "end_run",
    "features",
    "find_runs",
    "get_experiment",
    "get_project",
    "get_run",
    "iter_runs",
    "lineage",
    "list_experiments",
    "list_projects",
    "log_artifact",
    "log_input",
    "log_metric",
    "log_metrics",
    "log_param",
    "log_params",
    "log_series",
    "models",
    "move_runs",
    "publish_model",
    "restore_experiment",
    "restore_runs",
    "run_tree",
    "search_runs",
    "server_info",
    "set_tag",
    "set_tags",
    "start_run",
    "update_experiment",
    "update_run",
]
