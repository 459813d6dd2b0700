"""The functions of :mod:`mlplat` for asyncio: the same names, to be awaited.

    async with mlplat.aio.start_run(experiment="delays") as run:
        await run.log_metric("mae", 14.2)
    train = await mlplat.aio.features.historical(flights, ["weather:temp"])

Connections, the active run and the errors are shared with the blocking functions.
"""

from __future__ import annotations

from .._autolog import autolog
from .._connection import connect
from . import features, lineage, models
from ._rich_functions import (
    infer_signature,
    load_model,
    load_table,
    log_audio,
    log_confusion_matrix,
    log_dict,
    log_figure,
    log_histogram,
    log_html,
    log_image,
    log_model,
    log_table,
    log_text,
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
    "autolog",
    "connect",
    "create_experiment",
    "create_project",
    "end_run",
    "features",
    "get_experiment",
    "get_project",
    "get_run",
    "infer_signature",
    "lineage",
    "list_experiments",
    "list_projects",
    "load_model",
    "load_table",
    "log_artifact",
    "log_audio",
    "log_confusion_matrix",
    "log_dict",
    "log_figure",
    "log_histogram",
    "log_html",
    "log_image",
    "log_metric",
    "log_metrics",
    "log_model",
    "log_param",
    "log_params",
    "log_series",
    "log_table",
    "log_text",
    "models",
    "publish_model",
    "search_runs",
    "server_info",
    "set_tag",
    "set_tags",
    "start_run",
    "update_run",
]
