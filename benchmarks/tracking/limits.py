"""What the machine itself can do, measured in the same run: the physical limit beside each row."""

from __future__ import annotations

import lzma
import os
import socket
import statistics
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    memcpy_bytes_s: float
    append_us: float
    write_bytes_s: float
    fsync_ms: float
    round_trip_us: float
    loopback_bytes_s: float
    small_files_s: float

    def __str__(self) -> str:
        return (
            f"memcpy {self.memcpy_bytes_s / 1e9:.1f} GB/s; write(2) of 64 bytes {self.append_us:.2f} us; "
            f"sequential write + fsync {self.write_bytes_s / 1e6:.0f} MB/s; 4 KB + fdatasync {self.fsync_ms:.2f} ms; "
            f"loopback round trip {self.round_trip_us:.0f} us, {self.loopback_bytes_s / 1e9:.2f} GB/s; "
            f"1,000 files of 4 KB {self.small_files_s * 1e3:.0f} ms"
        )


def measure(folder: Path, megabytes: int) -> Limits:
    return Limits(
        memcpy_bytes_s=memcpy(),
        append_us=append(folder / "append"),
        write_bytes_s=sequential_write(folder / "sequential", megabytes),
        fsync_ms=small_fsync(folder / "fsync"),
        round_trip_us=round_trip(),
        loopback_bytes_s=loopback(megabytes),
        small_files_s=small_files(folder / "small"),
    )


def median(measure_once, rounds: int = 5) -> float:
    return statistics.median(measure_once() for _ in range(rounds))


def memcpy() -> float:
    source, target = bytearray(256 * MIB), bytearray(256 * MIB)

    def once() -> float:
        began = time.perf_counter()
        memoryview(target)[:] = source
        return len(source) / (time.perf_counter() - began)

    return median(once)


def append(path: Path) -> float:
    record = bytes(64)

    def once() -> float:
        with path.open("wb", buffering=0) as file:
            write, number = os.write, file.fileno()
            began = time.thread_time()
            for _ in range(20_000):
                write(number, record)
            return (time.thread_time() - began) / 20_000 * 1e6

    return median(once)


def sequential_write(path: Path, megabytes: int) -> float:
    block = os.urandom(MIB)

    def once() -> float:
        began = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            for _ in range(megabytes):
                file.write(block)
            os.fsync(file.fileno())
        return megabytes * MIB / (time.perf_counter() - began)

    result = median(once, 3)
    path.unlink()
    return result


def small_fsync(path: Path) -> float:
    """4 KB over others, as a database does in its log: the file does not grow, so only the data must be waited for."""
    with path.open("wb", buffering=0) as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())

        def once() -> float:
            began = time.perf_counter()
            file.seek(0)
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            return (time.perf_counter() - began) * 1e3

        return median(once, 50)


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def round_trip() -> float:
    client, server = _pair()

    def echo() -> None:
        while received := server.recv(64):
            server.send(received)

    thread = threading.Thread(target=echo)
    thread.start()

    def once() -> float:
        began = time.perf_counter()
        client.send(b"x" * 64)
        client.recv(64)
        return (time.perf_counter() - began) * 1e6

    result = median(once, 2000)
    client.close()
    thread.join()
    server.close()
    return result


def loopback(megabytes: int) -> float:
    client, server = _pair()
    wanted = megabytes * MIB

    def send() -> None:
        block = bytes(MIB)
        for _ in range(megabytes):
            server.sendall(block)

    thread = threading.Thread(target=send)
    began = time.perf_counter()
    thread.start()
    buffer, received = bytearray(MIB), 0
    while received < wanted:
        received += client.recv_into(buffer)
    took = time.perf_counter() - began
    thread.join()
    client.close()
    server.close()
    return wanted / took


def small_files(folder: Path) -> float:
    """1,000 files of 4 KB into one folder, and one fsync of it."""
    folder.mkdir()
    content = os.urandom(4096)
    began = time.perf_counter()
    for number in range(1000):
        (folder / str(number)).write_bytes(content)
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    return time.perf_counter() - began


def packed_bytes_per_point(values: bytes, timestamps_ms: list[int]) -> float:
    """What the best general compressor (LZMA, minutes per 10 M points) makes of the same curve: the bytes of its float32
    values by plane, and the differences of its timestamps."""
    count = len(values) // 4
    planes = b"".join(values[plane::4] for plane in range(4))
    differences = bytearray()
    for before, after in pairwise(timestamps_ms):
        differences += (after - before).to_bytes(2, "little", signed=True)
    return (len(lzma.compress(planes)) + len(lzma.compress(bytes(differences)))) / count
