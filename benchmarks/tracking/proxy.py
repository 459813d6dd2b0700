"""A TCP proxy on loopback that can be cut: connections are reset, or nothing passes, or only answers are lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """Passes bytes to a port of 127.0.0.1. `mode` is `open`, `refused` (connections are reset), `silent` (nothing passes,
    in no direction) or `deaf` (requests arrive, answers do not)."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode = "open"
        self.connections: set[socket.socket] = set()
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str) -> None:
        self.mode = mode
        if mode in ("refused", "open"):
            # Back from silence, old connections are dead as they would be.
            for connection in list(self.connections):
                self._drop(connection)

    def close(self) -> None:
        self.set("refused")
        self.listener.close()

    def _drop(self, connection: socket.socket) -> None:
        self.connections.discard(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.mode == "refused":
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=2)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            self.connections |= {client, server}
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while received := source.recv(65536):
                while self.mode == "silent" or (self.mode == "deaf" and answers):
                    time.sleep(0.01)
                    if source not in self.connections:
                        return
                target.sendall(received)
        except OSError:
            pass
        finally:
            self._drop(source)
            self._drop(target)
            source.close()
