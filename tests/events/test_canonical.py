"""Text columns to events: which record becomes what, for which reason, with which values."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from config import InputRules
from events.schema import CANONICAL
from tests.support.records import decode, decode_records, read_event, read_events, read_reasons, track

DAY = "2026-01-05T10:11:12Z"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"timestamp": ...}, "no_time"),
        ({"timestamp": None}, "no_time"),
        ({"timestamp": ""}, "no_time"),
        ({"timestamp": "  "}, "no_time"),
        ({"timestamp": "soon"}, "bad_time"),
        ({"timestamp": {}}, "bad_time"),
        ({"timestamp": "1969-12-31T23:59:59Z"}, "time_out_of_range"),
        ({"timestamp": "9999-01-01T00:00:00Z"}, "time_out_of_range"),
        ({"timestamp": "9998-12-31T00:00:00Z"}, "future"),
        ({"userId": ...}, "no_person"),
        ({"userId": ""}, "no_person"),
        ({"userId": None, "anonymousId": ""}, "no_person"),
        ({"userId": float("nan")}, "no_person"),
        ({"userId": {"id": 1}}, "bad_person"),
        ({"userId": []}, "bad_person"),
        ({"userId": None, "anonymousId": {}}, "bad_person"),
        ({"event": ..., "type": ...}, "no_name"),
        ({"event": "", "type": ""}, "no_name"),
        ({"event": {"name": "x"}}, "bad_name"),
        ({"event": []}, "bad_name"),
        ({"event": "(start)"}, "reserved_name"),
        ({"event": "(end)"}, "reserved_name"),
    ],
)
def test_record_is_a_dead_letter_for_this_reason(changes: dict[str, Any], reason: str) -> None:
    record = track(**changes)
    decoded = decode_records([track(), record, track()])
    assert read_reasons(decoded) == [reason]
    (letter,) = decoded.dead.rows(named=True)
    assert letter["source_position"] == 1
    assert letter["raw"] == json.dumps(record).encode()
    assert (decoded.received, decoded.events.height, decoded.lines.to_list()) == (3, 2, [0, 2])


def test_first_reason_that_holds_is_given() -> None:
    record = {"timestamp": "soon", "userId": [], "event": "(end)"}
    reasons = []
    for name, good in (("timestamp", DAY), ("userId", "u"), ("event", "E")):
        reasons += read_reasons(decode_records([record]))
        record = record | {name: good}
    assert reasons == ["bad_time", "bad_person", "reserved_name"]
    assert read_event(record)["event_name"] == "E"


@pytest.mark.parametrize(
    "changes",
    [
        {"userId": "{6F9619FF-8B86-D011-B42D-00CF4FC964FF}"},
        {"event": "[Amplitude] Page Viewed"},
        {"event": "(Start)"},
        {"event": " (end)"},
        {"userId": "\0"},
        {"userId": "a\nb"},
        {"userId": "‮🙂日本"},
        {"event": "x" * 10_000},
        {"timestamp": "1970-01-01T00:00:00Z"},
        {"context": "web"},
        {"properties": [1]},
    ],
)
def test_unusual_record_is_an_event_with_its_values_as_they_are(changes: dict[str, Any]) -> None:
    record = track(**changes)
    event = read_event(record)
    assert (event["user_id"], event["event_name"]) == (record["userId"], record["event"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (1234567890123456789, "1234567890123456789"),
        (10**30, "1" + "0" * 30),
        (1.5, "1.5"),
        (0, "0"),
        (-1, "-1"),
        (True, "true"),
    ],
)
def test_number_is_taken_as_an_id(value: object, text: str) -> None:
    event = read_event(track(userId=value, messageId=value))
    assert (event["user_id"], event["event_id"]) == (text, text)


def test_person_is_the_user_and_else_the_device() -> None:
    both, device, empty, nan = read_events(
        decode_records(
            [
                track(anonymousId="d"),
                track(anonymousId="d", userId=None),
                track(anonymousId="d", userId=""),
                track(anonymousId="d", userId=float("nan")),
            ]
        )
    )
    assert (both["person_id"], both["user_id"], both["device_id"]) == ("u", "u", "d")
    for event in (device, empty, nan):
        assert (event["person_id"], event["user_id"], event["device_id"]) == ("d", None, "d")


@pytest.mark.parametrize(
    ("timestamp", "received", "alive"),
    [
        ("2026-01-05T11:00:00Z", "2026-01-05T10:00:00Z", True),
        ("2026-01-05T11:00:00.000001Z", "2026-01-05T10:00:00Z", False),
        ("2026-03-01T01:00:00Z", None, True),
        ("2026-03-01T01:00:01Z", None, False),
        ("2026-03-01T01:00:00Z", "not a time", True),
        ("2026-03-01T01:00:01Z", "not a time", False),
        ("2026-03-01T02:00:00Z", "2026-03-01T01:00:00Z", True),
        ("2026-03-01T02:00:01Z", "2026-03-01T01:30:00Z", False),
        ("2091-01-01T00:00:00Z", "2091-01-01T00:00:00Z", False),
        ("2026-02-01T00:00:00Z", "2091-01-01T00:00:00Z", True),
    ],
)
def test_event_ahead_of_its_receipt_is_dead_and_a_receipt_ahead_of_the_clock_is_not_believed(
    timestamp: str, received: str | None, alive: bool
) -> None:
    """The clock of the run stands at 2026-03-01T00:00:00Z; `max_future` is an hour."""
    assert read_reasons(decode_records([track(timestamp=timestamp, receivedAt=received)])) == (
        [] if alive else ["future"]
    )


def test_max_future_is_a_setting() -> None:
    record = track(receivedAt="2026-01-05T10:11:11Z")
    assert read_reasons(decode_records([record], InputRules(max_future=1_000_000))) == []
    assert read_reasons(decode_records([record], InputRules(max_future=999_999))) == ["future"]


def test_missing_id_is_a_hash_of_the_raw_record() -> None:
    record = json.dumps(track()).encode()
    other = json.dumps(track(event="F")).encode()
    ids = [
        event["event_id"] for event in read_events(decode(b"\n".join([record, other, record + b"\r", b" " + record])))
    ]
    assert [len(id_) for id_ in ids] == [32] * 4
    assert ids[0] == ids[2]
    assert len(set(ids)) == 3
    again = read_events(decode(other))
    assert again[0]["event_id"] == ids[1]


def test_long_records_that_differ_at_their_end_only_get_ids_of_their_own() -> None:
    records = [track(properties={"text": "x" * 100_000, "last": number}) for number in range(2)]
    first, second = read_events(decode_records(records))
    assert first["event_id"] != second["event_id"]


def test_given_and_missing_ids_stand_in_their_places() -> None:
    ids = [
        event["event_id"] for event in read_events(decode_records([track(messageId=i) for i in ("a", None, "b", "")]))
    ]
    assert (ids[0], ids[2]) == ("a", "b")
    assert len(ids[1]) == len(ids[3]) == 32


def test_event_has_its_place_and_times() -> None:
    decoded = decode(
        b"\n" + json.dumps(track(receivedAt="2026-01-05T10:11:13.5Z")).encode(), first_position=(2 << 40) + 5
    )
    (event,) = read_events(decoded)
    assert (event["source"], event["source_partition"], event["source_position"]) == ("f", "lane-000", (2 << 40) + 6)
    assert event["event_time"] == datetime(2026, 1, 5, 10, 11, 12, tzinfo=timezone.utc)
    assert event["received_at"] == datetime(2026, 1, 5, 10, 11, 13, 500_000, tzinfo=timezone.utc)
    assert decoded.lines.to_list() == [1]


def test_columns_that_are_null_throughout_are_left_out() -> None:
    columns = set(decode_records([track(receivedAt=DAY, anonymousId="d")]).events.columns)
    assert columns <= {*CANONICAL, "person_hash"}
    assert {"received_at", "device_id", "person_hash"} <= columns
    assert not {"page", "referrer", "campaign", "properties"} & columns


def test_every_record_dead_leaves_no_event() -> None:
    decoded = decode(b"x\n{}\n[]\n")
    assert (decoded.received, decoded.events.height, decoded.dead.height) == (3, 0, 3)
    assert decoded.events["person_hash"].len() == 0


def test_event_that_does_not_say_when_it_was_received_was_so_when_its_record_came() -> None:
    records = [track(), track(receivedAt="2026-01-05T10:11:13Z"), track(userId=""), track(receivedAt="soon")]
    payload = b"\n".join(json.dumps(record).encode() for record in records)
    came = np.arange(4, dtype=np.int64) * 1_000_000 + 1_767_700_000_000_000
    seconds = [event["received_at"].timestamp() for event in read_events(decode(payload, received=came))]
    assert seconds == [1_767_700_000, 1_767_607_873, 1_767_700_003]
    (event,) = read_events(decode(payload[: payload.index(b"\n")], received=came[:1]))
    assert event["received_at"].timestamp() == 1_767_700_000
