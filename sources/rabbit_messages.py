"""Messages of RabbitMQ as lines, with what is known about them beside their body."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import pika

from clock import Clock
from config import DAY, HOUR, SECOND
from events.envelopes import holds_cloudevent, wrap_binary
from sources.live import flatten
from sources.rabbit import Delivery

OLD, AHEAD = 7 * DAY, HOUR  # beyond, a message's timestamp is no time at which it was sent
COUNTED = {"x-delivery-count", "x-acquired-count"}  # headers that RabbitMQ changes with every delivery
OWN = {*COUNTED, "x-stream-offset"}
STEADY = attrgetter(
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)


@dataclass(frozen=True)
class Reading:
    """How messages are read; `cloudevents`: those in binary mode become structured ones."""

    clock: Clock
    cloudevents: bool = False


def make_line(delivery: Delivery, reading: Reading) -> bytes:
    """Return a message as one line."""
    kind, headers = delivery.properties.content_type or "", delivery.properties.headers or {}
    if not reading.cloudevents or (headers.keys() <= OWN and "cloudevents" not in kind.lower()):
        return flatten(delivery.body)
    told = {name: _write_text(value) for name, value in headers.items()}
    if kind:
        told["content-type"] = kind
    return wrap_binary(told, delivery.body) if holds_cloudevent(told) else flatten(delivery.body)


def _write_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or timezone.utc).isoformat()
    return str(value)


def find_sent(properties: pika.BasicProperties, now: int) -> int:
    """Return a message's timestamp (microseconds) where it can be the time at which it was sent, else now."""
    sent = properties.timestamp
    if not isinstance(sent, int) or not now - OLD <= sent * SECOND <= now + AHEAD:
        return now
    return sent * SECOND


def digest(delivery: Delivery) -> str:
    """Name a delivery by all that stays the same when it comes again: body, properties, exchange and routing key."""
    headers = delivery.properties.headers or {}
    kept = sorted((name, repr(value)) for name, value in headers.items() if name not in COUNTED) if headers else []
    name = blake2b(repr((delivery.origin, STEADY(delivery.properties), kept)).encode(), digest_size=16)
    name.update(delivery.body)
    return name.hexdigest()
