"""The manifest of a model, and what `log_model` tells of it."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from .._errors import DataLossError, FailedPreconditionError
from ._signature import ModelSignature

NAME = "mlplat-model.json"
REQUIREMENTS = "requirements.txt"
EXAMPLE = "input_example.json"
FORMAT = 1


class ModelInfo:
    """A model that was logged: where it is, and what its manifest says."""

    __slots__ = ("_held", "artifact_path", "registered_version", "run_id")

    run_id: str
    """The run that it is in."""
    artifact_path: str
    """Its directory in the run."""
    registered_version: Any
    """The :class:`mlplat.ModelVersion` where it was registered, else None."""

    def __init__(self, run_id: str, artifact_path: str, held: dict[str, Any]) -> None:
        self.run_id = run_id
        self.artifact_path = artifact_path
        self.registered_version = None
        self._held = held

    @property
    def model_uri(self) -> str:
        """What `load_model` takes: `runs:/<run id>/<path>`."""
        return f"runs:/{self.run_id}/{self.artifact_path}"

    @property
    def flavor(self) -> str:
        """How it is stored: sklearn, xgboost, lightgbm, torch, transformers, onnx, pickle or file."""
        return self._held["flavor"]

    @property
    def model_class(self) -> str:
        """Class of the model, with its module."""
        return self._held["class"]

    @property
    def signature(self) -> ModelSignature | None:
        """What goes in and comes out, where that is known."""
        held = self._held["signature"]
        return None if held is None else ModelSignature.from_dict(held)

    @property
    def requirements(self) -> list[str]:
        """What has to be installed where it is loaded, with versions."""
        return list(self._held["requirements"])

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file by its path in the directory."""
        return {file["path"]: file["sha256"] for file in self._held["files"]}

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return self._held["size_bytes"]

    @property
    def manifest(self) -> dict[str, Any]:
        """All that the manifest says."""
        return json.loads(json.dumps(self._held))

    def __repr__(self) -> str:
        return f"ModelInfo({self.model_uri!r}, flavor={self.flavor!r}, {self.size_bytes} bytes)"


def is_ours(path: str) -> bool:
    """Whether a file or directory of that path would be in the place of one that is written beside the model."""
    top = os.path.normpath(path).replace("\\", "/").split("/")[0]
    return top.lower() in (NAME, REQUIREMENTS, EXAMPLE)  # there are file systems without capitals


def digest(path: str) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def files_of(folder: str) -> list[dict[str, Any]]:
    """The files of a directory with sizes and digests, except for the manifest."""
    found: list[dict[str, Any]] = []
    for directory, directories, names in os.walk(folder):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            inside = os.path.relpath(path, folder).replace(os.sep, "/")
            if inside != NAME:
                found.append({"path": inside, "size_bytes": os.path.getsize(path), "sha256": digest(path)})
    return found


def write(folder: str, held: dict[str, Any]) -> None:
    """Puts the manifest beside the files."""
    with open(os.path.join(folder, NAME), "w", encoding="utf-8") as file:
        json.dump(held, file, indent=2, ensure_ascii=False)


def read(folder: str) -> dict[str, Any]:
    """The manifest of a directory, after every file was found to be what it says."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            held = json.load(file)
        number = held["format"]
        files = [(file["path"], file["size_bytes"], file["sha256"]) for file in held["files"]]
        held = {"signature": None, "requirements": [], "python_version": "", "class": "", **held}
        if not isinstance(held["flavor"], str) or not isinstance(held["loader"]["kind"], str):
            raise TypeError("flavor and loader are texts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataLossError(f"{NAME} of the model cannot be read: {type(error).__name__}: {error}") from None
    if number != FORMAT:
        raise FailedPreconditionError(
            f"the model is of format {number}, and this mlplat knows {FORMAT}; install a newer mlplat"
        )
    for path, size, wanted in files:
        _check(folder, path, size, wanted)
    return held


def _check(folder: str, path: object, size: object, wanted: object) -> None:
    parts = path.split("/") if isinstance(path, str) else [""]
    if any(part in ("", ".", "..") for part in parts) or os.path.isabs(os.path.join(*parts)):
        raise DataLossError(f"{NAME} names {path!r}, which is no file of a model")
    local = os.path.join(folder, *parts)
    if not os.path.isfile(local):
        raise DataLossError(f"the file {path} of the model is missing")
    if os.path.getsize(local) != size or digest(local) != wanted:
        raise DataLossError(f"the file {path} of the model is not what was logged: its digest differs")
