"""The columns of a history as plain arrays, taken from Arrow without any package for it.

Invariant: values come bit by bit and times as the whole numbers that are stored, also those that no `datetime` can be.
"""

from __future__ import annotations

import ctypes
from array import array

from .. import _native

Columns = tuple["array[int]", "array[int]", "array[float]"]
"""Steps, microseconds since 1970, values."""


class _Array(ctypes.Structure):
    """`ArrowArray` of the C data interface."""


_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ("private_data", ctypes.c_void_p),
]


class _Stream(ctypes.Structure):
    """`ArrowArrayStream`; the capsule releases it."""

    _fields_ = [
        ("get_schema", ctypes.c_void_p),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_last_error", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    ]


_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def columns_of(history: _native.Batches) -> Columns:
    """Steps, times and values of a history: three columns of 8 bytes each, without nulls."""
    names = [name for name, _ in history.columns]
    if names != ["step", "timestamp", "value"]:
        raise ValueError(f"a history has the columns {names}")
    found: Columns = (array("q"), array("q"), array("d"))
    capsule = history.__arrow_c_stream__()
    at = _pointer_of(capsule, b"arrow_array_stream")
    stream = _Stream.from_address(at)
    while True:
        batch = _Array()
        if stream.get_next(at, ctypes.addressof(batch)):
            raise ValueError("a history cannot be read")
        if not batch.release:
            return found
        try:
            for column, child in zip(found, batch.children[: batch.n_children], strict=True):
                inner = child.contents
                if batch.length:
                    begin = inner.buffers[1] + 8 * (batch.offset + inner.offset)
                    column.frombytes(ctypes.string_at(begin, 8 * batch.length))
        finally:
            batch.release(ctypes.addressof(batch))
