"""mlplat: experiment tracking, feature store, model catalogue and lineage, as one.

    import mlplat

    with mlplat.start_run(experiment="delays") as run:
        run.log_params({"depth": 3})
        run.log_metric("mae", 14.2)
        version = run.publish_model("arrival-delay", "model.pkl")
    mlplat.lineage.upstream(version).show()

Features are in :mod:`mlplat.features`, models in :mod:`mlplat.models`, lineage in :mod:`mlplat.lineage`, and the same
functions for asyncio in :mod:`mlplat.aio`. The server is what :func:`connect`, or `MLPLAT_URL`, says.
"""

from __future__ import annotations

import os as _os

from . import _native, features, lineage, models
from ._active import after_fork as _after_fork
from ._autolog import autolog
from ._connection import connect
from ._errors import (
    AbortedError,
    AlreadyExistsError,
    ArrowError,
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    FieldViolation,
    FileError,
    InternalError,
    InvalidArgumentError,
    MissingPackageError,
    MisuseError,
    MlplatError,
    NoActiveRunError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    WrongTypeError,
)
from ._native import (
    Artifact,
    Client,
    DatasetInput,
    Experiment,
    MetricSummary,
    ModelVersion,
    Project,
    RegisteredModel,
    RunBranch,
    ServerInfo,
)
from ._native import __version__ as __version__
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
    log_input,
    log_metric,
    log_metrics,
    log_param,
    log_params,
    log_series,
    publish_model,
    search_runs,
    set_tag,
    set_tags,
    start_run,
    update_run,
)
from ._table import OnlineFeatures, Table, TrainingSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import aio as aio
    from ._compare import RunComparison, compare_runs
    from ._find import child_runs, find_runs, iter_runs, run_tree
    from ._keep import (
        Collected,
        collect_garbage,
        delete_experiment,
        delete_params,
        delete_runs,
        delete_tags,
        move_experiment,
        move_runs,
        restore_experiment,
        restore_runs,
        update_experiment,
    )
    from ._model_files._manifest import ModelInfo as ModelInfo
    from ._model_files._signature import ModelSignature as ModelSignature

_LATER = {
    "ModelInfo": "_model_files._manifest",
    "ModelSignature": "_model_files._signature",
    "RunComparison": "_compare",
    "compare_runs": "_compare",
    "child_runs": "_find",
    "find_runs": "_find",
    "iter_runs": "_find",
    "run_tree": "_find",
    "Collected": "_keep",
    "collect_garbage": "_keep",
    "delete_experiment": "_keep",
    "delete_params": "_keep",
    "delete_runs": "_keep",
    "delete_tags": "_keep",
    "move_experiment": "_keep",
    "move_runs": "_keep",
    "restore_experiment": "_keep",
    "restore_runs": "_keep",
    "update_experiment": "_keep",
}
"""What is imported by its first use, so that a training script does not pay for it."""

__all__ = [
    "AbortedError",
    "ActiveRun",
    "AlreadyExistsError",
    "ArrowError",
    "Artifact",
    "CancelledError",
    "Client",
    "Collected",
    "DataLossError",
    "DatasetInput",
    "DeadlineExceededError",
    "Experiment",
    "FailedPreconditionError",
    "FieldViolation",
    "FileError",
    "InternalError",
    "InvalidArgumentError",
    "MetricSummary",
    "MissingPackageError",
    "MisuseError",
    "MlplatError",
    "ModelInfo",
    "ModelSignature",
    "ModelVersion",
    "NoActiveRunError",
    "NotFoundError",
    "OnlineFeatures",
    "PermissionDeniedError",
    "Project",
    "RegisteredModel",
    "ResourceExhaustedError",
    "Run",
    "RunBranch",
    "RunComparison",
    "ServerInfo",
    "Table",
    "TrainingSet",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "WrongTypeError",
    "active_run",
    "aio",
    "autolog",
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
    "infer_signature",
    "iter_runs",
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
    "log_input",
    "log_metric",
    "log_metrics",
    "log_model",
    "log_param",
    "log_params",
    "log_series",
    "log_table",
    "log_text",
    "models",
    "move_experiment",
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


def server_info() -> ServerInfo:
    """Version, name and limits of the server; also the quickest way to see whether it is there."""
    from ._connection import client

    return _native.server_info(client()).wait()


def __getattr__(name: str) -> object:
    # What few programs need is imported only by these.
    import importlib

    if name == "aio":
        return importlib.import_module("mlplat.aio")
    if name in _LATER:
        return getattr(importlib.import_module(f"mlplat.{_LATER[name]}"), name)
    raise AttributeError(f"module 'mlplat' has no attribute {name!r}")


# Threads do not survive a fork, and the connection has some: a child makes its own at the first call.
if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_after_fork)
