"""An HTTP server beside the dataflow: an ASGI app in a thread of its own, which leaves signals alone and logs no requests."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp

from config import join_address
from errors import ConfigError

FINISH_S = 1  # what a request that is under way may take when the server stops
GIVE_UP_S = 3.0
BACKLOG = 1024


class HttpServer:
    """Listens from the moment it is made; `port` is the real one where 0 asked for any that is free. A context."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Bind the address and begin to serve; raises ConfigError where it can't be had."""
        self.listener = bind(host, port)
        self.host, self.port = host, int(self.listener.getsockname()[1])
        config = uvicorn.Config(
            app,
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
