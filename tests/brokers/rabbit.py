"""RabbitMQ as one process with the stream plugin, from Debian's package, apart from the service that it comes with."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from tests.brokers.server import HOST, Server, can_connect, choose_ports, make_name

# The script on the path of Debian changes to a user of its own and insists on root.
SCRIPTS = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
# Erlang would start its port mapper as a daemon that outlives the broker, so it is started here before.
COMMAND = """\
epmd -address "$ERL_EPMD_ADDRESS" -port "$ERL_EPMD_PORT" &
until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do sleep 0.05; done
exec "$0"
"""
HELLO = b"AMQP\x00\x00\x09\x01"
# It saves twice a second which queues have a log. Killed before, it finds neither their messages nor its streams again.
SETTLES_S = 1.0
SETTINGS = """\
listeners.tcp.1 = {host}:{port}
stream.listeners.tcp.1 = {host}:{stream_port}
stream.advertised_host = {host}
stream.advertised_port = {stream_port}
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 16777216
log.console = true
log.console.level = warning
log.file = false
"""


def find_script() -> str:
    """Return the script that starts RabbitMQ as whoever calls it, or nothing."""
    found = sorted(Path("/").glob(SCRIPTS.lstrip("/")))
    return str(found[-1]) if found else shutil.which("rabbitmq-server") or ""


class RabbitBroker(Server):
    """RabbitMQ with one node, on loopback, its data below `folder`."""

    name = "rabbit"

    def __init__(self, folder: Path, port: int = 0, stream_port: int = 0) -> None:
        super().__init__(folder)
        self.port, self.stream_port, self._mapper, self._distribution = choose_ports(port, stream_port, 0, 0)
        self._queues: list[str] = []
        self._settled_at = 0.0

    @classmethod
    def find_missing(cls) -> str:
        """Say what this machine lacks to run RabbitMQ; empty if nothing."""
        return "" if find_script() and shutil.which("epmd") else "RabbitMQ is not installed"

    @property
    def amqp_url(self) -> str:
        """The address for AMQP 0-9-1, with the user that a new RabbitMQ has."""
        return f"amqp://guest:guest@{HOST}:{self.port}/%2F"

    @contextmanager
    def open_channel(self) -> Iterator[BlockingChannel]:
        """Open a connection and a channel for the body."""
        connection = pika.BlockingConnection(pika.URLParameters(self.amqp_url))
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def make_queue(self, kind: str = "quorum", arguments: dict[str, Any] | None = None, name: str = "") -> str:
        """Make a durable queue, with a name of its own where none is given: quorum, stream or classic."""
        name = name or make_name(kind)
        with self.open_channel() as channel:
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind, **(arguments or {})})
        self._queues.append(name)
        self._settled_at = time.monotonic() + SETTLES_S
        return name

    def kill(self) -> None:
        """End RabbitMQ at once, but not before a queue that was just made is safe."""
        time.sleep(max(0.0, self._settled_at - time.monotonic()))
        super().kill()

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        ports = {"port": self.port, "stream_port": self.stream_port}
        files = {
            "rabbitmq.conf": SETTINGS.format(host=HOST, **ports),
            "enabled_plugins": "[rabbitmq_stream].\n",
            "rabbitmq-env.conf": "",
        }
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        return ["/bin/sh", "-c", COMMAND, find_script()], self._build_environment()

    def _build_environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "HOME": str(folder),  # where the cookie is
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._mapper),
            "ERL_FLAGS": f"-kernel inet_dist_use_interface {{{HOST.replace('.', ',')}}}",
            "RABBITMQ_NODENAME": "journeys@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }

    def _answers(self) -> bool:
        # It listens before it is ready; pika would log errors where a bare greeting is just not answered.
        if not (can_connect(self.stream_port) and _greet(self.port)):
            return False
        try:
            return not any(self._is_down(queue) for queue in self._queues)
        except (AMQPError, OSError):
            return False

    def _is_down(self, queue: str) -> bool:
        """Tell whether a queue is there but not back yet, as streams are for a moment after a kill."""
        try:
            with self.open_channel() as channel:
                channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker as closed:
            return "inaccessible" in closed.reply_text
        return False


def _greet(port: int) -> bool:
    """Tell whether an AMQP server answers at a port."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(HELLO)
        return connection.recv(1) == b"\x01"
    return False
