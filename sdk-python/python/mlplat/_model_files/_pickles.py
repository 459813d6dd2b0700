"""Models that are pickled: by cloudpickle where it is installed, as it also takes what a script or a notebook defines."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading

from .. import _arguments
from .._errors import MisuseError, MlplatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


_lock = threading.Lock()
# Modules that we have registered with cloudpickle, and how many write pickles with them just now.
_registered: dict[str, int] = {}


def pickler() -> Any:
    """cloudpickle where it is installed, else pickle."""
    try:
        import cloudpickle  # pyright: ignore[reportMissingImports]
    except ImportError:
        return pickle
    return cloudpickle


@contextlib.contextmanager
def pickling() -> Iterator[Any]:
    """:func:`pickler`, and meanwhile code that transformers took from beside a model is stored with what is pickled.

    That code is in a package that only this process has. Afterwards cloudpickle treats it as it did before.
    """
    names = [
        name
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "transformers_modules" and module is not None
    ]
    found = pickler()
    if found is pickle or not names:
        yield found
        return
    import cloudpickle  # pyright: ignore[reportMissingImports]

    with _lock:
        # What the user has registered stays.
        ours = [
            name
            for name in names
            if name in _registered or name not in cloudpickle.list_registry_pickle_by_value()
        ]
        for name in ours:
            cloudpickle.register_pickle_by_value(sys.modules[name])
            _registered[name] = _registered.get(name, 0) + 1
    try:
        yield found
    finally:
        with _lock:
            for name in ours:
                _registered[name] -= 1
                if not _registered[name]:
                    del _registered[name]
                    with contextlib.suppress(KeyError, ValueError):
                        cloudpickle.unregister_pickle_by_value(sys.modules[name])


def takes(value: Any) -> bool:
    """Whether a value can be pickled."""
    try:
        with pickling() as module:
            module.dumps(value)
    except Exception:
        return False
    return True


def save(
    model: Any, folder: str, name: str = "model.pkl", part_of: Callable[[Any], str | None] | None = None
) -> dict[str, Any]:
    """Pickles a model. What `part_of` has a name for is stored elsewhere, and the pickle has that name only."""
    by = "pickle"
    try:
        with pickling() as module, open(os.path.join(folder, name), "wb") as file:
            by = module.__name__
            writer = module.Pickler(file, protocol=5)
            if part_of is not None:
                writer = type("Pickler", (module.Pickler,), {"persistent_id": _named_by(part_of)})(
                    file, protocol=5
                )
            writer.dump(model)
    except (OSError, MlplatError):
        raise
    except Exception as error:
        hint = "" if by == "cloudpickle" else "; pip install cloudpickle takes more kinds of objects"
        raise MisuseError(
            f"the {type(model).__qualname__} cannot be pickled: {type(error).__name__}: {error}{hint}"
        ) from error
    return {"kind": "pickle", "file": name, "by": by}


def _named_by(part_of: Callable[[Any], str | None]) -> Callable[[Any, Any], str | None]:
    return lambda _, value: part_of(value)


def load(folder: str, loader: dict[str, Any], part: Callable[[str], Any] | None = None) -> Any:
    """The object of a pickle; `part` gives what is stored elsewhere under a name."""
    with open(os.path.join(folder, loader["file"]), "rb") as file:
        reader = pickle.Unpickler(file)
        if part is not None:
            reader = _WithParts(file, part)
        return reader.load()


class _WithParts(pickle.Unpickler):
    def __init__(self, file: Any, part: Callable[[str], Any]) -> None:
        super().__init__(file)
        self._part = part

    def persistent_load(self, pid: Any) -> Any:
        return self._part(pid)


def load_joblib(folder: str, loader: dict[str, Any]) -> Any:
    """The object of a file of joblib."""
    return _arguments.package("joblib", "the model").load(os.path.join(folder, loader["file"]))
