"""An HTTP server beside the dataflow: an ASGI app in a thread of its own, which leaves signals alone and logs no requests."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from config import join_address
from errors import ConfigError

FINISH_S = 1  # what a request that is under way may take when the server stops
GIVE_UP_S = 3.0
BACKLOG = 1024
REQUEST_S = 60.0  # what a request may take to come, from its first byte to its last
CONNECTIONS = 500  # the files of the job need descriptors too


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 for strangers: a request that comes too slowly and a connection too many are hung up on."""

    patience, most = REQUEST_S, CONNECTIONS
    limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does it for sockets that were made for TCP by name only; without it each answer's body waits 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most:
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.limit is not None:
            self.limit.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        is_coming = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()
        if is_coming and self.limit is None:
            self.limit = self.loop.call_later(self.patience, self.transport.close)
        elif not is_coming and self.limit is not None:
            self.limit.cancel()
            self.limit = None


class HttpServer:
    """Listens from the moment it is made; `port` is the real one where 0 asked for any that is free. A context."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, patience: float = REQUEST_S, most: int = CONNECTIONS
    ) -> None:
        """Bind the address and begin to serve; raises ConfigError where it can't be had.

        `patience`: seconds that a request may take to come; `most`: how many connections may stand at a time.
        """
        self.listener = bind(host, port)
        self.host, self.port = host, int(self.listener.getsockname()[1])
        config = uvicorn.Config(
            app,
            http=type("Protocol", (BoundedProtocol,), {"patience": patience, "most": most}),
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=FINISH_S,
        )
        self.server = uvicorn.Server(config)
        # A daemon: a request that hangs must not keep the process alive.
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), name="http", daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        """Return where it is to be found, as http://HOST:PORT."""
        return f"http://{join_address(self.host, self.port)}"

    def stop(self) -> None:
        """Take no more connections, give requests under way a second, and end; may be called again."""
        self.server.should_exit = True
        self.thread.join(GIVE_UP_S)

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None) -> None:
        self.stop()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; a name is looked up as IPv4, and `::` takes IPv4 too; raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, UnicodeError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ConfigError(
            f"{join_address(host, port)}: can't be listened on ({reason})",
            remedy="name a free port and an address of this machine, such as 127.0.0.1:9600 or, for all of its, 0.0.0.0:9600",
        ) from problem
