"""Messages of RabbitMQ as lines, and the name by which one is known when it comes again."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pika
import pytest

from clock import read_system_clock
from sources.rabbit import Delivery
from sources.rabbit_messages import Reading, digest, make_line

PLAIN, CLOUDEVENTS = Reading(read_system_clock), Reading(read_system_clock, cloudevents=True)


def make(body: bytes = b"{}", origin: tuple[str, str] = ("", "q"), tag: int = 1, **told: Any) -> Delivery:
    return Delivery(tag, False, origin, pika.BasicProperties(**told), body)


def test_attributes_of_any_type_become_text() -> None:
    headers = {
        "cloudEvents:id": "7",
        "cloudEvents:number": 5,
        "cloudEvents_flag": True,
        "cloudEvents:bytes": b"a\xc3\xa4",
        "cloudEvents:time": datetime(2026, 1, 5, 8, tzinfo=timezone.utc),
        "x-delivery-count": 2,
        "other": "left out",
    }
    line = make_line(make(b'{"a":\n1}', headers=headers, content_type="application/json"), CLOUDEVENTS)
    assert json.loads(line) == {
        "id": "7",
        "number": "5",
        "flag": "true",
        "bytes": "aä",
        "time": "2026-01-05T08:00:00+00:00",
        "datacontenttype": "application/json",
        "data": {"a": 1},
    }
    assert b"\n" not in line


def test_structured_event_and_any_other_message_is_its_body() -> None:
    kind = "application/cloudevents+json; charset=utf-8"
    assert make_line(make(b'{"id": "1"}', content_type=kind), CLOUDEVENTS) == b'{"id": "1"}'
    assert make_line(make(b'{"id": "1"}', content_type="application/json"), CLOUDEVENTS) == b'{"id": "1"}'
    assert make_line(make(b'{"id": "1"}', headers={"x": 1, "x-stream-offset": 4}), CLOUDEVENTS) == b'{"id": "1"}'
    assert make_line(make(b""), CLOUDEVENTS) == b"null"


def test_attributes_are_left_where_the_format_is_another() -> None:
    assert make_line(make(b'{"a": 1}', headers={"cloudEvents:id": "7"}), PLAIN) == b'{"a": 1}'


def test_name_stays_the_same_over_redeliveries() -> None:
    first = make(b"x", message_id="1", timestamp=5, headers=None)
    again = make(b"x", message_id="1", timestamp=5, headers={"x-delivery-count": 3}, tag=9)._replace(redelivered=True)
    assert digest(first) == digest(again)
    told = {"b": 1, "a": {"c": [1, None]}}
    assert digest(make(headers=told)) == digest(make(headers={"x-acquired-count": 1, **dict(reversed(told.items()))}))


@pytest.mark.parametrize(
    "other",
    [
        make(b"{} "),
        make(message_id="1"),
        make(timestamp=1),
        make(type="t"),
        make(headers={"x": 1}),
        make(headers={"x-stream-offset": 1}),
        make(origin=("e", "q")),
        make(origin=("", "r")),
    ],
)
def test_name_tells_messages_apart(other: Delivery) -> None:
    assert digest(make()) != digest(other)
