"""Which packages a model needs, with the versions that it was made with."""

from __future__ import annotations

import contextlib
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_NAME = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_MAX_OPCODES = 3_000_000
_MAX_DECOMPRESSED = 1 << 28
# How a pickle refers to a class or function: a short text with the module, one with the name or an earlier one, and the
# operation that looks it up; or, in older protocols, one operation with both.
_STACK_GLOBAL = re.compile(rb"\x8c(.)([A-Za-z_][\w.]*)\x94?(?:\x8c.[\w.]+\x94?|h.|j....)\x93", re.DOTALL)
_GLOBAL = re.compile(rb"c([A-Za-z_][\w.]*)\n[A-Za-z_][\w.]*\n")
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


def modules_in_pickle(path: str, whole: bool = True) -> tuple[set[str], set[str]]:
    """Modules that a pickle refers to: those of installed packages, and those of files that belong to none.

    Nothing of it is executed. `whole` is False for what joblib wrote, which has the bytes of arrays in between.
    """
    with _content(path) as content:
        exact = {
            found[2].decode() for found in _STACK_GLOBAL.finditer(content) if found[1][0] == len(found[2])
        }
        exact |= {found[1].decode() for found in _GLOBAL.finditer(content)}
        texts = _texts(content) if whole else set()
    packaged = {name.split(".")[0] for name in exact} & _distributions().keys()
    own: set[str] = set()
    for name in exact | texts:
        # Names of modules are among the texts of a pickle too, and modules that it refers to are imported.
        module = sys.modules.get(name)
        if module is None or not name.replace(".", "_").isidentifier():
            continue
        root = name.split(".")[0]
        if root in _distributions():
            packaged.add(root)
        elif name not in exact and "subimport" not in texts:
            continue  # only a text, such as the name of an attribute; cloudpickle imports modules by a `subimport`
        elif root not in sys.stdlib_module_names and root != "__main__" and _is_file(module):
            own.add(name)
    return packaged, own


def _texts(content: Any) -> set[str]:
    import pickletools

    found: set[str] = set()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if isinstance(argument, str) and len(argument) < 200:
                found.add(argument.split(" ")[0] if opcode.name == "GLOBAL" else argument)
            if count > _MAX_OPCODES:
                break
    except (ValueError, OverflowError, MemoryError):
        pass  # no pickle, or not only one
    return found


@contextlib.contextmanager
def _content(path: str) -> Iterator[Any]:
    """The bytes of a pickle: of the file, of what joblib compressed in it, or of the one within a file of PyTorch."""
    import mmap

    if not os.path.getsize(path):
        yield b""  # nothing can be mapped
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content[:6]
        if start.startswith(b"PK") and (pickled := _of_torch(path)) is not None:
            yield pickled
        elif start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00", b"\x78")):
            yield _decompressed(path, start)
        else:
            yield content


def _of_torch(path: str) -> bytes | None:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            return None if name is None else archive.read(name)
    except zipfile.BadZipFile:
        return None


def _decompressed(path: str, start: bytes) -> bytes:
    import bz2
    import gzip
    import lzma
    import zlib

    try:
        if start.startswith(b"\x78"):
            with open(path, "rb") as file:
                return zlib.decompressobj().decompress(file.read(), _MAX_DECOMPRESSED)
        kind = gzip if start.startswith(b"\x1f\x8b") else bz2 if start.startswith(b"BZh") else lzma
        with kind.open(path) as file:
            return file.read(_MAX_DECOMPRESSED)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""  # not compressed, or not by these


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
