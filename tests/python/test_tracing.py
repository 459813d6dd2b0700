"""Calls are part of the OpenTelemetry trace that is active where they are made."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import mlplat
import pytest
from hpack import Decoder
from opentelemetry import trace


class HeadersOfOneCall:
    """Takes one connection, and keeps the headers of the first request on it. It never answers."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.headers: dict[str, str] = {}
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        connection, _ = self.listening.accept()
        with self.listening, connection, connection.makefile("rb") as stream:
            stream.read(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            while True:
                head = stream.read(9)
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if head[3] == 1:  # HEADERS
                    self.headers = {str(name): str(value) for name, value in Decoder().decode(payload)}
                    return

    def of(self, call: object) -> dict[str, str]:
        assert callable(call)
        mlplat.connect(self.url, timeout=2)
        with pytest.raises(mlplat.MlplatError):
            call()
        self.thread.join()
        return self.headers


@pytest.fixture
def span():
    context = trace.SpanContext(
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0x00AD6B7169203331,
        is_remote=False,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        trace_state=trace.TraceState([("vendor", "1")]),
    )
    return trace.NonRecordingSpan(context)


def test_the_active_span_is_sent(span: trace.Span):
    with trace.use_span(span):
        headers = HeadersOfOneCall().of(mlplat.server_info)
    assert headers["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01"
    assert headers["tracestate"] == "vendor=1"
    assert "traceparent" not in HeadersOfOneCall().of(mlplat.server_info)


def test_the_active_span_is_sent_from_asyncio(span: trace.Span):
    async def work() -> None:
        with trace.use_span(span):
            await mlplat.aio.server_info()

    headers = HeadersOfOneCall().of(lambda: asyncio.run(work()))
    assert headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")


def test_without_opentelemetry_it_is_not_imported():
    code = "import sys, mlplat\ntry: mlplat.connect('http://127.0.0.1:1', timeout=1); mlplat.server_info()\nexcept mlplat.MlplatError: print('opentelemetry' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
