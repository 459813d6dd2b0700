"""From an object to the directory of a model."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from datetime import datetime, timezone

from .. import _arguments, _native
from .._errors import MisuseError, WrongTypeError
from .._media._text import plain
from . import _flavors, _manifest, _notices, _requirements
from ._signature import ModelSignature, described, infer_signature, is_several_arrays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ._pickle_scan import Found

_EXAMPLE_ROWS = 100
_EXAMPLE_VALUES = 1_000_000


def save_model(
    model: object,
    folder: str,
    signature: ModelSignature | dict[str, Any] | None,
    input_example: object,
    requirements: Sequence[str] | str | os.PathLike[str] | None,
    metadata: dict[str, Any] | None,
    run_id: str,
) -> dict[str, Any]:
    """Writes a model with its manifest into an empty folder; the answer is the manifest."""
    if model is None:
        raise WrongTypeError("model is None; give a model, or the path of its file")
    if isinstance(signature, dict):
        signature = ModelSignature.from_dict(signature)
    if signature is not None and not isinstance(signature, ModelSignature):
        raise WrongTypeError(f"signature is a {type(signature).__name__}; use mlplat.infer_signature")
    if metadata is not None and not isinstance(metadata, dict):
        raise WrongTypeError(f"metadata is a {type(metadata).__name__}; give a dict")
    flavor = _flavors.flavor_of(model)
    loader = _flavors.save(model, flavor, folder)
    example = None
    if input_example is not None:
        input_example = _few(input_example)
        example = _write_example(folder, input_example)
    if signature is None:
        signature = _flavors.signature_of(model, flavor)
        if signature is None and input_example is not None:
            signature = infer_signature(input_example, _predicted(model, flavor, input_example))
    found = _flavors.scan(loader, folder)
    needed = _needed(model, flavor, loader, found, requirements, input_example)
    with open(os.path.join(folder, _manifest.REQUIREMENTS), "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in needed)
    files = _manifest.files_of(folder)
    kind = type(model)
    held: dict[str, Any] = {
        "format": _manifest.FORMAT,
        "flavor": flavor,
        "class": "" if isinstance(model, (str, os.PathLike)) else f"{kind.__module__}.{kind.__qualname__}",
        "loader": loader,
        "signature": None if signature is None else signature.to_dict(),
        "input_example": example,
        "requirements": needed,
        "python_version": platform.python_version(),
        "mlplat_version": _native.__version__,
        "run_id": run_id,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "metadata": plain(metadata or {}),
        "size_bytes": sum(file["size_bytes"] for file in files),
        "files": files,
    }
    _manifest.write(folder, held)
    return held


def _needed(
    model: object,
    flavor: str,
    loader: dict[str, Any],
    found: list[Found],
    requirements: Sequence[str] | str | os.PathLike[str] | None,
    example: object,
) -> list[str]:
    if isinstance(requirements, (str, os.PathLike)):
        return _requirements.of_file(_arguments.path(requirements, "requirements"))
    if requirements is not None:
        return _arguments.texts(requirements, "requirements")
    modules = _modules(model, flavor, loader)
    modules |= {"cloudpickle"} if loader.get("by") == "cloudpickle" else set()
    missing: set[str] = set()
    for held in found:
        packaged, own = _requirements.modules_of(held)
        modules |= packaged
        missing |= own
    if "__main__" in missing:
        _notices.say(
            "the model refers to what a script or notebook defines, and loads only where that is defined again; give "
            "log_model the object itself (with cloudpickle installed), or define it in a module"
        )
    if modules_only := sorted(missing - {"__main__"}):
        _notices.say(
            f"the model refers to {', '.join(modules_only[:5])}, which belongs to no installed package; it has to "
            "be importable where the model is loaded"
        )
    if example is not None:
        modules |= {type(example).__module__.split(".")[0]} & {"pandas", "polars", "numpy", "pyarrow"}
    return _requirements.of_modules(sorted(modules))


def _modules(model: object, flavor: str, loader: dict[str, Any]) -> set[str]:
    """What the way of storing needs, whatever is in the files."""
    modules = {flavor} & {"sklearn", "xgboost", "lightgbm", "torch", "transformers", "onnx"}
    if loader["kind"] == "joblib":
        modules.add("joblib")
    if flavor == "onnx":
        # What load_model gives is a session of it, where it is installed.
        modules.add("onnxruntime")
    if flavor in ("xgboost", "lightgbm") and hasattr(model, "get_params"):
        # The packages do not ask for it, but their estimators cannot be made without.
        modules.add("sklearn")
    if loader["kind"] == "transformers":
        network = getattr(model, "model", model)
        modules |= {kind.__module__.split(".")[0] for kind in type(network).__mro__} & {"torch"}
    return modules


def _few(example: Any) -> Any:
    """The first rows of an example."""
    if hasattr(example, "iloc"):
        return example.iloc[:_EXAMPLE_ROWS]
    if hasattr(example, "shape") and not example.shape:
        return example
    if isinstance(example, dict):
        return {key: _few(value) if hasattr(value, "shape") else value for key, value in example.items()}
    if is_several_arrays(example):
        few = map(_few, example)
        if hasattr(example, "_fields"):
            return type(example)(*few)  # a named tuple
        return type(example)(few) if type(example) in (tuple, list) else example
    sliced = isinstance(example, (list, tuple)) or hasattr(example, "shape")
    return example[:_EXAMPLE_ROWS] if sliced else example


def _write_example(folder: str, example: Any) -> str:
    _check_size(example)
    held: dict[str, Any]
    kind = (described(example) or {})["kind"]
    if kind == "table":
        from .._media._tables import split_form

        held = {"kind": kind, **plain(split_form(example))}
    elif kind == "tensor":
        dense = example.toarray() if hasattr(example, "toarray") else example
        held = {"kind": kind, "type": str(getattr(dense, "dtype", "")), "data": plain(dense)}
    else:
        held = {"kind": kind, "data": plain(example)}
    with open(os.path.join(folder, _manifest.EXAMPLE), "w", encoding="utf-8") as file:
        json.dump(held, file, ensure_ascii=False)
    return _manifest.EXAMPLE


def _check_size(example: Any) -> None:
    """Refuses what would be a large text of numbers, in whatever parts it comes."""
    count, parts = 0, [example]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            parts.extend(part.values())
        elif isinstance(part, (list, tuple, set, frozenset)):
            parts.extend(part)
        shape = getattr(part, "shape", ()) if hasattr(part, "dtype") else ()
        # What has no shape counts as one, lists too: so this ends where one contains itself.
        count += math.prod(shape)
        if count > _EXAMPLE_VALUES:
            raise MisuseError(
                f"the input example has more than {_EXAMPLE_VALUES:,} values; give a few rows of it"
            )


def _predicted(model: Any, flavor: str, example: Any) -> Any:
    """What the model says to the example; None where it cannot be asked."""
    try:
        if isinstance(model, (str, os.PathLike)):
            return None
        if flavor in ("torch", "transformers"):
            # Without taking random numbers from a training that goes on.
            with sys.modules["torch"].random.fork_rng(devices=[]):
                return _predicted_by_torch(model, example)
        if flavor == "xgboost" and type(model).__name__ == "Booster":
            matrix = sys.modules["xgboost"].DMatrix
            ready = isinstance(example, matrix)
            return model.predict(example if ready else matrix(example, enable_categorical=True))
        if hasattr(model, "predict"):
            return model.predict(example)
        if hasattr(model, "transform"):
            return model.transform(example)
        return model(example) if callable(model) and flavor == "pickle" else None
    except Exception as error:
        _notices.say(
            f"the signature has no outputs, as the model failed on the input example: {type(error).__name__}",
            f": {error}",
        )
        return None


def _predicted_by_torch(model: Any, example: Any) -> Any:
    torch = sys.modules["torch"]
    if not hasattr(model, "eval"):  # a pipeline, or an optimizer
        return model.predict(example) if hasattr(model, "predict") else None
    device = getattr(next(iter(model.parameters()), None), "device", None)

    def tensor(value: Any) -> Any:
        # A copy, as there are modules that change what they are given.
        made = value.detach().clone() if hasattr(value, "detach") else torch.tensor(value)
        return made.to(device) if device is not None else made

    # Each has its own: layers may be frozen while the others are trained.
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            if hasattr(example, "to_numpy"):
                return model(tensor(example.to_numpy()))
            if is_several_arrays(example):
                return model(*map(tensor, example))
            if hasattr(example, "items"):  # of tokenizers too, whose answers are no dicts
                return model(**{key: tensor(value) for key, value in example.items()})
            return model(tensor(example))
    finally:
        for layer, training in modes:
            layer.training = training
