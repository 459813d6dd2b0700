"""Where autologging puts models and small files."""

from __future__ import annotations

import json
import os
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._session import Session


def log_model(session: Session, model: Any, example: Any = None) -> None:
    """Keeps a model in the run of the session."""
    run = session.run
    if run is None or not session.options.log_models:
        return

    def work() -> None:
        import pickle

        def write(folder: str) -> None:
            with open(os.path.join(folder, "model.pkl"), "wb") as file:
                pickle.dump(model, file, protocol=pickle.HIGHEST_PROTOCOL)

        log_files(session, session.model_path, write)

    session.safely("the model was not logged", work)


def log_files(session: Session, directory: str, write: Callable[[str], None]) -> None:
    """Puts what `write` writes into a new folder into a directory of the run."""
    run = session.run
    if run is None:
        return
    with tempfile.TemporaryDirectory(prefix="mlplat-autolog-") as folder:
        write(folder)
        for name in sorted(os.listdir(folder)):
            run.log_artifact(os.path.join(folder, name), directory or None)


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
