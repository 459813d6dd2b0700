"""How models of each library are stored and given back.

Libraries with a format of their own use it: it outlives versions of Python, and other languages read it. The rest is
pickled.
"""

from __future__ import annotations

import os
import shutil

from .. import _arguments
from .._errors import FailedPreconditionError, FileError, MisuseError, MlplatError
from . import _boosting, _manifest, _onnx, _pickle_scan, _pickles, _torch, _transformers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._pickle_scan import Found
    from ._signature import ModelSignature

_PICKLES = (".pkl", ".pickle", ".joblib")
_TORCH = (".pt", ".pth")


def flavor_of(model: object) -> str:
    """The name of the way to store it."""
    if isinstance(model, (str, os.PathLike)):
        return _flavor_of_path(_arguments.path(model, "model"))
    roots = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    # A class of the user that builds on xgboost's or lightgbm's is more than what these would store.
    if roots[0] in ("xgboost", "lightgbm"):
        return roots[0]
    if "transformers" in roots and _transformers.takes(model):
        return "transformers"
    if "torch" in roots and hasattr(model, "state_dict"):
        return "torch"
    if type(model).__name__ == "ModelProto" and hasattr(model, "SerializeToString"):
        return "onnx"
    if "sklearn" in roots:
        return "sklearn"
    return "pickle"


def _flavor_of_path(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    if not os.path.exists(path):
        raise FileError(f"there is no model file or directory {path!r}")
    if os.path.isdir(path):
        return "file"
    return (
        "onnx"
        if ending == ".onnx"
        else "pickle"
        if ending in _PICKLES
        else "torch"
        if ending in _TORCH
        else "file"
    )


def save(model: Any, flavor: str, folder: str) -> dict[str, Any]:
    """Writes the model into the folder; the answer is what its loading needs."""
    if isinstance(model, (str, os.PathLike)):
        return _copy(_arguments.path(model, "model"), flavor, folder)
    try:
        return _SAVE[flavor](model, folder)
    except (OSError, MlplatError):
        raise
    except Exception as error:
        raise MisuseError(
            f"the {type(model).__qualname__} cannot be stored as {flavor}: {type(error).__name__}: {error}"
        ) from error


def load(folder: str, loader: dict[str, Any], requirements: list[str]) -> Any:
    """The model of a folder whose files were checked."""
    kind = loader["kind"]
    if kind not in _LOAD:
        raise FailedPreconditionError(f"a model stored as {kind!r} is not known here; install a newer mlplat")
    try:
        return _LOAD[kind](folder, loader)
    except MlplatError:
        raise
    except Exception as error:
        raise FailedPreconditionError(
            f"the model cannot be loaded here: {type(error).__name__}: {error}. It was made with "
            f"{', '.join(requirements) or 'no known packages'}"
        ) from error


def _copy(path: str, flavor: str, folder: str) -> dict[str, Any]:
    name = os.path.basename(os.path.abspath(path))
    weights = _onnx.weights_of(path) if flavor == "onnx" else []
    # A directory of their own keeps the files apart from ours where they have the same names.
    place = "files/" if any(_manifest.is_ours(taken) for taken in (name, *weights)) else ""
    inside = os.path.join(folder, place)
    os.makedirs(inside, exist_ok=True)
    if os.path.isdir(path):
        shutil.copytree(path, os.path.join(inside, name))
    else:
        shutil.copyfile(path, os.path.join(inside, name))
    _onnx.copy_weights(path, weights, inside)
    return {"kind": _kind_of_file(name, flavor), "file": place + name}


def _kind_of_file(name: str, flavor: str) -> str:
    return "joblib" if name.lower().endswith(".joblib") else flavor


# Files of any kind


def _load_file(folder: str, loader: dict[str, Any]) -> Any:
    return os.path.join(folder, loader["file"])


_SAVE = {
    "sklearn": _pickles.save,
    "pickle": _pickles.save,
    "xgboost": _boosting.save_xgboost,
    "lightgbm": _boosting.save_lightgbm,
    "torch": _torch.save,
    "transformers": _transformers.save,
    "onnx": _onnx.save,
}
_LOAD = {
    "pickle": _pickles.load,
    "joblib": _pickles.load_joblib,
    "xgboost": _boosting.load_xgboost,
    "lightgbm": _boosting.load_lightgbm,
    "torch": _torch.load,
    "torchscript": _torch.load_script,
    "transformers": _transformers.load,
    "pipeline": _transformers.load_pipeline,
    "onnx": _onnx.load,
    "file": _load_file,
}


def signature_of(model: object, flavor: str) -> ModelSignature | None:
    """What the model itself says that it takes and gives."""
    if flavor != "onnx":
        return None
    return _onnx.signature_of(
        _arguments.path(model, "model") if isinstance(model, (str, os.PathLike)) else model
    )


def scan(loader: dict[str, Any], folder: str) -> list[Found]:
    """What the pickles among the files of a model refer to; those that joblib wrote are noted as such, whatever their ending."""
    found: list[Found] = []
    parts = [loader, *loader.get("parts", {}).values()]
    if "other_params" in loader:
        parts.append(loader["other_params"])
    for part in parts:
        if part["kind"] in ("pickle", "joblib", "torch", "pipeline"):
            held = _pickle_scan.scan_file(os.path.join(folder, part["file"]))
            if part["kind"] == "pickle" and held.by_joblib:
                part["kind"] = "joblib"
            found.append(held)
    return found


def loader_of_file(path: str) -> dict[str, Any]:
    """How a file without a manifest is loaded, by its ending."""
    flavor, name = _flavor_of_path(path), os.path.basename(path)
    if flavor == "file":
        raise MisuseError(
            f"{name} has no manifest and no ending that tells how to load it; mlplat.models.download gives the file"
        )
    loader = {"kind": _kind_of_file(name, flavor), "file": name}
    scan(loader, os.path.dirname(path))
    return loader
