"""From the name of a model to the object."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile

from .. import _arguments, _native
from .._connection import client as current_client
from .._errors import DataLossError, FileError, MisuseError, WrongTypeError
from . import _flavors, _manifest, _requirements
from ._manifest import ModelInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

_FORMS = "runs:/<run id>/<path>, models:/<name>/<version or alias>, a model version, or a local directory"
_VERSION = re.compile(r"^models:/+([^/@]+)(?:[/@](.+))?$")
_RUN = re.compile(r"^runs:/+([^/]+)/(.+)$")

Steps = "Generator[_native.Call[Any], Any, Any]"


def load_steps(model: object) -> Generator[_native.Call[Any], Any, Any]:
    """Loads a model; yields the calls to be made on the way and is sent their answers, so that both APIs can drive it."""
    if isinstance(model, ModelInfo):
        model = model.registered_version or model.model_uri
    if isinstance(model, (str, os.PathLike)):
        text = _arguments.path(model, "model")
        if found := _VERSION.match(text):
            from ..models import version_call

            model = yield version_call(found[1], found[2])
        elif found := _RUN.match(text):
            return (yield from _downloaded(found[1], found[2], None))
        elif re.match(r"^[a-z][a-z0-9+.-]+:/", text):
            raise MisuseError(f"{text!r} is no model; give {_FORMS}")
        else:
            return local(text)
    if isinstance(model, _native.ModelVersion):
        return (yield from _downloaded(model.run_id, model.artifact_path, model))
    raise WrongTypeError(f"model is a {type(model).__name__}; give {_FORMS}")


def _downloaded(
    run_id: str, path: str, version: _native.ModelVersion | None
) -> Generator[_native.Call[Any], Any, Any]:
    folder = tempfile.mkdtemp(prefix="mlplat-model-")
    keep = False
    try:
        found = yield _native.download_artifact(current_client(), run_id, path, folder)
        if version is not None:
            _as_published(found, version)
        model = local(found)
        # A model that is a path needs its files.
        keep = isinstance(model, str) and model.startswith(folder)
        return model
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _as_published(found: str, version: _native.ModelVersion) -> None:
    """The files of the run may have been logged again after the version was published."""
    top = os.path.dirname(version.artifact_path)
    for file in version.files:
        inside = file.path[len(top) + 1 :] if top else file.path
        here = os.path.join(os.path.dirname(found), *inside.split("/"))
        if not os.path.isfile(here) or _manifest.digest(here) != file.sha256:
            raise DataLossError(
                f"{file.path} is not what was published as version {version.version} of {version.name}; the run holds "
                "something else under this path now"
            )


def local(path: str) -> Any:
    """The model of a local directory with a manifest, or of a file whose ending tells how to load it."""
    if not os.path.exists(path):
        raise FileError(f"there is no model at {path!r}; give {_FORMS}")
    if os.path.isfile(path):
        return _flavors.load(os.path.dirname(path), _flavors.loader_of_file(path), [])
    if not os.path.isfile(os.path.join(path, _manifest.NAME)):
        raise FileError(f"{path!r} has no {_manifest.NAME}, so it is no model that log_model wrote")
    held = _manifest.read(path)
    _warn(held)
    return _flavors.load(path, held["loader"], held["requirements"])


def _warn(held: dict[str, Any]) -> None:
    differences = _requirements.differences(held["requirements"])
    made_with = ".".join(held["python_version"].split(".")[:2])
    if made_with and made_with != ".".join(platform.python_version_tuple()[:2]):
        differences.insert(0, f"Python {held['python_version']} (here: {platform.python_version()})")
    if differences:
        shown = ", ".join(differences[:8]) + (" …" if len(differences) > 8 else "")
        print(f"mlplat: the model was made with other versions: {shown}", file=sys.stderr)
