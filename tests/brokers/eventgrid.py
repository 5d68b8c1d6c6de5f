"""A stand-in for an Azure Event Grid namespace, as there is no server of it to run: its data plane's REST operations.

Written after Microsoft's description of API version 2024-06-01: publish, receive, acknowledge, release, reject and
renewLock; locks that run out, deliveries counted, the most of them, access keys. It shows that the client is used as described,
not that Azure behaves as described.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

from tests.brokers.server import HOST, choose_ports

KEY = "stand-in+key=="
VERSION = "2024-06-01"
ROUTE = re.compile(r"/topics/([^/:]+)(?:/eventsubscriptions/([^/:]+))?:(\w+)")
REQUIRED = ("id", "source", "type", "specversion")
MOST_WAIT_S, LEAST_WAIT_S = 120, 10


class RefusalError(Exception):
    """A call that is answered with an error."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.body = status, json.dumps({"error": {"code": code, "message": text}}).encode()


@dataclass
class Event:
    """An event, its text as it is handed out, and how often it was."""

    text: bytes
    deliveries: int = 0
    ready_at: float = 0.0
    locked_until: float = 0.0


@dataclass
class Subscription:
    """A queue of events, those under way by their lock, and those given up after too many deliveries or a rejection."""

    lock_s: float
    most_deliveries: int
    waiting: deque[Event] = field(default_factory=deque)
    locked: dict[str, Event] = field(default_factory=dict)
    dead: list[Event] = field(default_factory=list)

    def unlock(self, now: float) -> None:
        """Put back, in front and in order, what was not acknowledged in time."""
        for token in reversed([token for token, event in self.locked.items() if event.locked_until <= now]):
            self.put_back(self.locked.pop(token))

    def put_back(self, event: Event) -> None:
        if event.deliveries >= self.most_deliveries:
            self.dead.append(event)
        else:
            self.waiting.appendleft(event)

    def lend(self, most: int, now: float) -> list[tuple[str, Event]]:
        """Lock and return the first events that may be delivered."""
        self.unlock(now)
        lent = []
        for event in [event for event in self.waiting if event.ready_at <= now][:most]:
            self.waiting.remove(event)
            event.deliveries, event.locked_until = event.deliveries + 1, now + self.lock_s
            token = f"lock-{uuid4().hex}"
            self.locked[token] = event
            lent.append((token, event))
        return lent


class FakeEventGrid:
    """A namespace with one access key. What it holds outlives `stop` and `start`."""

    def __init__(self) -> None:
        (self.port,) = choose_ports(0)
        self.topics: dict[str, dict[str, Subscription]] = {}
        self.changed = threading.Condition()
        self.calls: list[str] = []
        self.failing: deque[tuple[str, int, bytes]] = deque()  # operation, status and body of answers to come instead
        self.refusing = 0  # acknowledgements to come of which the first lock is not taken, though it holds
        self.holding = ""  # an operation that is taken and never answered
        self.has_held = threading.Event()
        self._server: _Server | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        """The namespace's address."""
        return f"http://{HOST}:{self.port}"

    def subscribe(self, topic: str, name: str, lock_s: float = 60, most_deliveries: int = 10) -> Subscription:
        """Make a subscription, and its topic where there is none."""
        found = Subscription(lock_s, most_deliveries)
        self.topics.setdefault(topic, {})[name] = found
        return found

    def put(self, topic: str, *texts: bytes) -> None:
        """Put events into a topic as they stand, without the checks that publishing makes."""
        with self.changed:
            for subscription in self.topics[topic].values():
                subscription.waiting.extend(Event(text) for text in texts)
            self.changed.notify_all()

    def start(self) -> None:
        """Answer calls; nothing to do if it does."""
        if self._server is None:
            self._server = _Server(self)
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        server, self._server = self._server, None
        if server is not None:
            server.end()
            with self.changed:
                self.changed.notify_all()

    def answer(self, method: str, target: str, body: bytes, key: str) -> bytes:
        """Do what a call asks for; raises RefusalError."""
        url = urlsplit(target)
        match, query = ROUTE.fullmatch(url.path), {name: found[0] for name, found in parse_qs(url.query).items()}
        if match is None or method != "POST":
            raise RefusalError(404, "NotFound", "no such operation")
        if key != f"SharedAccessKey {KEY}":
            raise RefusalError(401, "Unauthorized", "the access key is not right")
        if query.get("api-version") != VERSION:
            raise RefusalError(400, "BadRequest", "this version is not known")
        topic, name, operation = (unquote(part or "") for part in match.groups())
        if topic not in self.topics or (name and name not in self.topics[topic]):
            raise RefusalError(404, "NotFound", f"there is no {topic}/{name}")
        if operation == "publish" and not name:
            return self._publish(topic, body)
        if operation == "receive" and name:
            return self._receive(self.topics[topic][name], query)
        if operation in ("acknowledge", "release", "reject", "renewLock") and name:
            return self._change(self.topics[topic][name], operation, body, query)
        raise RefusalError(404, "NotFound", "no such operation")

    def _publish(self, topic: str, body: bytes) -> bytes:
        given = json.loads(body)
        events = given if isinstance(given, list) else [given]
        if not all(isinstance(event, dict) and all(event.get(name) for name in REQUIRED) for event in events):
            raise RefusalError(400, "BadRequest", "not a CloudEvent")
        self.put(topic, *(json.dumps(event).encode() for event in events))
        return b"{}"

    def _receive(self, subscription: Subscription, query: dict[str, str]) -> bytes:
        most, wait = int(query.get("maxEvents", 1)), int(query.get("maxWaitTime", 60))
        if not 1 <= most <= 100 or not LEAST_WAIT_S <= wait <= MOST_WAIT_S:
            raise RefusalError(400, "BadRequest", "maxEvents is 1 to 100, maxWaitTime 10 to 120")
        server, until = self._server, time.monotonic() + wait
        with self.changed:
            while True:
                if self._server is not server or server is None:
                    raise RefusalError(503, "Unavailable", "going down")
                lent = subscription.lend(most, time.monotonic())
                if lent or time.monotonic() >= until:
                    break
                self.changed.wait(0.1)
        parts = [
            b'{"brokerProperties":'
            + json.dumps({"lockToken": token, "deliveryCount": event.deliveries}).encode()
            + b',"event":'
            + event.text
            + b"}"
            for token, event in lent
        ]
        return b'{"value":[' + b",".join(parts) + b"]}"

    def _change(self, subscription: Subscription, operation: str, body: bytes, query: dict[str, str]) -> bytes:
        tokens, now = json.loads(body)["lockTokens"], time.monotonic()
        with self.changed:
            subscription.unlock(now)
            is_partial = operation == "acknowledge" and self.refusing > 0
            self.refusing -= is_partial
            done = [token for token in tokens[is_partial:] if token in subscription.locked]
            for token in reversed(done):
                event = subscription.locked[token]
                if operation == "renewLock":
                    event.locked_until = now + subscription.lock_s
                    continue
                del subscription.locked[token]
                if operation == "release":
                    event.ready_at = now + float(query.get("releaseDelayInSeconds", 0))
                    subscription.put_back(event)
                elif operation == "reject":
                    subscription.dead.append(event)
            self.changed.notify_all()
        error = {"code": "TokenLost", "message": "run out"}
        lost = [{"lockToken": token, "error": error} for token in tokens if token not in done]
        answer = json.dumps({"succeededLockTokens": done, "failedLockTokens": lost}).encode()
        if not done:
            raise RefusalError(400, "TokenLost", "every lock has run out")
        return answer


class _Server(ThreadingHTTPServer):
    """The HTTP side, which remembers its connections to cut them."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, grid: FakeEventGrid) -> None:
        self.grid, self.connections = grid, set[socket.socket]()
        super().__init__((HOST, grid.port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no error."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One call."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        grid, body = self.server.grid, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation = urlsplit(self.path).path.rpartition(":")[2]
        grid.calls.append(operation)
        if operation == grid.holding:
            grid.has_held.set()
            threading.Event().wait(600)
        status, answer = 200, b""
        if grid.failing and grid.failing[0][0] == operation:
            _, status, answer = grid.failing.popleft()
        else:
            try:
                answer = grid.answer("POST", self.path, body, self.headers.get("Authorization") or "")
            except RefusalError as refusal:
                status, answer = refusal.status, refusal.body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
