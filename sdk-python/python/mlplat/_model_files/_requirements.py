"""Which packages a model needs, with the versions that it was made with."""

from __future__ import annotations

import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._pickle_scan import Found

_NAME = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_providers: Mapping[str, list[str]] | None = None
# Where packages are installed, and when that changed last.
_places: list[tuple[str, int]] = []
# Canonical name of a distribution -> its line, and what it needs.
_known: dict[str, tuple[str, list[str]]] = {}


def of_modules(modules: Iterable[str]) -> list[str]:
    """The distributions of some modules, and those of their dependencies that are imported, as `name==version`."""
    providers = _distributions()
    wanted = [name for module in modules for name in providers.get(module.split(".")[0], [])]
    roots = {module.partition(".")[0] for module in list(sys.modules)}
    imported = {_canonical(name) for root in roots for name in providers.get(root, ())}
    found: dict[str, str] = {}
    while wanted:
        name = _canonical(wanted.pop())
        if name in found or name == "mlplat":
            continue
        line, needs = _described(name)
        if line:
            found[name] = line
            wanted.extend(need for need in needs if need in imported)
    return [found[name] for name in sorted(found)]


def _described(name: str) -> tuple[str, list[str]]:
    """`name==version` of a distribution, and what it needs whatever its extras; an empty text where there is none."""
    import importlib.metadata as metadata

    if name not in _known:
        try:
            held = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            _known[name] = "", []
        else:
            needs = [one for one in held.requires or [] if "extra ==" not in one]
            names = [_canonical(match[1]) for match in map(_NAME.match, needs) if match]
            _known[name] = f"{held.metadata['Name']}=={held.version}", names
    return _known[name]


def modules_of(found: Found) -> tuple[set[str], set[str]]:
    """Modules that a pickle refers to: those of installed packages, and those of files that belong to none, or `__main__`."""
    packages = _distributions().keys()
    packaged = {name.split(".")[0] for name in found.modules} & packages
    # A function imports modules by their names; what is none of those that are imported is another name.
    packaged |= {name.split(".")[0] for name in found.in_code if name in sys.modules} & packages
    own: set[str] = set()
    for name in found.modules:
        root = name.split(".")[0]
        if root in packages or root in sys.stdlib_module_names:
            continue
        if root == "__main__" or _is_file(sys.modules.get(name)):
            own.add(name)
    return packaged, own


def of_file(path: str) -> list[str]:
    """The lines of a requirements file."""
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return [line for line in lines if line and not line.startswith("#")]


def differences(requirements: Iterable[str]) -> list[str]:
    """What is installed in other versions than these, or not at all, in words."""
    import importlib.metadata as metadata

    found: list[str] = []
    for requirement in requirements:
        name, exact, version = requirement.partition("==")
        if not exact or not _NAME.match(name):
            continue
        version = version.split(";")[0].strip()
        try:
            here = metadata.version(name.strip())
        except metadata.PackageNotFoundError:
            here = "missing"
        if here != version:
            found.append(f"{name.strip()} {version} (here: {here})")
    return found


def _distributions() -> Mapping[str, list[str]]:
    """Which distributions brought a module. It takes long to read, and is read again once something was installed."""
    global _providers, _places
    places = [(path, _changed(path)) for path in sys.path if path.endswith("-packages")]
    if _providers is None or places != _places:
        import importlib.metadata as metadata

        _providers, _places = metadata.packages_distributions(), places
        _known.clear()
    return _providers


def _changed(path: str) -> int:
    """When something came into a directory or left it."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_file(module: object) -> bool:
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and os.path.exists(path)
