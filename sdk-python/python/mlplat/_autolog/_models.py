"""Where autologging puts models and small files."""

from __future__ import annotations

import json
import os
import tempfile

from .. import _spool
from . import _session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._session import Session

EXAMPLE_ROWS = 5


def log_model(session: Session, model: Any, example: Any = None, signature: Any = None) -> None:
    """Keeps a model in the run of the session, with a few rows of what it takes if there are any."""
    run = session.run
    if run is None or not session.options.log_models:
        return

    def log() -> None:
        few = first_rows(example)
        if few is not None:
            try:
                run.log_model(model, session.model_path, input_example=few, signature=signature)
                return
            except BaseException as error:
                # The example may be what cannot be kept; the model is kept nevertheless.
                if _session.is_order(error):
                    raise
        run.log_model(model, session.model_path, signature=signature)

    session.safely("the model was not logged", log)


def first_rows(data: Any) -> Any:
    """The first rows of some data, where it has rows that can be cut; enough to infer what goes in and comes out."""
    if data is None or isinstance(data, (str, bytes, dict)):
        return None
    try:
        if hasattr(data, "iloc"):
            return data.iloc[:EXAMPLE_ROWS]
        if hasattr(data, "slice") and hasattr(data, "schema"):
            return data.slice(0, EXAMPLE_ROWS)
        return data[:EXAMPLE_ROWS]
    except Exception:
        return None


def log_files(session: Session, directory: str, write: Callable[[str], None]) -> None:
    """Puts what `write` writes into a new folder into a directory of the run."""
    run = session.run
    if run is None:
        return
    with tempfile.TemporaryDirectory(prefix="mlplat-autolog-") as folder:
        write(folder)
        # Through the journal, as all that autologging logs: a training needs no server. The files of a second library in a run
        # stand beside those of the first, as its params do.
        within = f"{directory}/" if directory else session.prefix
        for name in sorted(os.listdir(folder)):
            _spool.put(run, [(os.path.join(folder, name), within + name)])


def log_text(session: Session, path: str, text: str) -> None:
    """Keeps a text as a file of the run."""
    directory, name = os.path.split(path)

    def write(folder: str) -> None:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    session.safely(f"{name} was not logged", lambda: log_files(session, directory, write))


def log_json(session: Session, path: str, value: object) -> None:
    """Keeps a value as a JSON file of the run."""
    session.safely(
        "a JSON file was not logged",
        lambda: log_text(session, path, json.dumps(value, indent=2, default=str, ensure_ascii=False)),
    )
