"""What every request over HTTP goes through: a key, a body within its limit, an answer in JSON, a count."""

from __future__ import annotations

import base64
import hmac
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COME_AGAIN_S = 5
HELD = 128 << 20  # bytes of all bodies that are under way together
GZIP = 16 + zlib.MAX_WBITS
LARGE = 64 << 10  # bytes of a body that is read beside the event loop
HUNG_UP = 499  # the sender did not wait for an answer

Result = TypeVar("Result")


class Refused(HTTPException):
    """A request that is not taken; its sender is told why, in JSON."""

    def __init__(self, status: int, reason: str) -> None:
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        if status in (429, 503):
            # Segment's library for browsers reads the second one.
            headers = {"Retry-After": str(COME_AGAIN_S), "X-RateLimit-Reset": str(COME_AGAIN_S)}
        super().__init__(status, reason, headers)


async def answer_refused(_: Request, problem: Exception) -> Response:
    """Tell the sender why."""
    if not isinstance(problem, HTTPException):
        raise problem
    body = {"success": False, "code": str(problem.status_code), "message": problem.detail}
    return JSONResponse(body, problem.status_code, problem.headers)


class Counted:
    """An ASGI app that counts another one's answers by status; `answers` is read from any thread."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.answers: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answers[message["status"]] += 1
            await send(message)

        await self.app(scope, receive, note)


class Bodies:
    """Reads bodies: each up to a limit, packed and unpacked, and all that are under way together up to another one."""

    def __init__(self, limit: int) -> None:
        self.limit, self.most = limit, max(HELD, 4 * limit)
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield a request's body; it counts as held until the context is left. Raises Refused."""
        packing = request.headers.get("content-encoding", "identity").strip().lower()
        if packing not in ("identity", "gzip", "x-gzip", ""):
            raise Refused(415, f"Content-Encoding {packing!r} is not understood: use gzip or none")
        chunks: list[bytes] = []
        try:
            await self._fill(request, chunks)
            body = b"".join(chunks)
            if packing.endswith("gzip"):
                body = unpack(body, self.limit)
                self._hold(body, chunks)
            yield body
        finally:
            self.held -= sum(map(len, chunks))

    async def _fill(self, request: Request, chunks: list[bytes]) -> None:
        promised = request.headers.get("content-length", "")
        if promised.isascii() and promised.isdigit() and int(promised) > self.limit:
            raise self._too_large()
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > self.limit:
                    raise self._too_large()
                self._hold(chunk, chunks)
        except ClientDisconnect:
            raise Refused(HUNG_UP, "the sender hung up, or took too long") from None

    def _hold(self, chunk: bytes, chunks: list[bytes]) -> None:
        if self.held + len(chunk) > self.most:
            raise Refused(429, "too much is under way: come again")
        self.held += len(chunk)
        chunks.append(chunk)

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self.limit:,} bytes")


def unpack(packed: bytes, limit: int) -> bytes:
    """Unpack gzip, of any number of members, and never more than the limit; raises Refused."""
    parts: list[bytes] = []
    left = limit
    while packed:
        unpacker = zlib.decompressobj(GZIP)
        try:
            part = unpacker.decompress(packed, left + 1)
        except zlib.error as problem:
            raise Refused(400, f"the body is not gzip: {problem}") from None
        left -= len(part)
        if left < 0:
            raise Refused(413, f"the body is larger than {limit:,} bytes when unpacked")
        if not unpacker.eof:
            raise Refused(400, "the body is not gzip: it ends too early")
        parts.append(part)
        packed = unpacker.unused_data
    return b"".join(parts)


async def read_aside(read: Callable[..., Result], body: bytes, *more: object) -> Result:
    """Read a body; a large one beside the event loop, which would be held up by it."""
    return await run_in_threadpool(read, body, *more) if len(body) > LARGE else read(body, *more)


def is_welcome(origin: str, origins: Collection[str]) -> bool:
    """Tell whether it is one of a source's origins; `"*"` is any, as is where it names none."""
    return not origins or "*" in origins or origin in origins


def find_key(headers: Mapping[str, str], query: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return the key that a request shows in `Authorization` or in its query under one of the names, None without one."""
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
        except ValueError:
            return ""
    return next((query[name] for name in names if name in query), None)


def is_key(shown: str, keys: Iterable[str]) -> bool:
    """Tell whether it is one of the keys, in a time that tells nothing about them."""
    text = shown.encode("utf-8", "surrogatepass")
    equal = [hmac.compare_digest(text, key.encode("utf-8", "surrogatepass")) for key in keys]
    return any(equal)
