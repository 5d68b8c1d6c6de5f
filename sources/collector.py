"""The collector: Segment's HTTP API, for its libraries and RudderStack's, each call a record of the inbox."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import partial

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clock import Clock
from config import SourceRules
from errors import ConfigError
from sources.http_calls import Refused, find_key, is_key, is_welcome, read_aside
from sources.http_receiver import HttpReceiver, Intake, read_address
from sources.inbox import Inbox
from sources.segment_calls import Calls, read_batch, read_call

KINDS = ("track", "page", "screen", "identify", "alias", "group")
# By its first letter a library for browsers names a call; RudderStack's beacons have a path of their own.
CALL_PATHS = {f"/v1/{name}": kind for kind in KINDS for name in (kind, kind[0])}
BATCH_PATHS = ("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch")
KEY_NAMES = ("writeKey",)
A_DAY_S = 86_400


def make_collector(rules: SourceRules, inbox: Inbox, clock: Clock) -> HttpReceiver:
    """Make the receiver of a collector; raises ConfigError where strangers could send without a key."""
    host, _ = read_address(rules)
    if not rules.keys and not is_loopback(host):
        raise ConfigError(
            f"[[source]] {rules.name}: listens at {rules.listen}, where anybody could send, and has no keys",
            remedy='add keys = ["…"], or listen on 127.0.0.1',
        )
    return HttpReceiver(rules, inbox, clock, make_routes)


def make_routes(intake: Intake) -> tuple[list[BaseRoute], list[Middleware]]:
    """Make the routes of Segment's API."""

    def take(path: str, read: Callable[[bytes], Calls]) -> Route:
        async def answer(request: Request) -> Response:
            await take_calls(intake, request, read)
            return JSONResponse({"success": True})

        return Route(path, answer, methods=["POST"])

    calls = [take(path, partial(read_call, kind=kind)) for path, kind in CALL_PATHS.items()]
    batches = [take(path, read_batch) for path in BATCH_PATHS]
    return [*calls, *batches], list_middleware(intake.rules)


def list_middleware(rules: SourceRules) -> list[Middleware]:
    """List what lets pages of the source's origins call from a browser; `"*"` is any, and then without credentials."""
    if not rules.origins:
        return []
    cors = Middleware(
        CORSMiddleware,
        allow_origins=rules.origins,
        allow_methods=("POST",),
        allow_headers=("*",),
        allow_credentials="*" not in rules.origins,
        expose_headers=("Retry-After", "X-RateLimit-Reset"),
        max_age=A_DAY_S,
    )
    return [cors]


async def take_calls(intake: Intake, request: Request, read: Callable[[bytes], Calls]) -> None:
    """Take the calls of one request into the inbox; raises Refused where they are not."""
    rules = intake.rules
    intake.check_open()
    origin = request.headers.get("origin")
    if origin is not None and not is_welcome(origin, rules.origins):
        raise Refused(403, f"pages of {origin} may not call")
    shown = find_key(request.headers, request.query_params, KEY_NAMES)
    if rules.keys and shown is not None and not is_key(shown, rules.keys):
        raise Refused(401, "the write key is wrong")
    async with intake.bodies.read(request) as body:
        received = intake.read_clock()
        try:
            calls = await read_aside(read, body)
        except ValueError as problem:
            raise Refused(400, f"the body can't be read as JSON calls: {problem}") from None
        if rules.keys and shown is None and not is_key(calls.key, rules.keys):
            raise Refused(401, "there is no write key, or a wrong one")
        await intake.commit(calls.write(received))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
