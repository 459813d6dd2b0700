"""ONNX files: the files beside them that hold their weights, and what their graphs take and give.

Large models keep their weights in other files, which the model names relative to its own place.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import sys

from .. import _arguments
from .._errors import FileError, MisuseError
from ._signature import ModelSignature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_EXTERNAL = 1
# An entry of `external_data` (field 13 of a tensor) whose key is `location`, and the length of its value.
_LOCATION = re.compile(
    rb"\x6a(?:[\x80-\xff][\x01-\x7f]|[\x00-\x7f])\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])"
)


def save(model: Any, folder: str) -> dict[str, Any]:
    """Writes a model that is in memory."""
    if missing := _locations(model):
        raise MisuseError(
            f"the weights of the ModelProto are not in memory but in {_shown(missing)}; give log_model the path of the "
            "file, or what onnx.load gives for it"
        )
    with open(os.path.join(folder, "model.onnx"), "wb") as file:
        file.write(model.SerializeToString())
    return {"kind": "onnx", "file": "model.onnx"}


def signature_of(model: Any) -> ModelSignature | None:
    """What the graph of a model, or of a file, says that it takes and gives; None where onnx is not installed."""
    graph = getattr(parsed(model) if isinstance(model, str) else model, "graph", None)
    if graph is None or not graph.output:
        return None
    # Older files list the weights among the inputs.
    weights = {tensor.name for tensor in graph.initializer}
    return ModelSignature(
        _values([value for value in graph.input if value.name not in weights]), _values(list(graph.output))
    )


def _values(values: list[Any]) -> dict[str, Any]:
    held = {value.name: _value(value.type) for value in values}
    if all(value["kind"] == "tensor" for value in held.values()):
        return {"kind": "tensors", "tensors": held}
    return {"kind": "dict", "values": held}


def _value(kind: Any) -> dict[str, Any]:
    if (form := kind.WhichOneof("value")) != "tensor_type":
        return {"kind": {"sequence_type": "list", "map_type": "dict"}.get(form, "object")}
    tensor = kind.tensor_type
    try:
        name = sys.modules["onnx"].TensorProto.DataType.Name(tensor.elem_type).lower()
    except ValueError:
        name = "object"  # of a newer onnx
    held: dict[str, Any] = {
        "kind": "tensor",
        "type": {"float": "float32", "double": "float64"}.get(name, name),
    }
    if tensor.HasField("shape"):
        # A size that has a name, or none at all, varies.
        held["shape"] = [size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim]
    return held


def weights_of(path: str) -> list[str]:
    """The files that a model names, all of which are beside it."""
    names = _named_by(path)
    beside = os.path.dirname(os.path.abspath(path))
    for name in names:
        if os.path.isabs(name) or ".." in re.split(r"[/\\]", name):
            raise MisuseError(
                f"{path} has weights in {name!r}, which is not beside it and would not be found where the model is loaded"
            )
    if missing := [name for name in names if not os.path.isfile(os.path.join(beside, name))]:
        raise FileError(f"{path} has weights in {_shown(missing)}, which is not in {beside}")
    return names


def copy_weights(path: str, names: list[str], folder: str) -> None:
    """Copies these files to where the model names them."""
    beside = os.path.dirname(os.path.abspath(path))
    for name in names:
        target = os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.join(beside, name), target)


def load(folder: str, loader: dict[str, Any]) -> Any:
    """A session of onnxruntime, or the model where that is not installed."""
    path = os.path.join(folder, loader["file"])
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _arguments.package("onnx", "the model (or onnxruntime, to run it)").load(path)
    # By its path, for the weights may be in files beside it.
    return onnxruntime.InferenceSession(path)


def _named_by(path: str) -> list[str]:
    model = parsed(path)
    return _locations(model) if model is not None else _scanned(path)


def parsed(path: str) -> Any:
    """The model of a file without its weights; None where it is none, or onnx is not installed."""
    try:
        import onnx  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    try:
        return onnx.load(path, load_external_data=False)
    except Exception:
        return None  # of protobuf, whose errors have no class in common


def _scanned(path: str) -> list[str]:
    """The same without onnx."""
    if not os.path.getsize(path):
        return []
    names: dict[str, None] = {}
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for found in _LOCATION.finditer(content):
            size = sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(found[1]))
            names[content[found.end() : found.end() + size].decode(errors="replace")] = None
    return list(names)


def _locations(model: Any) -> list[str]:
    names: dict[str, None] = {}
    for tensor in _tensors(model):
        if tensor.data_location == _EXTERNAL:
            names.update((entry.value, None) for entry in tensor.external_data if entry.key == "location")
    return list(names)


def _tensors(model: Any) -> Iterator[Any]:
    """Of its graph, of the graphs within that, and of its functions."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            graphs.extend(attribute.graphs)


def _shown(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
