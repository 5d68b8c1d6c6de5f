"""Source fields to canonical columns: the preset of Segment, and mappings of the user's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from config import InputRules
from errors import ConfigError
from events.presets import MAPPED, build_mapping, split_path
from tests.support.records import decode, decode_records, free, read_event, read_events, read_reasons, track

PAGE = (Path(__file__).parents[2] / "docs" / "input.md").read_text(encoding="utf-8")
TIME = "2026-01-05T10:11:12Z"


def segment(kind: str, **fields: Any) -> dict[str, Any]:
    return {"messageId": "m", "type": kind, "anonymousId": "d", "userId": "u", "timestamp": TIME, **fields}


def test_track_has_its_event_and_properties() -> None:
    event = read_event(segment("track", event="Order Completed", properties={"total": 9.5, "items": [{"sku": "ä"}]}))
    assert (event["event_id"], event["event_type"], event["event_name"]) == ("m", "track", "Order Completed")
    assert (event["device_id"], event["user_id"], event["channel"]) == ("d", "u", "unknown")
    assert json.loads(event["properties"]) == {"total": 9.5, "items": [{"sku": "ä"}]}
    assert event["page"] is None


def test_page_is_named_by_its_name_and_has_its_path() -> None:
    properties = {"path": "/pricing", "referrer": "https://a.example", "url": "https://b.example/pricing"}
    event = read_event(segment("page", name="Pricing", properties=properties))
    assert (event["event_name"], event["page"], event["referrer"]) == ("Pricing", "/pricing", "https://a.example")
    assert event["channel"] == "web"


def test_page_of_the_context_comes_first_and_urls_last() -> None:
    context = {"page": {"path": "/c", "url": "https://x/c", "referrer": "r"}, "campaign": {"name": "spring"}}
    event = read_event(segment("track", event="E", context=context))
    assert (event["page"], event["referrer"], event["campaign"]) == ("/c", "r", "spring")
    assert read_event(segment("page", properties={"path": "/p"}, context=context))["page"] == "/c"
    assert read_event(segment("page", context={"page": {"url": "https://x/u"}}))["page"] == "https://x/u"
    assert read_event(segment("page", properties={"url": "https://x/v"}))["page"] == "https://x/v"
    assert read_event(segment("track", event="E", properties={"path": "/p"}))["page"] is None


@pytest.mark.parametrize("kind", ["page", "screen", "identify", "group", "alias"])
def test_record_without_a_name_is_called_by_its_type(kind: str) -> None:
    assert read_event(segment(kind))["event_name"] == kind
    assert read_event(segment(kind, name="", event=""))["event_name"] == kind


def test_screen_is_mobile() -> None:
    event = read_event(segment("screen", name="Home"))
    assert (event["event_name"], event["channel"]) == ("Home", "mobile")


@pytest.mark.parametrize("kind", ["identify", "group"])
def test_traits_are_the_properties_where_there_are_none(kind: str) -> None:
    assert json.loads(read_event(segment(kind, traits={"plan": "pro"}))["properties"]) == {"plan": "pro"}
    assert json.loads(read_event(segment(kind, traits={"a": 1}, properties={"b": 2}))["properties"]) == {"b": 2}
    assert json.loads(read_event(segment(kind, traits={"a": 1}, properties=None))["properties"]) == {"a": 1}


def test_alias_joins_the_previous_id_as_device() -> None:
    event = read_event({"type": "alias", "previousId": "old", "userId": "new", "timestamp": TIME})
    assert (event["device_id"], event["user_id"], event["person_id"]) == ("old", "new", "new")


def test_original_timestamp_counts_where_there_is_no_other() -> None:
    assert read_event(track(timestamp=None, originalTimestamp=TIME))["event_time"].hour == 10


@pytest.mark.parametrize(
    ("fields", "channel"),
    [
        ({}, "unknown"),
        ({"channel": "support"}, "support"),
        ({"channel": ""}, "unknown"),
        ({"context": {"channel": "email"}}, "email"),
        ({"channel": "a", "context": {"channel": "b"}}, "a"),
        ({"type": "page"}, "web"),
        ({"type": "page", "channel": "kiosk"}, "kiosk"),
        ({"type": "page", "context": {"device": {"type": "iOS"}}}, "mobile"),
        ({"context": {"device": {"type": "android"}}}, "mobile"),
        ({"context": {"os": {"name": "iPadOS"}}}, "mobile"),
        ({"context": {"os": {"name": "Windows"}}}, "unknown"),
        ({"context": {"library": {"name": "analytics-ios"}}}, "mobile"),
        ({"context": {"library": {"name": "com.rudderstack.android.sdk.core"}}}, "mobile"),
        ({"context": {"library": {"name": "analytics-react-native"}}}, "mobile"),
        ({"context": {"library": {"name": "analytics-swift"}}}, "mobile"),
        ({"context": {"library": {"name": "axios"}}}, "unknown"),
        ({"context": {"library": {"name": "analytics.js"}}}, "web"),
        ({"context": {"library": {"name": "RudderLabs JavaScript SDK"}}}, "web"),
        ({"context": {"library": {"name": "@segment/analytics-next"}}}, "web"),
        ({"context": {"library": {"name": "analytics-python"}}}, "unknown"),
    ],
)
def test_channel_is_told_or_guessed(fields: dict[str, Any], channel: str) -> None:
    record = track(name="N", **fields)
    assert read_event(record)["channel"] == channel
    if channel == "unknown":
        assert read_event(record, InputRules(channel="it's"))["channel"] == "it's"


@pytest.mark.parametrize(
    "context", [5, "x", None, [], {"page": "x"}, {"page": {"path": {"a": 1}}}, {"os": []}, {"channel": {}}]
)
def test_context_of_another_shape_costs_nothing_but_itself(context: object) -> None:
    assert read_event(track(context=context))["user_id"] == "u"


def test_page_of_the_docs_lists_the_columns() -> None:
    section = PAGE.split("## The segment preset")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.M) == [
        *MAPPED[:5],
        "person_id",
        *(name for name in MAPPED[5:]),
    ]


def test_rudderstack_is_segment() -> None:
    assert build_mapping(InputRules(format="rudderstack")) == build_mapping(InputRules())


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("a", ["a"]),
        ("a.b.c", ["a", "b", "c"]),
        ("a.`b.c`", ["a", "b.c"]),
        ("`a.b`.c", ["a.b", "c"]),
        ("`a b`", ["a b"]),
    ],
)
def test_path_is_split_at_dots_outside_backticks(path: str, keys: list[str]) -> None:
    assert split_path(path) == keys


FREE = free(
    event_time=["meta.when", "at"],
    user_id=["customer.id", "who"],
    event_name=["action", 'it\'s "odd"'],
    page="context.`page.url`",
    campaign='utm.`a.b`.`c "d"`',
    properties="data",
    channel="via",
)


def test_free_mapping_reaches_into_objects_and_odd_keys() -> None:
    record = {
        "meta": {"when": TIME},
        "customer": {"id": 7},
        "action": "go",
        "context": {"page.url": "/x"},
        "utm": {"a.b": {'c "d"': "spring"}},
        "data": {"k": [1, None]},
        "via": "store",
    }
    event = read_event(record, FREE)
    assert (event["user_id"], event["event_name"], event["page"]) == ("7", "go", "/x")
    assert (event["campaign"], event["channel"], json.loads(event["properties"])) == (
        "spring",
        "store",
        {"k": [1, None]},
    )
    assert event["event_time"].minute == 11


def test_free_mapping_takes_the_first_place_that_holds_something() -> None:
    record = {"at": TIME, "customer": {"id": ""}, "who": "w", 'it\'s "odd"': "second", "action": "", "via": ""}
    event = read_event(record, FREE)
    assert (event["user_id"], event["event_name"], event["channel"]) == ("w", "second", "unknown")
    assert (event["page"], event["properties"]) == (None, None)


@pytest.mark.parametrize("customer", ["x", 5, None, [], {}, {"id": None}])
def test_place_within_what_is_no_object_is_empty(customer: object) -> None:
    decoded = decode_records([{"at": TIME, "customer": customer, "action": "go"}], FREE)
    assert read_reasons(decoded) == ["no_person"]


def test_one_field_may_be_read_whole_and_reached_into() -> None:
    rules = free(
        event_time="t", user_id=["other", "who.user"], device_id="who.device", event_name="who", properties="who"
    )
    records = [{"t": TIME, "who": "text", "other": "o"}, {"t": TIME, "who": 5, "other": 6}]
    text, number = read_events(decode_records(records, rules))
    assert (text["user_id"], text["event_name"], text["properties"]) == ("o", "text", '"text"')
    assert (number["user_id"], number["event_name"], number["properties"]) == ("6", "5", "5")
    assert read_reasons(decode_records([{"t": TIME, "who": {"user": "u"}}], rules)) == ["bad_name"]


def test_name_may_be_the_type_or_a_setting() -> None:
    record = {"t": TIME, "u": "x", "kind": "visit"}
    by_type = free(event_time="t", user_id="u", event_type="kind")
    assert read_event(record, by_type)["event_name"] == "visit"
    by_setting = InputRules("fields", {"event_time": ("t",), "user_id": ("u",)}, event_name="it's")
    assert read_event(record, by_setting)["event_name"] == "it's"
    nothing = decode_records([{"t": TIME, "u": "x"}], by_type)
    assert read_reasons(nothing) == ["no_name"]


def test_preset_with_a_column_of_ones_own_keeps_the_others() -> None:
    rules = InputRules(fields={"page": ("context.page.title",), "campaign": ("utm.source", "context.campaign.source")})
    context = {"page": {"title": "T", "path": "/p"}, "campaign": {"source": "mail", "name": "n"}, "os": {"name": "iOS"}}
    event = read_event(segment("track", event="E", context=context, properties={"a": 1}), rules)
    assert (event["page"], event["campaign"], event["channel"]) == ("T", "mail", "mobile")
    assert (event["event_name"], event["user_id"], event["properties"]) == ("E", "u", '{"a":1}')


@pytest.mark.parametrize(
    ("fields", "record", "name"),
    [
        ({"event_name": ("Event",)}, {"Event": "mine", "event": "theirs"}, "mine"),
        ({"event_name": ("Event",)}, {"event": "theirs"}, "track"),
        ({"event_name": ("event.name",)}, {"event": {"name": "inner"}}, "inner"),
        ({"event_name": ("properties.label", "event")}, {"event": "e", "properties": {"label": "l"}}, "l"),
        ({"event_name": ("properties.label", "event")}, {"event": "e", "properties": {}}, "e"),
        ({"event_type": ("kind",)}, {"event": None, "kind": "k"}, "k"),
        ({"event_type": ("kind",)}, {"event": "e", "kind": "k"}, "e"),
        ({"user_id": ("type.x", "userId")}, {"event": "e"}, "e"),
    ],
)
def test_preset_with_a_name_of_ones_own(fields: dict[str, tuple[str, ...]], record: dict[str, Any], name: str) -> None:
    assert read_event(track(**record), InputRules(fields=fields))["event_name"] == name


def test_places_that_differ_by_case_only_are_refused() -> None:
    with pytest.raises(ConfigError, match="'ID' and 'id' differ only"):
        build_mapping(free(event_time="t", user_id="ID", device_id="id", event_name="n"))
    with pytest.raises(ConfigError, match="differ only"):
        build_mapping(InputRules(fields={"page": ("TYPE",)}))


def test_free_mapping_without_time_or_person_is_refused() -> None:
    with pytest.raises(ConfigError, match="time and the person"):
        build_mapping(free(user_id="u"))
    with pytest.raises(ConfigError, match="time and the person"):
        build_mapping(free(event_time="t"))
    with pytest.raises(ConfigError, match="unknown"):
        build_mapping(InputRules(format="cloud"))


def test_csv_of_the_preset_has_columns_of_the_same_names() -> None:
    header = ("messageId", "type", "event", "userId", "timestamp", "context", "properties", "plan")
    row = 'm,track,E,7,2026-01-05,"{""page"":{""path"":""/p""}}","{""a"":1}",pro'
    (event,) = read_events(decode(row.encode(), kind="csv", header=header))
    assert (event["event_id"], event["user_id"], event["page"], event["properties"]) == ("m", "7", "/p", '{"a":1}')
