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


def of_modules(modules: Iterable[str]) -> list[str]:
    """The distributions of some modules, and those of their dependencies that are imported, as `name==version`."""
    import importlib.metadata as metadata

    providers = _distributions()
    wanted = [name for module in modules for name in providers.get(module.split(".")[0], [])]
    imported = {name for module in list(sys.modules) for name in providers.get(module.split(".")[0], [])}
    canonical = {_canonical(name) for name in imported}
    found: dict[str, str] = {}
    while wanted:
        name = wanted.pop()
        if _canonical(name) in found or _canonical(name) == "mlplat":
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[_canonical(name)] = f"{distribution.metadata['Name']}=={distribution.version}"
        for requirement in distribution.requires or []:
            match = _NAME.match(requirement)
            if match and "extra ==" not in requirement and _canonical(match[1]) in canonical:
                wanted.append(match[1])
    return [found[name] for name in sorted(found)]


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
    global _providers
    if _providers is None:
        import importlib.metadata as metadata

        _providers = metadata.packages_distributions()
    return _providers


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_file(module: object) -> bool:
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and os.path.exists(path)
