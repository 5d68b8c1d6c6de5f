"""CloudEvents in binary mode: headers and body to one line, which the format then reads."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from config import InputRules
from events.envelopes import holds_cloudevent, wrap_binary
from tests.support.records import decode, read_events

KAFKA = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t", "ce_time": "2026-01-05T10:11:12Z"}
HTTP = {name.replace("ce_", "ce-"): value for name, value in KAFKA.items()}
AMQP = {name.replace("ce_", "cloudEvents:"): value for name, value in KAFKA.items()}
AMQP_OLD = {name.replace("ce_", "cloudEvents_"): value for name, value in KAFKA.items()}
JSON = {"content-type": "application/json"}


def wrap(headers: dict[str, str], body: bytes = b"") -> dict[str, Any]:
    line = wrap_binary(headers, body)
    assert b"\n" not in line
    value: dict[str, Any] = json.loads(line)
    return value


@pytest.mark.parametrize(
    "headers", [KAFKA, HTTP, {name.upper(): value for name, value in HTTP.items()}, AMQP, AMQP_OLD]
)
def test_wrapped_event_is_read_as_a_structured_one(headers: dict[str, str]) -> None:
    line = wrap_binary({**headers, **JSON, "traceparent": "x"}, b'{\r\n  "userId": "u",\n  "n": 1.50\n}')
    (event,) = read_events(decode(line, InputRules(format="cloudevents")))
    assert (event["event_id"], event["event_name"], event["user_id"]) == ("/s#1", "t", "u")
    assert json.loads(event["properties"]) == {"userId": "u", "n": 1.5}
    assert b"1.50" in line
    assert "traceparent" not in json.loads(line)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%e2%82%ac", "€"),
        ("100%25", "100%"),
        ("100%", "100%"),
        ("%2541", "%41"),
        ('"a \\"b\\" %20"', 'a "b"  '),
        (" padded ", "padded"),
        ("a+b", "a+b"),
    ],
)
def test_http_values_are_decoded_once(value: str, text: str) -> None:
    assert wrap({"ce-subject": value})["subject"] == text
    assert wrap({"ce_subject": value})["subject"] == value
    assert wrap({"cloudEvents:subject": value})["subject"] == value


@pytest.mark.parametrize("value", ["%C0%A0", "%FF", "a%80"])
def test_http_value_that_is_no_text_is_left_out(value: str) -> None:
    assert wrap({"ce-subject": value, "ce-id": "1"}) == {"id": "1"}


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.x+json",
        "text/json",
        "",
    ],
)
def test_json_is_data(kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    event = wrap({**KAFKA, **headers}, b'\xef\xbb\xbf {"a": "\xc3\xa4"} ')
    assert event["data"] == {"a": "ä"}
    assert event.get("datacontenttype", "") == kind


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/octet-stream", b"\x00\x01"),
        ("text/plain", b"7"),
        ("application/jsonish", b"7"),
        ("application/json", b'{"cut": '),
        ("application/json", b'{"x": "\xff"}'),
        ("application/json", "{}".encode("utf-16")),
        ("application/json", "{}".encode("utf-16-le")),
        ("application/json", b"[" * 100_000),
        ("", b"plain"),
    ],
)
def test_anything_else_is_base64(kind: str, body: bytes) -> None:
    event = wrap({**KAFKA, "content-type": kind}, body)
    assert base64.b64decode(event["data_base64"]) == body
    assert "data" not in event


def test_no_body_is_no_data_and_no_headers_are_no_attributes() -> None:
    assert set(wrap({**KAFKA, **JSON})) == {"specversion", "id", "source", "type", "time", "datacontenttype"}
    assert wrap({}, b"5") == {"data": 5}
    assert wrap({}) == {}


def test_attributes_can_not_pose_as_data() -> None:
    headers = {"ce_data": "x", "ce_data_base64": "y", "ce_datacontenttype": "text/plain", "content-type": "text/json"}
    assert wrap(headers, b"1") == {"datacontenttype": "text/json", "data": 1}
    assert wrap({"ce_datacontenttype": "application/json"}, b"1") == {"datacontenttype": "application/json", "data": 1}


def test_structured_message_passes_as_one_line() -> None:
    body = b'{\n "id": "9",\r\n "type": "t"\n}'
    kind = {"content-type": "application/cloudevents+json; charset=UTF-8", "ce_id": "other"}
    assert wrap(kind, body) == {"id": "9", "type": "t"}


def test_half_of_a_surrogate_pair_in_a_header_stops_nothing() -> None:
    line = wrap_binary({**KAFKA, "ce_subject": "\udc80", **JSON}, b'{"userId": "u"}')
    assert decode(line, InputRules(format="cloudevents")).received == 1


@pytest.mark.parametrize("headers", [KAFKA, HTTP, AMQP, AMQP_OLD, {"Content-Type": "application/cloudevents+json"}])
def test_message_with_attributes_or_their_content_type_is_a_cloudevent(headers: dict[str, str]) -> None:
    assert holds_cloudevent(headers)


@pytest.mark.parametrize("headers", [{}, JSON, {"x-death": "1", "certificate": "ce-"}])
def test_other_message_is_no_cloudevent(headers: dict[str, str]) -> None:
    assert not holds_cloudevent(headers)
