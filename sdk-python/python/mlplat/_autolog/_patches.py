"""Patches of other libraries: put in when a module is imported, taken back on demand.

Invariant: a patch is undone only where it is still in place; one that somebody wrapped stays, and passes through, for
it asks before each call whether its integration is on.
"""

from __future__ import annotations

import inspect
import sys
import threading
import weakref

from ._session import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_lock = threading.RLock()
_absent: Any = object()
# Integration -> (owner, name, what its __dict__ had, what was put there).
_made: dict[str, list[tuple[Any, str, Any, Any]]] = {}
# Module -> integrations that wait for its import.
_waiting: dict[str, dict[str, Callable[[str], None]]] = {}
# What is patched already.
_installed: set[tuple[str, str]] = set()
# Function that was put somewhere -> the one that it wraps.
_originals: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def original_of(function: Any) -> Any:
    """What a patch wraps; None where it is no patch."""
    return _originals.get(function) if inspect.isfunction(function) else None


def note(replacement: Any) -> None:
    """Remembers what a function wraps that is put somewhere."""
    original = getattr(replacement, "__wrapped__", None)
    if inspect.isfunction(replacement) and original is not None:
        _originals[replacement] = original


def replace(integration: str, owner: Any, name: str, replacement: Any) -> None:
    """Puts something in the place of an attribute of a class or module."""
    note(replacement)
    with _lock:
        before = vars(owner).get(name, _absent)
        setattr(owner, name, replacement)
        _made.setdefault(integration, []).append((owner, name, before, vars(owner)[name]))


def undo(integration: str) -> None:
    """Takes all patches of an integration back, and waits for no import any more."""
    with _lock:
        for waiting in _waiting.values():
            waiting.pop(integration, None)
        _installed.difference_update({entry for entry in _installed if entry[0] == integration})
        for owner, name, before, replacement in reversed(_made.pop(integration, [])):
            if vars(owner).get(name) is not replacement:
                continue
            if before is _absent:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        if not any(_waiting.values()) and _finder in sys.meta_path:
            sys.meta_path.remove(_finder)


def when_imported(integration: str, module: str, install: Callable[[str], None]) -> None:
    """Calls `install` with the name of the module: now where it is imported already, else right after its import."""
    if module in sys.modules and not _is_loading(sys.modules[module]):
        _install(integration, module, install)
        return
    with _lock:
        _waiting.setdefault(module, {})[integration] = install
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)


def _is_loading(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _install(integration: str, module: str, install: Callable[[str], None]) -> None:
    if (integration, module) in _installed:
        return
    _installed.add((integration, module))
    try:
        install(module)
    except Exception as error:
        warn_once(integration, f"it could not be set up for {module}", error)


class _Finder:
    """Finds modules as the other finders do, and has those that are waited for say when they are loaded."""

    def __init__(self) -> None:
        self.searching = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _waiting.get(name) or getattr(self.searching, "name", None) == name:
            return None
        self.searching.name = name
        try:
            spec = self._ask_others(name, path, target)
        finally:
            self.searching.name = None
        if spec is not None and spec.loader is not None:
            _tell_after(name, spec.loader)
        return spec

    def _ask_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                return spec
        return None


def _tell_after(name: str, loader: Any) -> None:
    """Has this loader call the integrations after it has run the module."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        # The loader is what others see of the module; it goes back to what it was.
        if vars(loader).get("exec_module") is exec_module:
            del loader.exec_module
        execute(module)
        with _lock:
            waiting = _waiting.pop(name, {})
        # Without the lock: they import, and so may the thread that has it.
        for integration, install in waiting.items():
            _install(integration, name, install)

    try:
        loader.exec_module = exec_module
    except (AttributeError, TypeError) as error:
        warn_once(name, "its import cannot be watched; import it before mlplat.autolog()", error)


_finder = _Finder()
