"""Calls made into records: what is added, what is set right, and what stays."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clock import to_us
from sources.inbox import Received
from sources.segment_calls import EPOCH, MAX_CALLS, read_batch, read_call, read_moment

NOON = to_us(datetime(2026, 1, 5, 12, tzinfo=timezone.utc))


def call(body: dict[str, Any], kind: str = "track", at: int = NOON) -> dict[str, Any]:
    return dict(json.loads(write(body, kind, at).line))


def write(body: dict[str, Any], kind: str = "track", at: int = NOON) -> Received:
    (empty,) = read_call(b" { } ", "track").write(1)
    assert json.loads(empty.line)["type"] == "track"
    (record,) = read_call(json.dumps(body).encode(), kind).write(at)
    return record


def batch(body: dict[str, Any]) -> list[Any]:
    return [json.loads(record.line) for record in read_batch(json.dumps(body).encode()).write(NOON)]


def test_missing_type_id_and_time_are_filled_in() -> None:
    made = call({"userId": "u", "event": "view"})
    assert made.pop("messageId")
    assert made == {
        "userId": "u",
        "event": "view",
        "type": "track",
        "receivedAt": "2026-01-05T12:00:00.000000Z",
        "timestamp": "2026-01-05T12:00:00.000000Z",
    }


def test_what_a_call_says_itself_stays() -> None:
    body = {"type": "page", "messageId": "m", "timestamp": "2026-01-05T11:59:00Z", "properties": {"a": [1.5]}}
    assert call(body) == {**body, "receivedAt": "2026-01-05T12:00:00.000000Z"}


@pytest.mark.parametrize("nothing", [None, ""])
def test_empty_is_missing(nothing: str | None) -> None:
    made = call({"type": nothing, "messageId": nothing, "timestamp": nothing, "userId": "u"}, "identify")
    assert made["type"] == "identify"
    assert made["timestamp"] == "2026-01-05T12:00:00.000000Z"
    assert made["messageId"]


def test_keys_and_receipts_of_others_are_not_kept() -> None:
    made = call({"writeKey": "secret", "receivedAt": "2020-01-01T00:00:00Z", "messageId": "m"})
    assert "secret" not in json.dumps(made)
    assert made["receivedAt"] == "2026-01-05T12:00:00.000000Z"


def test_text_of_a_call_stays_as_it_stands() -> None:
    (empty,) = read_call(b" { } ", "track").write(1)
    assert json.loads(empty.line)["type"] == "track"
    (record,) = read_call(
        b'{"messageId": "m",\n "properties": {"price": 1.50, "n": 1E3,\r\n "x": "\\u00e9"}}', "track"
    ).write(1)
    assert b'"properties": {"price": 1.50, "n": 1E3,\r  "x": "\\u00e9"}' in record.line
    assert b"\n" not in record.line


def test_batch_shares_context_integrations_and_time_of_sending() -> None:
    shared = {"context": {"ip": "1.2.3.4", "page": {"path": "/shared"}}, "integrations": {"All": True}}
    calls = [
        {"type": "track", "messageId": "a", "timestamp": "2026-01-05T12:00:00Z"},
        {
            "type": "page",
            "messageId": "b",
            "timestamp": "2026-01-05T12:00:00Z",
            "context": {"page": {"path": "/own"}, "os": 1.0},
            "integrations": {"All": False},
            "sentAt": "2026-01-05T12:00:01Z",
        },
    ]
    first, second = batch({"batch": calls, "sentAt": "2026-01-05T12:00:00Z", "writeKey": "k", **shared})
    received = {"receivedAt": "2026-01-05T12:00:00.000000Z"}
    assert first == {**calls[0], **shared, **received, "sentAt": "2026-01-05T12:00:00Z"}
    merged = {"ip": "1.2.3.4", "page": {"path": "/own"}, "os": 1.0}
    assert second == {**calls[1], **received, "context": merged}


def test_context_that_is_no_object_is_left_alone() -> None:
    (made,) = batch({"batch": [{"context": "x", "messageId": "m"}], "context": {"ip": 1}})
    assert made["context"] == "x"


def test_what_is_no_call_in_a_batch_stays_where_it_is() -> None:
    assert batch({"batch": [1, None, "x", [{}], {"messageId": "m", "type": "track"}]})[:4] == [1, None, "x", [{}]]
    assert batch({"batch": []}) == []


@pytest.mark.parametrize("body", [{}, {"batch": {}}, {"batch": None}, {"batch": [{}] * (MAX_CALLS + 1)}])
def test_batch_without_an_array_and_one_of_too_many_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="batch"):
        read_batch(json.dumps(body).encode())


@pytest.mark.parametrize("ahead", [-86_400, -60, 60, 3_600, 86_400 * 400])
@pytest.mark.parametrize("name", ["timestamp", "originalTimestamp"])
def test_clock_that_is_off_is_set_right(ahead: int, name: str) -> None:
    sent = datetime(2026, 1, 5, 12, tzinfo=timezone.utc) + timedelta(seconds=ahead)
    said = (sent - timedelta(seconds=10)).isoformat()
    made = call({"messageId": "m", name: said, "sentAt": sent.isoformat()})
    assert made["timestamp"] == "2026-01-05T11:59:50.000000Z"
    assert made["originalTimestamp"] == said


@pytest.mark.parametrize(
    "times",
    [
        {"timestamp": "2026-01-05T10:00:00Z"},  # nobody knows when it was sent
        {"timestamp": "2026-01-05T10:00:00Z", "sentAt": "soon"},
        {"timestamp": "2026-01-05T10:00:00Z", "sentAt": "2026-01-05T11:59:56Z"},  # under way
        {"timestamp": "2026-01-05T10:00:00Z", "sentAt": "2026-01-05T12:00:04Z"},
        {
            "timestamp": "2025-01-05T10:00:00Z",
            "originalTimestamp": "2025-01-05T09:00:00Z",
            "sentAt": "2025-01-05T10:00:00Z",
        },
        {"timestamp": "yesterday", "sentAt": "2026-01-05T10:00:00Z"},
        {"timestamp": 1767607200, "sentAt": "2026-01-05T10:00:00Z"},
        {"timestamp": "9999-12-31T23:59:59Z", "sentAt": "1970-01-01T00:00:00Z"},
    ],
)
def test_time_that_can_not_be_set_right_or_is_right_stays(times: dict[str, Any]) -> None:
    made = call({"messageId": "m", **times})
    assert {name: made[name] for name in times} == times
    assert made.keys() - times.keys() == {"messageId", "receivedAt", "type"}


def test_call_whose_time_stays_what_it_is_has_no_name_of_its_delivery() -> None:
    """The dataflow counts it as a duplicate, as it does when files are replayed."""
    body = {"messageId": "m", "userId": "u", "timestamp": "2026-01-05T10:00:00Z"}
    assert write(body).delivery == ""
    assert write({**body, "originalTimestamp": "2026-01-05T09:00:00Z", "sentAt": "2026-01-05T09:00:01Z"}).delivery == ""
    assert write({"messageId": "m", "userId": "u"}).delivery != ""


def test_retry_is_the_delivery_that_came_before_and_another_call_is_not() -> None:
    body = {"messageId": "m", "userId": "u", "timestamp": "2026-01-05T10:00:00Z", "sentAt": "2026-01-05T10:00:00Z"}
    first = write(body)
    again = write({**body, "sentAt": "2026-01-05T10:00:30Z", "writeKey": "k"}, at=NOON + 31_000_000)
    assert first.delivery
    assert first.delivery == again.delivery
    for other in ({"messageId": "n"}, {"userId": "v"}, {"timestamp": "2026-01-05T10:00:01Z"}, {"anonymousId": "a"}):
        assert write({**body, **other}).delivery != first.delivery
    assert write({**body, "type": "page"}).delivery != first.delivery


def test_call_without_an_id_is_told_by_what_it_says_if_it_says_when() -> None:
    body = {"userId": "u", "timestamp": "2026-01-05T12:00:00Z", "event": "view"}
    first, again = (write({**body, "sentAt": f"2026-01-05T12:00:0{n}Z"}, at=NOON + n) for n in range(2))
    assert json.loads(first.line)["messageId"] == json.loads(again.line)["messageId"]
    assert first.delivery == again.delivery != ""
    assert json.loads(write({**body, "event": "add"}).line)["messageId"] != json.loads(first.line)["messageId"]
    timeless = [write({"userId": "u", "event": "view"}) for _ in range(2)]
    assert [record.delivery for record in timeless] == ["", ""]
    assert len({json.loads(record.line)["messageId"] for record in timeless}) == 2


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_moment_is_read_whatever_its_zone(moment: datetime, minutes: int) -> None:
    here = moment.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(minutes=minutes)))
    wanted = (moment.replace(tzinfo=timezone.utc) - EPOCH) // timedelta(microseconds=1)
    assert read_moment(here.isoformat()) == wanted
    assert read_moment(moment.isoformat().replace("T", " ") + "Z") == wanted


@given(st.text())
def test_any_text_is_a_moment_or_none(text: str) -> None:
    read_moment(text)
