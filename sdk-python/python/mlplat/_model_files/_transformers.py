"""Models, tokenizers and pipelines of transformers.

What is of the package itself is stored by `save_pretrained`, whose files other programs read. Those files know the class
only by its name and how it was made by its config: what the user wrote or changed is pickled. A pipeline is pickled with
all of its settings, and its models are stored beside it.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys

from .. import _arguments
from .._errors import MisuseError
from . import _pickles, _torch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BESIDE = ("tokenizer", "feature_extractor", "image_processor", "video_processor", "processor")


def takes(model: Any) -> bool:
    """Whether `save_pretrained` and `from_pretrained` give back the same; pipelines are always taken."""
    if not hasattr(model, "save_pretrained"):
        return False
    return _is_pipeline(model) or (_is_of_the_package(type(model)) and _is_as_configured(model))


def _is_pipeline(model: Any) -> bool:
    return any(
        kind.__name__ == "Pipeline" and kind.__module__.startswith("transformers.pipelines")
        for kind in type(model).__mro__
    )


def _is_of_the_package(kind: type) -> bool:
    if kind.__module__.split(".")[0] != "transformers":
        return False
    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def _is_as_configured(model: Any) -> bool:
    """False for a model with layers that its config does not tell of, which `from_pretrained` would make anew."""
    config = getattr(model, "config", None)
    if not hasattr(model, "state_dict") or config is None:
        return True
    if getattr(config, "quantization_config", None) is not None:
        return True  # layers are put in the place of those that the config tells of, and again where it is loaded

    def structure(module: Any) -> tuple[list[tuple[str, type]], dict[str, Any]]:
        layers = [(name, type(layer)) for name, layer in module.named_modules()]
        return layers, {name: value.shape for name, value in module.state_dict().items()}

    torch = sys.modules["torch"]
    try:
        # Without memory for the weights, and without taking random numbers from the training.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            made = type(model)(copy.deepcopy(config))
        return structure(made) == structure(model)
    except Exception:
        return True  # made in a way of its own


def save(model: Any, folder: str) -> dict[str, Any]:
    """Writes a model, tokenizer or pipeline."""
    if _is_pipeline(model):
        return _save_pipeline(model, folder)
    return _save_pretrained(model, folder, "pretrained")


def _save_pretrained(model: Any, folder: str, name: str) -> dict[str, Any]:
    model.save_pretrained(os.path.join(folder, name))
    kind = type(model)
    return {"kind": "transformers", "file": name, "class": kind.__qualname__, "module": kind.__module__}


def _save_pipeline(model: Any, folder: str) -> dict[str, Any]:
    for part in (model, model.model):
        if type(part).__module__ == "__main__" and _pickles.pickler().__name__ != "cloudpickle":
            raise MisuseError(
                f"{type(part).__qualname__} is defined in a script or notebook, and would not be found where the pipeline is "
                "loaded; pip install cloudpickle, which takes it along, or put it in a module that is installed there"
            )
    pretrained = sys.modules["transformers"].PreTrainedModel
    found: dict[int, str | None] = {}
    parts: dict[str, dict[str, Any]] = {}

    def part_of(value: Any) -> str | None:
        if not isinstance(value, pretrained):
            return None
        if id(value) not in found:
            found[id(value)] = name = f"part-{len(parts)}" if parts else "model"
            parts[name] = _save_part(value, folder, f"-{len(parts)}" if parts else "")
        return found[id(value)]

    # The one that it is about comes first.
    part_of(model.model)
    loader = _pickles.save(model, folder, "pipeline.pkl", part_of)
    for name in _BESIDE:
        # The pickle has them as well, exactly as they are; this makes the directory one that transformers reads.
        beside = getattr(model, name, None)
        if beside is not None and _is_of_the_package(type(beside)):
            beside.save_pretrained(os.path.join(folder, "pretrained"))
    return {**loader, "kind": "pipeline", "task": model.task, "parts": parts}


def _save_part(model: Any, folder: str, number: str) -> dict[str, Any]:
    if takes(model):
        return _save_pretrained(model, folder, f"pretrained{number}")
    return _torch.save(model, folder, f"model{number}.pt")


def load(folder: str, loader: dict[str, Any]) -> Any:
    """What `save_pretrained` wrote."""
    transformers = _arguments.package("transformers", "the model")
    path = os.path.join(folder, loader["file"])
    if loader.get("task"):
        # Pipelines were stored like this before their settings were.
        return transformers.pipeline(loader["task"], model=path)
    kind = getattr(transformers, loader["class"], None)
    if kind is None:
        kind = getattr(importlib.import_module(loader.get("module", "transformers")), loader["class"])
    return kind.from_pretrained(path)


def load_pipeline(folder: str, loader: dict[str, Any]) -> Any:
    """The pipeline with its settings and models."""
    _arguments.package("transformers", "the model")
    torch = _arguments.package("torch", "the model")
    loaded: dict[str, Any] = {}

    def part(name: str) -> Any:
        if name not in loaded:
            held = loader["parts"][name]
            loaded[name] = (load if held["kind"] == "transformers" else _torch.load)(folder, held)
        return loaded[name]

    model = _pickles.load(folder, loader, part)
    model.device = _available(torch, model.device)
    for held in loaded.values():
        held.to(model.device)
    return model


def _available(torch: Any, device: Any) -> Any:
    """The device of the pipeline, or the processor where there is none of its kind."""
    try:
        torch.empty(0, device=device)
    except Exception:
        return torch.device("cpu")
    return device
