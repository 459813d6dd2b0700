"""PNG files from arrays of bytes, and their captions, so that images need no imaging library."""

from __future__ import annotations

import struct
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}


def encode(pixels: Any, caption: str = "") -> bytes:
    """The file of an array of uint8: height x width x channels (grey, grey + alpha, RGB, RGBA)."""
    import numpy

    height, width, channels = pixels.shape
    rows = numpy.empty((height, 1 + width * channels), dtype=numpy.uint8)
    flat = numpy.ascontiguousarray(pixels).reshape(height, width * channels)
    # Filter 2: each row as its difference from the one above, which compresses better.
    rows[:, 0] = 2
    rows[0, 1:] = flat[0]
    numpy.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if caption:
        chunks.append((b"iTXt", b"Description\0\0\0\0\0" + caption.encode()))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def caption(head: bytes) -> str:
    """The caption of a file that begins like this; empty where there is none."""
    at = 8
    while head[:8] == b"\x89PNG\r\n\x1a\n" and at + 8 <= len(head):
        length, kind = struct.unpack(">I4s", head[at : at + 8])
        data = head[at + 8 : at + 8 + length]
        if kind == b"IDAT" or len(data) < length:
            break
        if kind == b"iTXt" and data.startswith(b"Description\0\0"):
            # Language and translated keyword come before the text.
            return data[14:].split(b"\0", 2)[-1].decode(errors="replace")
        at += length + 12
    return ""
