"""Modules of PyTorch: pickled with their weights, or TorchScript in its own format."""

from __future__ import annotations

import os
import sys
import zipfile

from .. import _arguments
from . import _pickles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def save(model: Any, folder: str, name: str = "model.pt") -> dict[str, Any]:
    """Writes a module."""
    torch = sys.modules["torch"]
    path = os.path.join(folder, name)
    if isinstance(model, torch.jit.ScriptModule):
        torch.jit.save(model, path)
        return {"kind": "torchscript", "file": name}
    with _pickles.pickling() as module:
        torch.save(model, path, pickle_module=module)
    return {"kind": "torch", "file": name}


def _place(torch: Any) -> str | None:
    # Weights of a GPU go to the processor where there is none.
    return None if torch.cuda.is_available() else "cpu"


def load(folder: str, loader: dict[str, Any]) -> Any:
    """The module of a file."""
    torch = _arguments.package("torch", "the model")
    path = os.path.join(folder, loader["file"])
    if _is_script(path):
        return load_script(folder, loader)
    return torch.load(path, map_location=_place(torch), weights_only=False)


def _is_script(path: str) -> bool:
    """Whether the file of a user is TorchScript, which has the same ending."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_script(folder: str, loader: dict[str, Any]) -> Any:
    """The TorchScript of a file."""
    torch = _arguments.package("torch", "the model")
    return torch.jit.load(os.path.join(folder, loader["file"]), map_location=_place(torch))
