"""MLflow's stores, by their tracking URIs."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

from .._errors import MisuseError
from ._local_files import local_path
from ._records import Source, SourceRun

NOTE_TAG = "mlflow.note.content"
PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"
USER_TAG = "mlflow.user"
CONTEXT_TAG = "mlflow.data.context"

# Tags that MLflow sets with the files of tables and images, and with models; since MLflow 3 these are beside the run.
_FILES_TAG, _MODELS_TAG = "mlflow.loggedArtifacts", "mlflow.log-model.history"

# SQL databases have no infinities: MLflow stores them as the greatest and least number.
_GREATEST = 1.7976931348623157e308


def open_store(uri: str, artifacts_root: str | None = None) -> Source:
    """The store of a tracking URI: a SQLite file, a server, or a folder `mlruns`."""
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        from ._mlflow_server import Server

        return Server(uri)
    if scheme == "sqlite":
        from ._mlflow_sqlite import Database

        return Database(uri.split("://", 1)[1].removeprefix("/"), artifacts_root)
    if scheme in ("", "file") or (os.name == "nt" and len(scheme) == 1):
        path = local_path(uri)
        if path is not None and os.path.isfile(path):
            from ._mlflow_sqlite import Database

            return Database(path, artifacts_root)
        if path is not None and os.path.isdir(path):
            from ._mlflow_folder import Folder

            return Folder(path, artifacts_root)
        raise MisuseError(f"there is neither an MLflow database nor an mlruns folder at {uri}")
    raise MisuseError(
        f"{scheme}:// is not read directly; start `mlflow server --backend-store-uri …` and import from its http:// address"
    )


def restored(value: float) -> float:
    """What was logged, from what a database has of it."""
    if value >= _GREATEST:
        return float("inf")
    return float("-inf") if value <= -_GREATEST else value


def fill_from_tags(run: SourceRun, user: str | None) -> None:
    """Notes, parent and user of a run are tags in MLflow."""
    run.description = run.tags.pop(NOTE_TAG, "")
    run.parent = run.tags.pop(PARENT_TAG, None) or None
    named = run.tags.pop(NAME_TAG, "")
    run.name = run.name or named or run.key
    if user:
        run.tags.setdefault(USER_TAG, user)


def has_logged(run: SourceRun, models_beside: bool) -> bool:
    """Whether the tags of a run tell that there are files of it; most files leave no tag."""
    said = run.tags.get(_FILES_TAG) or (not models_beside and run.tags.get(_MODELS_TAG))
    return bool(said) and said != "[]"


def source_of(text: str) -> str:
    """Where the data of a data set is: MLflow notes it as JSON, by kinds of its own."""
    try:
        said = json.loads(text)
        return str(said.get("uri") or said.get("path") or said.get("url") or text)
    except (ValueError, AttributeError):
        return text
