"""HTTP receivers on a free port of loopback, and requests to them as they go over the wire."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from clock import Clock, read_system_clock
from config import SourceRules
from sources.http_receiver import HttpReceiver
from sources.inbox import Inbox, Received

PATIENCE_S = 20.0
NOON = datetime(2026, 1, 5, 12, 0, 0, tzinfo=timezone.utc)
Make = Callable[[SourceRules, Inbox, Clock], HttpReceiver]


@dataclass(frozen=True)
class Answer:
    """An answer that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A receiver that listens, and the inbox that it fills."""

    receiver: HttpReceiver
    inbox: Inbox

    @property
    def port(self) -> int:
        return int(self.receiver.url.rpartition(":")[2])

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, path: str, body: object, **headers: str) -> Answer:
        """Post JSON, or bytes as they are; `_` in a header's name is `-`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data, {name.replace("_", "-"): value for name, value in headers.items()})

    @property
    def records(self) -> list[Received]:
        """What lies in the inbox."""
        return [record for frame, _ in self.inbox.read(0) for record in frame.records]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(record.line) for record in self.records]


def wait_until(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


@contextmanager
def listening(
    folder: Path, make: Make, rules: SourceRules, clock: Clock = read_system_clock, limit: int = 1 << 28
) -> Iterator[Server]:
    """Run a receiver beside the test; what went wrong in it is raised."""
    inbox = Inbox(folder / "inbox", limit)
    receiver = make(rules, inbox, clock)
    stop, failures = threading.Event(), list[Exception]()

    def work() -> None:
        try:
            receiver.run(stop)
        except Exception as problem:
            failures.append(problem)
            receiver.listening.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert receiver.listening.wait(PATIENCE_S)
        yield Server(receiver, inbox)
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    if failures:
        raise failures[0]
