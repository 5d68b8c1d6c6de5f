"""Payloads in envelopes: Segment's calls tell more than their envelope, anything else is taken as it is."""

from __future__ import annotations

from typing import Any

import pytest

from config import InputRules
from tests.support.records import Row, decode_records, read_event, read_reasons

RULES = InputRules(format="cloudevents", channel="it's")
TIME = "2026-01-05T10:11:12Z"


def wrap(data: Any, **attributes: Any) -> Row:
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": TIME, "data": data} | attributes


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify", "group", "alias"])
def test_segments_call_in_an_envelope_is_named_by_the_call(kind: str) -> None:
    event = read_event(wrap({"type": kind, "userId": "u", "messageId": "m"}), RULES)
    assert (event["event_id"], event["event_type"], event["event_name"]) == ("m", kind, kind)


def test_type_that_is_none_of_segments_is_left_alone() -> None:
    data = {"type": "refund", "userId": "u", "messageId": "m", "event": "E", "timestamp": "2020-01-01", "properties": 5}
    event = read_event(wrap(data), RULES)
    assert (event["event_id"], event["event_type"], event["event_name"]) == ("/s#1", "t", "t")
    assert event["event_time"].year == 2026
    assert '"properties":5' in event["properties"]


@pytest.mark.parametrize(
    ("data", "device", "user"),
    [
        ({"userId": "a", "user_id": "b"}, None, "a"),
        ({"userId": "", "user_id": "b"}, None, "b"),
        ({"customerId": 7}, None, "7"),
        ({"customer_id": "c"}, None, "c"),
        ({"user": {"id": "d"}}, None, "d"),
        ({"customer": {"id": "e"}}, None, "e"),
        ({"anonymousId": "f", "deviceId": "g"}, "f", None),
        ({"anonymous_id": "h"}, "h", None),
        ({"deviceId": "i"}, "i", None),
        ({"device_id": "j"}, "j", None),
        ({"type": "alias", "previousId": "k", "userId": "l"}, "k", "l"),
    ],
)
def test_person_is_looked_for_in_the_payload(data: Row, device: str | None, user: str | None) -> None:
    event = read_event(wrap(data), RULES)
    assert (event["device_id"], event["user_id"]) == (device, user)


def test_subject_is_no_person_until_it_is_mapped() -> None:
    record = wrap({}, subject="customer/7")
    assert read_reasons(decode_records([record], RULES)) == ["no_person"]
    mapped = InputRules(format="cloudevents", fields={"user_id": ("subject",)})
    assert read_event(record, mapped)["user_id"] == "customer/7"


@pytest.mark.parametrize(
    ("data", "channel"),
    [
        ({}, "it's"),
        ({"channel": "store"}, "store"),
        ({"channel": "", "context": {"channel": "mail"}}, "mail"),
        ({"context": {"os": {"name": "iOS"}}}, "it's"),
        ({"type": "track", "context": {"os": {"name": "iOS"}}}, "mobile"),
        ({"type": "track", "context": {"device": {"type": "Android"}}}, "mobile"),
        ({"type": "track", "context": {"library": {"name": "analytics-react-native"}}}, "mobile"),
        ({"type": "track", "context": {"library": {"name": "analytics-python"}}}, "it's"),
        ({"type": "screen"}, "mobile"),
        ({"type": "page"}, "web"),
        ({"type": "page", "context": 5, "properties": []}, "web"),
    ],
)
def test_channel_is_told_or_guessed(data: Row, channel: str) -> None:
    assert read_event(wrap({"userId": "u", **data}), RULES)["channel"] == channel


def test_page_of_a_view_comes_from_its_properties_last() -> None:
    properties = {"path": "/p", "url": "https://x/p", "referrer": "r"}
    view = {"userId": "u", "type": "page", "properties": properties}
    assert read_event(wrap(view), RULES)["page"] == "/p"
    assert read_event(wrap(view | {"context": {"page": {"path": "/c"}}}), RULES)["page"] == "/c"
    assert read_event(wrap(view | {"type": "track"}), RULES)["page"] is None
    assert read_event(wrap(view), RULES)["referrer"] == "r"


def test_same_id_of_two_sources_is_two_events_and_without_source_it_stands_alone() -> None:
    ids = [
        read_event(wrap({"userId": "u"}, **attributes), RULES)["event_id"]
        for attributes in ({}, {"source": "/other"}, {"source": None})
    ]
    assert ids == ["/s#1", "/other#1", "1"]
    assert len(read_event(wrap({"userId": "u"}, id=""), RULES)["event_id"]) == 32


def test_posthog_id_that_is_no_text_is_a_bad_person() -> None:
    record = {"event": "e", "distinct_id": "d", "timestamp": TIME, "properties": {"$user_id": {"a": 1}}}
    assert read_reasons(decode_records([record], InputRules(format="posthog"))) == ["bad_person"]


@pytest.mark.parametrize(
    ("properties", "device", "user"),
    [
        ({}, None, "x"),
        ({"$is_identified": True}, None, "x"),
        ({"$is_identified": False}, "x", None),
        ({"$device_id": "x"}, "x", None),
        ({"$device_id": "y"}, "y", "x"),
        ({"$device_id": "x", "$is_identified": True}, "x", "x"),
        ({"$device_id": "y", "$is_identified": False}, "y", None),
        ({"$device_id": "y", "$user_id": "z"}, "y", "z"),
        ({"$anon_distinct_id": "y"}, "y", "x"),
    ],
)
def test_posthogs_distinct_id_is_a_device_or_a_user(properties: Row, device: str | None, user: str | None) -> None:
    record = {"event": "e", "distinct_id": "x", "timestamp": TIME, "properties": properties}
    event = read_event(record, InputRules(format="posthog"))
    assert (event["device_id"], event["user_id"]) == (device, user)
    within = {"event": "e", "timestamp": TIME, "properties": {"distinct_id": "x", **properties}}
    assert read_event(within, InputRules(format="posthog"))["user_id"] == user
