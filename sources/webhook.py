"""Azure Event Grid's deliveries by web hook, in its own schema and in CloudEvents', each event a record of the inbox."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clock import Clock
from config import SourceRules
from errors import ConfigError
from events.envelopes import wrap_binary
from sources.http_calls import Refused, find_key, is_key, is_welcome, read_aside
from sources.http_receiver import HttpReceiver, Intake
from sources.inbox import Inbox, Received
from sources.json_parts import Part, cut_value, cut_values, read_text
from sources.live import flatten

KEY_NAMES = ("code", "key")
KEY_HEADER = "aeg-sas-key"
IDENTITY = (("id",), ("source", "topic"), ("time", "eventTime"), ("type", "eventType"), ("subject",))
OWN_SCHEMA, CLOUD_SCHEMA = "eventgrid", "cloudevents"


def make_webhook(rules: SourceRules, inbox: Inbox, clock: Clock) -> HttpReceiver:
    """Make the receiver of a web hook; raises ConfigError where it has no key."""
    if not rules.keys:
        raise ConfigError(f"[[source]] {rules.name}: a web hook needs keys", remedy='add keys = ["${WEBHOOK_KEY}"]')
    return HttpReceiver(rules, inbox, clock, make_routes)


def make_routes(intake: Intake) -> tuple[list[BaseRoute], list[Middleware]]:
    """Make the routes: whatever path the subscription names."""

    async def answer(request: Request) -> Response:
        intake.check_open()
        check_key(intake.rules, request)
        if request.method == "OPTIONS":
            return agree(intake.rules, request)
        return await take_delivery(intake, request)

    return [Route("/{path:path}", answer, methods=["POST", "OPTIONS"])], []


def check_key(rules: SourceRules, request: Request) -> None:
    """Raise Refused where a request shows none of the source's keys."""
    shown = find_key(request.headers, request.query_params, KEY_NAMES)
    shown = request.headers.get(KEY_HEADER, "") if shown is None else shown
    if not is_key(shown, rules.keys):
        raise Refused(401, "there is no key, or a wrong one")


def agree(rules: SourceRules, request: Request) -> Response:
    """Answer CloudEvents' question whether deliveries are wanted; raises Refused."""
    origin = request.headers.get("webhook-request-origin")
    if not origin:
        raise Refused(400, "there is no WebHook-Request-Origin")
    check_schema(rules, CLOUD_SCHEMA)
    if not is_welcome(origin, rules.origins):
        raise Refused(403, f"deliveries of {origin} are not wanted")
    headers = {"Allow": "POST, OPTIONS", "WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
    return Response(status_code=200, headers=headers)


def check_schema(rules: SourceRules, schema: str) -> None:
    """Raise Refused where a subscription in this schema would deliver what the source can't read."""
    form = rules.format or OWN_SCHEMA
    if form in (OWN_SCHEMA, CLOUD_SCHEMA) and form != schema:
        raise Refused(400, f"the source reads the schema {form}: subscribe with that, or set format = {schema!r}")


async def take_delivery(intake: Intake, request: Request) -> Response:
    """Take the events of one delivery into the inbox, or answer what is no event; raises Refused."""
    kind = request.headers.get("aeg-event-type", "").lower()
    async with intake.bodies.read(request) as body:
        received = intake.read_clock()
        try:
            if kind == "subscriptionvalidation":
                return validate(intake.rules, body)
            if kind != "subscriptiondeletion":
                await intake.commit(await read_aside(read_events, body, dict(request.headers), received))
        except ValueError as problem:
            raise Refused(400, f"the body can't be read as events in JSON: {problem}") from None
    return JSONResponse({"success": True})


def validate(rules: SourceRules, body: bytes) -> Response:
    """Answer Event Grid's question whether the subscription is wanted; raises Refused, ValueError."""
    check_schema(rules, OWN_SCHEMA)
    for event in cut_values(read_text(body)) or []:
        code = _find(_find(event.value, "data"), "validationCode")
        if isinstance(code, str) and code:
            return JSONResponse({"validationResponse": code})
    raise Refused(400, "there is no validationCode in it")


def read_events(body: bytes, headers: dict[str, str], received: int) -> list[Received]:
    """Read the events of a body; what is no object is a record all the same, a dead letter. Raises ValueError."""
    if "ce-id" in headers or "ce-specversion" in headers:
        body = wrap_binary(headers, body)
    text = read_text(body)
    events = cut_values(text)
    if events is None:
        events = [cut_value(text)]
        if not isinstance(events[0].value, dict):
            raise ValueError("neither an object nor an array")
    return [_make(event, received) for event in events]


def _make(event: Part, received: int) -> Received:
    """Make a record; what is delivered again has the id, source, time, type and subject that it had before."""
    delivery = ""
    if _find(event.value, "id"):
        names = (
            next((repr(_find(event.value, name)) for name in one if _find(event.value, name)), "") for one in IDENTITY
        )
        delivery = hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Received(flatten(event.text.encode()), received, delivery)


def _find(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
