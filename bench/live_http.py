"""What the collector costs over a server that only answers, and whether any request can break it.

`python -m bench.live_http [--seconds S] [--fuzz N]` runs the collector and a bare Starlette app in processes of their own, on
loopback, sends both the same requests over the same number of connections, and prints as JSON

- `tracks`: single calls a second of each, and their ratio; `batches`: calls a second in batches of 100;
- `fuzz`: how many requests of arbitrary methods, paths, headers and bodies were sent, answered and counted, and by status.

The collector syncs what it has taken before it answers; the bare app reads the body and forgets it. Exit code 1 where a
request was answered by a status of 500 or more, was not counted, or left the collector unable to answer.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import multiprocessing
import random
import socket
import string
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from clock import read_system_clock
from config import SourceRules
from serving import HttpServer
from sources.collector import CALL_PATHS, make_collector
from sources.inbox import Inbox

CONNECTIONS = 64
BATCH = 100
PATHS = [*CALL_PATHS, "/v1/batch", "/v1/b", "/beacon/v1/batch", "/health", "/", "/v1/track?writeKey=k", "/%00/%ff"]
WORDS = [
    "batch",
    "context",
    "messageId",
    "timestamp",
    "sentAt",
    "type",
    "userId",
    "writeKey",
    "2026-01-05T00:00:00Z",
    "",
]
HEADERS = ["Authorization", "Content-Encoding", "Content-Type", "Origin", "Access-Control-Request-Method", "Cookie"]
VALUES = [
    "gzip",
    "br",
    "Basic azo=",
    "Basic !",
    "Bearer k",
    "Bearer",
    "https://a.example",
    "POST",
    "text/plain",
    "é\xff",
]


def serve_collector(pipe: Connection, folder: str) -> None:
    """Run a collector whose inbox is emptied as a job would; ends when told, and tells what it counted."""
    inbox, stop = Inbox(Path(folder), 1 << 30), threading.Event()
    rules = SourceRules("bench", "collector", listen="127.0.0.1:0", keys=("k",), origins=("https://a.example",))
    receiver = make_collector(rules, inbox, read_system_clock)
    thread = threading.Thread(target=receiver.run, args=(stop,))
    thread.start()
    receiver.listening.wait()
    pipe.send(int(receiver.url.rpartition(":")[2]))
    while not pipe.poll(0.5):
        inbox.note_consumed(inbox.next_offset)
    stop.set()
    thread.join()
    pipe.send((dict(receiver.answers), inbox.next_offset))


def serve_bare(pipe: Connection, _: str) -> None:
    """Run an app that reads bodies and says yes."""

    async def answer(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse({"success": True})

    paths = ("/v1/track", "/v1/batch")
    with HttpServer(
        Starlette(routes=[Route(path, answer, methods=["POST"]) for path in paths]), "127.0.0.1", 0
    ) as server:
        pipe.send(server.port)
        pipe.recv()
    pipe.send(({}, 0))


@contextmanager
def started(serve: Callable[[Connection, str], None]) -> Iterator[tuple[int, Connection]]:
    """Run a server in a process of its own; yield its port and the way to tell it to end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(theirs, folder))
        process.start()
        theirs.close()  # so that its end is seen, and not waited for
        yield ours.recv(), ours
        process.join(30)


def measure(serve: Callable[[Connection, str], None], path: str, calls: int, seconds: float) -> float:
    """Return how many calls a second a server takes over CONNECTIONS connections, `calls` in a request."""
    done: list[int] = []

    def send(port: int, number: int, until: float) -> None:
        count = 0
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            while time.monotonic() < until:
                ask(client, path, make_body(f"{number}-{count}", calls))
                count += 1
        done.append(count)

    with started(serve) as (port, pipe):
        began = time.monotonic()
        threads = [threading.Thread(target=send, args=(port, n, began + seconds)) for n in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = sum(done) * calls / (time.monotonic() - began)
        pipe.send("end")
        pipe.recv()
    return rate


def ask(client: socket.socket, path: str, body: bytes) -> None:
    """Send a request in one piece and read its answer: a client that costs little, as it shares the machine."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic azo=\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    answer = b""
    while not answer.endswith(b"}"):
        answer += client.recv(1 << 16)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode())


def make_body(name: str, calls: int) -> bytes:
    """Make one call, or a batch of them, as a library for browsers sends it."""
    context = {"page": {"path": "/p/1", "url": "https://shop.example/p/1"}, "library": {"name": "analytics.js"}}
    call = {"messageId": name, "anonymousId": name, "type": "track", "event": "Product Viewed", "context": context}
    call |= {"timestamp": "2026-01-05T12:00:00.000Z", "properties": {"price": 19.99, "sku": "a-1", "currency": "EUR"}}
    if calls == 1:
        return json.dumps(call).encode()
    return json.dumps({"batch": [call | {"messageId": f"{name}-{n}"} for n in range(calls)]}).encode()


def fuzz(count: int, seed: int = 1) -> dict[str, object]:
    """Send arbitrary requests; return how many were sent, answered and counted, and what is in the inbox."""
    chance, seen = random.Random(seed), Counter[int]()
    with started(serve_collector) as (port, pipe):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(count):
            method = chance.choice(["POST"] * 6 + ["GET", "PUT", "OPTIONS", "HEAD", "DELETE"])
            headers = {chance.choice(HEADERS): chance.choice(VALUES) for _ in range(chance.randrange(4))}
            connection.request(method, chance.choice(PATHS), make_nonsense(chance), headers)
            answer = connection.getresponse()
            answer.read()
            seen[answer.status] += 1
        connection.close()
        pipe.send("end")
        counted, records = pipe.recv()
    return {
        "sent": count,
        "answered": dict(sorted(seen.items())),
        "counted": sum(counted.values()),
        "records": records,
        "crashes": sum(n for status, n in seen.items() if status >= 500),
        "is_counted": counted == dict(seen),
    }


def make_nonsense(chance: random.Random) -> bytes:
    """Make a body: bytes, JSON of any shape, JSON with a byte changed, or any of them packed."""
    kind = chance.randrange(4)
    body = chance.randbytes(chance.randrange(60)) if kind == 0 else json.dumps(make_value(chance, 4)).encode()
    if kind == 1 and body:
        place = chance.randrange(len(body))
        body = body[:place] + chance.randbytes(1) + body[place + 1 :]
    return gzip.compress(body, 1) if chance.random() < 0.2 else body


def make_value(chance: random.Random, depth: int) -> object:
    """Make JSON of any shape."""
    kind = chance.randrange(7 if depth else 4)
    if kind == 0:
        return chance.choice([None, True, 0, -1.5e300, 10**30])
    if kind == 1:
        return "".join(chance.choice(string.printable) for _ in range(chance.randrange(9)))
    if kind < 4:
        return chance.choice(WORDS)
    if kind == 4:
        return [make_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {chance.choice(WORDS): make_value(chance, depth - 1) for _ in range(chance.randrange(5))}


def main() -> None:
    """Measure and fuzz; print what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--fuzz", type=int, default=50_000)
    arguments = parser.parse_args()
    told: dict[str, object] = {}
    for name, path, calls in (("tracks", "/v1/track", 1), ("batches", "/v1/batch", BATCH)):
        ours, bare = (measure(serve, path, calls, arguments.seconds) for serve in (serve_collector, serve_bare))
        told[name] = {"collector": round(ours), "bare": round(bare), "ratio": round(ours / bare, 3)}
    found = fuzz(arguments.fuzz)
    print(json.dumps({**told, "fuzz": found}, indent=2))
    raise SystemExit(bool(found["crashes"]) or not found["is_counted"])


if __name__ == "__main__":
    main()
