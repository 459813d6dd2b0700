"""Models of xgboost and lightgbm: their trees in their own formats, which other languages read.

The classes for scikit-learn have more than trees. Params of xgboost's are in the manifest, with their types; lightgbm's are
pickled, as they know the labels.
"""

from __future__ import annotations

import math
import os
import sys

from .. import _arguments
from . import _notices, _pickles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLAIN = (type(None), bool, int, str)


def save_xgboost(model: Any, folder: str) -> dict[str, Any]:
    """Writes a booster or estimator."""
    name = type(model).__name__
    if not hasattr(sys.modules["xgboost"], name) or not _has_trees(model):
        return _pickles.save(model, folder)
    model.save_model(os.path.join(folder, "model.ubj"))
    held: dict[str, Any] = {"kind": "xgboost", "file": "model.ubj", "class": name}
    if not hasattr(model, "get_params"):
        return held
    held["params"] = {}
    others: dict[str, Any] = {}
    for param, told in model.get_params().items():
        value = vars(model).get(param, told)  # a generator of random numbers is told as one of these
        try:
            held["params"][param] = _encoded(value)
        except TypeError:
            others[param] = value
    # These belong to a training, and may hold anything.
    others.pop("callbacks", None)
    if lost := [param for param in sorted(others) if not _pickles.takes(others[param])]:
        _notices.say(f"the {name} is stored without {', '.join(lost)}, which cannot be pickled")
    others = {param: value for param, value in others.items() if param not in lost}
    if others:
        held["other_params"] = _pickles.save(others, folder, "params.pkl")
    return held


def load_xgboost(folder: str, loader: dict[str, Any]) -> Any:
    """The booster or estimator."""
    xgboost = _arguments.package("xgboost", "the model")
    params = {name: _decoded(value) for name, value in loader.get("params", {}).items()}
    if "other_params" in loader:
        params |= _pickles.load(folder, loader["other_params"])
    model = getattr(xgboost, loader["class"])(**params)
    model.load_model(os.path.join(folder, loader["file"]))
    for name, value in params.items():
        # Some of them it has put in the place of what the user gave.
        if name in vars(model):
            setattr(model, name, value)
    return model


def _has_trees(model: Any) -> bool:
    """False for an estimator that was not fitted."""
    return type(model).__name__ == "Booster" or model.__sklearn_is_fitted__()


def _encoded(value: Any) -> Any:
    """A param as JSON that `_decoded` makes the same of, with its type."""
    if type(value) in _PLAIN:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) is list:
        return [_encoded(item) for item in value]
    if type(value) is tuple:
        return {"tuple": [_encoded(item) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _encoded(item) for key, item in value.items()}}
    if type(value).__module__ == "numpy" and _is_exact(getattr(value, "dtype", None)):
        array: Any = value
        return {
            "numpy": array.dtype.str,
            "shape": list(array.shape),
            "value": _encoded(array.ravel().tolist()),
        }
    raise TypeError


def _is_exact(kind: Any) -> bool:
    """Whether values of a type of NumPy are in full as Python's: the longest numbers are not."""
    return kind is not None and (kind.kind == "U" or (kind.kind in "biuf" and kind.itemsize <= 8))


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "float" in value:
        return float(value["float"])
    if "tuple" in value:
        return tuple(_decoded(item) for item in value["tuple"])
    if "dict" in value:
        return {key: _decoded(item) for key, item in value["dict"].items()}
    import numpy

    array = numpy.array(_decoded(value["value"]), dtype=value["numpy"])
    return array.reshape(value["shape"]) if value["shape"] else array[0]


def save_lightgbm(model: Any, folder: str) -> dict[str, Any]:
    """Writes a booster or estimator."""
    if not _has_trees(model):
        return _pickles.save(model, folder)
    booster = model if type(model).__name__ == "Booster" else model.booster_
    booster.save_model(os.path.join(folder, "model.txt"))
    if booster is model:
        return {"kind": "lightgbm", "file": "model.txt", "best_iteration": model.best_iteration}
    # The classes for scikit-learn know more than the trees, such as the labels.
    return {**_pickles.save(model, folder, "wrapper.pkl"), "trees": "model.txt"}


def load_lightgbm(folder: str, loader: dict[str, Any]) -> Any:
    """The booster."""
    lightgbm = _arguments.package("lightgbm", "the model")
    model = lightgbm.Booster(model_file=os.path.join(folder, loader["file"]))
    model.best_iteration = loader.get("best_iteration", model.best_iteration)
    return model
