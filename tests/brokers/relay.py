"""A way to a server that can be cut: for servers that would forget everything if they were stopped themselves."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tests.brokers.server import HOST, choose_ports

CHUNK = 1 << 16


class Relay:
    """Hands on what comes to its port. What holds `swallowed` from a client on is taken and never handed on."""

    def __init__(self, target: int) -> None:
        self.target = target
        (self.port,) = choose_ports(0)
        self.swallowed = b""
        self.has_swallowed = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        """Where clients connect to."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Take connections; nothing to do if it does."""
        if self._listener is None:
            self._listener = socket.create_server((HOST, self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone would leave the thread waiting, and the port taken.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection((HOST, self.target), timeout=10)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._lock:
                    self._open |= {client, server}
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._hand_on, args=(*ends, ends[0] is client), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        is_deaf = False
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if is_client and self.swallowed and self.swallowed in chunk:
                    is_deaf = True
                    self.has_swallowed.set()
                if not is_deaf:
                    sink.sendall(chunk)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
            source.close()
