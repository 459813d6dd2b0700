"""What a pickle refers to, found without executing anything of it.

The pickle is read by the machine of Python's own `pickle`, with placeholders for all that it would import, call and make. So
classes, functions and modules are those that loading would import, and no text that only looks like their names. Files of
joblib are pickles with the bytes of arrays in between, whose sizes are told by the objects before them.
"""

from __future__ import annotations

import io
import math
import pickle
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

# Of a pickle of many small objects what comes later is not read: a second or two are enough for a log.
_MAX_OPERATIONS = 3_000_000
_MAX_DECOMPRESSED = 1 << 28
_MAX_PICKLES = 5  # old files of PyTorch are several
_LONG = 1000
_DTYPE = re.compile(r"^[<>|=]?([a-zA-Z])(\d+)$")


class Found:
    """Modules that a pickle refers to."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        """Of classes and functions, and those that are referred to themselves."""
        self.in_code: set[str] = set()
        """Names in the code of functions that are pickled with it, among them the modules that this imports."""
        self.by_joblib = False
        """Whether there are arrays in between, as joblib writes them."""


def scan(file: BinaryIO) -> Found:
    """Reads a pickle up to its end, or to where it is none."""
    found = Found()
    operations = _Limited(_DISPATCH)
    try:
        for _ in range(_MAX_PICKLES):
            _Machine(file, found, operations).load()
    except Exception:
        pass  # its end, or no pickle: who loads it is told
    return found


def scan_file(path: str) -> Found:
    """Reads the pickle of a file, of what joblib compressed in it, or the one within a file of PyTorch."""
    with open(path, "rb") as file:
        start = file.peek(6)[:6]
        if start.startswith(b"PK") and (pickled := _of_torch(path)) is not None:
            return scan(io.BytesIO(pickled))
        if not start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00", b"\x78")):
            return scan(file)
    found = scan(io.BytesIO(_decompressed(path, start)))
    found.by_joblib = bool(found.modules)  # nobody else compresses
    return found


def _of_torch(path: str) -> bytes | None:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            if name is None:
                return None
            with archive.open(name) as file:
                return file.read(_MAX_DECOMPRESSED)
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


class _Made:
    """In the place of what the pickle makes or refers to."""

    __slots__ = ("arguments", "kind", "state")

    def __init__(self, kind: str, arguments: Any = ()) -> None:
        self.kind = kind
        self.arguments = arguments
        self.state: Any = None


# The machine in C cannot be changed like this; joblib too builds on the one in Python.
class _Machine(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    stack: Any
    append: Any
    pop_mark: Any
    read: Any

    def __init__(self, file: BinaryIO, found: Found, operations: _Limited) -> None:
        super().__init__(file, encoding="latin-1")
        self._file = file
        self._found = found
        # Pickles within pickles share what is left of them.
        self._operations = operations
        self.dispatch = operations  # pyright: ignore[reportAttributeAccessIssue]

    def find_class(self, module: str, name: str) -> _Made:
        self._found.modules.add(module)
        return _Made(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Made:
        return _Made("persistent")

    def get_extension(self, code: int) -> None:
        import copyreg

        known: Any = copyreg._inverted_registry.get(code)  # pyright: ignore[reportAttributeAccessIssue]
        self.append(self.find_class(*known) if known else _Made("extension"))

    def _make(self, kind: Any, arguments: Any) -> _Made:
        made = _Made(kind.kind if isinstance(kind, _Made) else "", arguments)
        if made.kind.endswith((".__newobj__", "._reconstructor")) and isinstance(arguments[0], _Made):
            made.kind = arguments[0].kind  # how older protocols make objects
        if made.kind.endswith(".subimport"):
            # How cloudpickle refers to a module.
            self._found.modules.update(name for name in arguments if isinstance(name, str))
        elif made.kind.endswith("._builtin_type") and arguments == ("CodeType",):
            made.kind = "code"
        elif made.kind == "code" or made.kind.endswith(".CodeType"):
            # Its constants and its names come first.
            tuples = [part for part in arguments if isinstance(part, tuple)][:2]
            self._found.in_code.update(name for part in tuples for name in part if isinstance(name, str))
        return made

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(self._make(klass, tuple(args)))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, _Made):
            return
        if made.kind == "numpy.dtype":
            made.state = state
        elif made.kind == "joblib.numpy_pickle.NumpyArrayWrapper":
            self._found.by_joblib = True
            self._pass_array(state)

    def _pass_array(self, wrapper: dict[str, Any]) -> None:
        dtype = wrapper["dtype"]
        [(kind, size)] = _DTYPE.findall(dtype.arguments[0])
        flags = dtype.state[7] if len(dtype.state or ()) > 7 else 0
        if kind == "O" or flags & 1:
            # An array of objects is a pickle of its own.
            _Machine(self._file, self._found, self._operations).load()
            return
        if wrapper.get("numpy_array_alignment_bytes") is not None:
            self._pass(self._file.read, self._file.read(1)[0])
        size = int(size) * (4 if kind == "U" else 1)
        self._pass(self._file.read, math.prod(wrapper["shape"]) * size)

    @staticmethod
    def _pass(read: Callable[[int], bytes], size: int) -> None:
        while size > 0 and (block := read(min(size, 1 << 20))):
            size -= len(block)

    def load_appends(self) -> None:
        self.pop_mark()

    def load_append(self) -> None:
        self.stack.pop()

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def load_setitem(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._set(items)

    def _set(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is dict:
            pairs = zip(items[::2], items[1::2], strict=False)
            # Joblib's description of an array is all that is looked into.
            self.stack[-1].update((key, value) for key, value in pairs if type(key) is str)

    def load_additems(self) -> None:
        self.pop_mark()

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.append(frozenset())

    def load_dict(self) -> None:
        self.pop_mark()
        self.append({})

    def load_next_buffer(self) -> None:
        self.append(None)

    def load_readonly_buffer(self) -> None:
        pass

    def _load_bytes(self, digits: int) -> None:
        self._pass(self.read, int.from_bytes(self.read(digits), "little"))
        self.append(b"")

    def _load_text(self, digits: int) -> None:
        size = int.from_bytes(self.read(digits), "little")
        if size <= _LONG:
            self.append(str(self.read(size), "utf-8", "surrogatepass"))
            return
        self._pass(self.read, size)
        self.append("")


class _Limited(dict[int, "Callable[[Any], None]"]):
    """The operations, until there were too many of them."""

    left = _MAX_OPERATIONS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise EOFError
        return super().__getitem__(code)


_DISPATCH: dict[int, Callable[[Any], None]] = {
    **pickle._Unpickler.dispatch,  # pyright: ignore[reportAttributeAccessIssue]
    **{
        code[0]: operation
        for code, operation in {
            pickle.REDUCE: _Machine.load_reduce,
            pickle.NEWOBJ: _Machine.load_reduce,
            pickle.NEWOBJ_EX: _Machine.load_newobj_ex,
            pickle.BUILD: _Machine.load_build,
            pickle.APPENDS: _Machine.load_appends,
            pickle.APPEND: _Machine.load_append,
            pickle.SETITEMS: _Machine.load_setitems,
            pickle.SETITEM: _Machine.load_setitem,
            pickle.ADDITEMS: _Machine.load_additems,
            pickle.FROZENSET: _Machine.load_frozenset,
            pickle.DICT: _Machine.load_dict,
            pickle.NEXT_BUFFER: _Machine.load_next_buffer,
            pickle.READONLY_BUFFER: _Machine.load_readonly_buffer,
            pickle.BINBYTES: lambda machine: machine._load_bytes(4),
            pickle.BINBYTES8: lambda machine: machine._load_bytes(8),
            pickle.BYTEARRAY8: lambda machine: machine._load_bytes(8),
            pickle.BINUNICODE: lambda machine: machine._load_text(4),
            pickle.BINUNICODE8: lambda machine: machine._load_text(8),
        }.items()
    },
}
