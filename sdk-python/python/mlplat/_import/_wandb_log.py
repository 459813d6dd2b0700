"""The file `run-<id>.wandb`: a log of records in blocks, each record a protobuf message.

Invariant: a log that ends in the middle of a record, as a killed process leaves it, gives all records before. Damage
elsewhere is an error, never silently less. The container is that of LevelDB's logs: blocks of 32 KiB, chunks with a
checksum, a length and a type; only the few fields that an import needs are read of the messages.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from .._errors import DataLossError

Value = int | bytes
"""What a field of a message has on the wire: a number (also the bits of a fixed one), or bytes."""

_BLOCK = 32 * 1024
_HEADER = struct.Struct("<4sHB")
_CHUNK = struct.Struct("<IHB")
_IDENT, _MAGIC = b":W&B", 0xBEE1
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MAX_RECORD = 1 << 30


class DamagedLogError(DataLossError):
    """The file is not a log of wandb, or its content is not what was written."""


def read_records(path: str) -> Iterator[bytes]:
    """The records of a log, in order."""
    with open(path, "rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or _HEADER.unpack(header)[:2] != (_IDENT, _MAGIC):
            raise DamagedLogError(f"{path} is not a log of wandb")
        version = header[-1]
        if version not in (0, 1):
            raise DamagedLogError(f"{path} is a log of wandb of the unknown version {version}")
        whole: bytearray | None = None
        for kind, data in _chunks(file, path):
            if kind == _FULL:
                yield data
                whole = None
            elif kind == _FIRST:
                whole = bytearray(data)
            elif whole is None:
                raise DamagedLogError(f"{path} has a part of a record without its beginning")
            else:
                whole += data
                if len(whole) > _MAX_RECORD:
                    raise DamagedLogError(f"{path} has a record of more than {_MAX_RECORD} bytes")
                if kind == _LAST:
                    yield bytes(whole)
                    whole = None


def _chunks(file: BinaryIO, path: str) -> Iterator[tuple[int, bytes]]:
    at = _HEADER.size
    while True:
        left = _BLOCK - at % _BLOCK
        if left < _CHUNK.size:
            at += len(file.read(left))
            continue
        head = file.read(_CHUNK.size)
        if len(head) < _CHUNK.size:
            return
        crc, length, kind = _CHUNK.unpack(head)
        if (crc, length, kind) == (0, 0, 0):
            at += _CHUNK.size + len(file.read(left - _CHUNK.size))
            continue
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or length > left - _CHUNK.size:
            raise DamagedLogError(f"{path} is damaged at byte {at}: there is no chunk")
        data = file.read(length)
        if len(data) < length:
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
            if not file.read(1):
                return  # the last chunk was not written to its end
            raise DamagedLogError(f"{path} is damaged at byte {at}: the checksum does not fit")
        at += _CHUNK.size + length
        yield kind, data


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """The fields of a protobuf message: number and value, in the order of the wire."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
        elif wire == 1:
            yield number, int.from_bytes(_slice(message, at, 8), "little")
            at += 8
        elif wire == 2:
            length, at = _varint(message, at)
            yield number, _slice(message, at, length)
            at += length
        elif wire == 5:
            yield number, int.from_bytes(_slice(message, at, 4), "little")
            at += 4
        else:
            raise DamagedLogError(f"a message has a field of the unknown wire type {wire}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise DamagedLogError("a message ends in the middle of a number")
        byte = message[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def _slice(message: bytes, at: int, length: int) -> bytes:
    if at + length > len(message):
        raise DamagedLogError("a message ends in the middle of a field")
    return message[at : at + length]


def signed(value: Value | None) -> int:
    """A whole number of protobuf, which has the negative ones as great ones."""
    if not isinstance(value, int):
        return 0
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: Value | None) -> str:
    """A text of protobuf."""
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def message(value: Value | None) -> bytes:
    """A message inside of another one."""
    return value if isinstance(value, bytes) else b""


def double(value: Value | None) -> float:
    """A double of protobuf."""
    return struct.unpack("<d", (value if isinstance(value, int) else 0).to_bytes(8, "little"))[0]
