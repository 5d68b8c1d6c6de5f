"""What CloudEvents, EventBridge and Event Grid share: an envelope around a payload of any shape, or Segment's.

A payload is taken for Segment's where its `type` is one of Segment's six. Then it tells more than its envelope: the
same call sent twice has one message id and two envelopes, and the envelope's time may be that of the relay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from config import InputRules
from events.formats.base import MOBILE, WEB, Format, first, name_event, quote, reach, reach_json, text

SEGMENT_TYPES = ("track", "page", "screen", "identify", "group", "alias")


@dataclass(frozen=True)
class Envelope:
    """Names of an envelope's fields; `source` is the one within which an id is unique, empty if it is so anyhow."""

    id: str
    time: str
    type: str
    payload: str
    source: str = ""


def make_format(envelope: Envelope) -> Format:
    """Make the format of an envelope."""
    payload = (envelope.payload,)
    sources = (envelope.source,) if envelope.source else ()
    columns = dict.fromkeys((envelope.id, envelope.time, envelope.type, *sources), "VARCHAR")
    uses = {
        "event_id": (envelope.id, *sources, *payload),
        "event_time": (envelope.time, *payload),
        "received_at": payload,
        "device_id": payload,
        "user_id": payload,
        "channel": payload,
        "event_type": (envelope.type, *payload),
        "event_name": (envelope.type, *payload),
        "page": payload,
        "referrer": payload,
        "campaign": payload,
        "properties": payload,
    }
    return Format(columns | {envelope.payload: "JSON"}, uses, lambda rules: _select(envelope, rules))


def _select(envelope: Envelope, rules: InputRules) -> dict[str, str]:
    payload = quote(envelope.payload)
    segment = f"{reach(payload, 'type')} IN ({', '.join(map(text, SEGMENT_TYPES))})"
    view = f"{reach(payload, 'type')} IN ('page', 'screen')"

    def inner(*keys: str) -> str:
        return reach(payload, *keys)

    def only(condition: str, *terms: str) -> str:
        return f"CASE WHEN {condition} THEN {first(*terms)} END"

    kind, id_ = quote(envelope.type), _make_id(envelope)
    page = only(view, inner("properties", "path"), inner("context", "page", "url"), inner("properties", "url"))
    return {
        "event_id": first(only(segment, inner("messageId")), id_),
        "event_time": first(only(segment, inner("timestamp"), inner("originalTimestamp")), quote(envelope.time)),
        "received_at": only(segment, inner("receivedAt")),
        "device_id": first(*_list(payload, "anonymousId", "anonymous_id", "deviceId", "device_id", "previousId")),
        "user_id": first(
            *_list(payload, "userId", "user_id", "customerId", "customer_id"),
            *_list(payload, ("user", "id"), ("customer", "id")),
        ),
        "channel": first(*_list(payload, "channel", ("context", "channel")), _guess(payload, segment, rules)),
        "event_type": first(only(segment, inner("type")), kind),
        "event_name": name_event(rules, only(segment, inner("event"), inner("name"), inner("type")), kind),
        "page": first(inner("context", "page", "path"), inner("page", "path"), page, inner("page", "url")),
        "referrer": first(
            *_list(payload, ("context", "page", "referrer"), ("page", "referrer")),
            only(view, inner("properties", "referrer")),
        ),
        "campaign": first(*_list(payload, ("context", "campaign", "name"), "utm_campaign")),
        "properties": f"CASE WHEN {segment} THEN coalesce({reach_json(payload, 'properties')},"
        f" {reach_json(payload, 'traits')}) ELSE CAST({payload} AS VARCHAR) END",
    }


def _make_id(envelope: Envelope) -> str:
    if not envelope.source:
        return quote(envelope.id)
    return f"coalesce({quote(envelope.source)} || '#', '') || nullif({quote(envelope.id)}, '')"


def _list(payload: str, *places: str | Sequence[str]) -> list[str]:
    return [reach(payload, *([place] if isinstance(place, str) else place)) for place in places]


def _guess(payload: str, segment: str, rules: InputRules) -> str:
    kind, library = reach(payload, "type"), reach(payload, "context", "library", "name")
    systems = " OR ".join(
        f"lower({place}) IN ('ios', 'ipados', 'android')"
        for place in _list(payload, ("context", "device", "type"), ("context", "os", "name"))
    )
    return (
        f"CASE WHEN NOT coalesce({segment}, false) THEN {text(rules.channel)}"
        f" WHEN {kind} = 'screen' OR {systems} OR regexp_matches({library}, '{MOBILE}', 'i') THEN 'mobile'"
        f" WHEN {kind} = 'page' OR regexp_matches({library}, '{WEB}', 'i') THEN 'web' ELSE {text(rules.channel)} END"
    )
