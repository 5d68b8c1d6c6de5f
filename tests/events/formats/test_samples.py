"""Every format's sample against every canonical column, and lines that are no events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from clock import to_us
from config import InputRules
from events.decode import make_decoder
from events.formats.registry import FORMATS
from events.presets import MAPPED, build_mapping
from events.raw import RawBlock
from flows.settings import load_config
from tests.events.formats import expected
from tests.support.records import NOW, Row, decode, decode_records, read_event, read_events, read_reasons

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "tests" / "samples" / "formats"
SUPPORT_DESK = load_config(ROOT / "data" / "examples" / "support-desk.toml")


def rules(name: str, **more: Any) -> InputRules:
    return InputRules(format=name, channel="elsewhere", **more)


CASES = {
    "cloudevents.ndjson": (rules("cloudevents"), expected.CLOUDEVENTS, ["no_person"]),
    "eventbridge.ndjson": (rules("eventbridge"), expected.EVENTBRIDGE, []),
    "eventgrid.ndjson": (rules("eventgrid"), expected.EVENTGRID, []),
    "posthog.ndjson": (rules("posthog"), expected.POSTHOG, []),
    "ga4.ndjson": (rules("ga4"), expected.GA4, []),
    "amplitude.ndjson": (rules("amplitude"), expected.AMPLITUDE, []),
    "snowplow.tsv": (rules("snowplow"), expected.SNOWPLOW_TSV, []),
    "snowplow.ndjson": (rules("snowplow"), expected.SNOWPLOW_JSON, []),
    "support-desk.ndjson": (SUPPORT_DESK.input, expected.SUPPORT_DESK, []),
}


def show(events: list[Row]) -> list[Row]:
    """Return the mapped columns, times as text; an id of 32 hex digits was made by the engine and is left out."""
    rows = []
    for event in events:
        row = {name: event[name] for name in MAPPED}
        for name in ("event_time", "received_at"):
            row[name] = row[name] and row[name].strftime("%Y-%m-%dT%H:%M:%S.%f")
        if len(row["event_id"]) == 32 and not set(row["event_id"]) - set("0123456789abcdef"):
            row["event_id"] = None
        rows.append(row)
    return rows


@pytest.mark.parametrize("name", CASES)
def test_sample_has_the_columns_written_by_hand(name: str) -> None:
    given, events, reasons = CASES[name]
    decoded = decode((SAMPLES / name).read_bytes(), given)
    assert show(read_events(decoded)) == [dict.fromkeys(MAPPED) | event for event in events]
    assert read_reasons(decoded) == reasons


def test_every_format_and_every_sample_has_a_case() -> None:
    assert {given.format for given, _, _ in CASES.values()} == {*FORMATS, "fields"}
    assert {path.name for path in SAMPLES.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", FORMATS)
def test_mapping_covers_every_column_from_columns_that_are_read(name: str) -> None:
    mapping = build_mapping(rules(name))
    assert list(mapping.select) == list(MAPPED)
    assert list(mapping.uses) == list(MAPPED)
    assert {column for use in mapping.uses.values() for column in use} == set(mapping.columns)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not_json"),
        (b"plain text", "not_json"),
        (b"[]", "not_an_object"),
        (b"7", "not_an_object"),
        (b"{}", "no_time"),
        (b'{"x": "\xff"}', "bad_utf8"),
        (b'{"properties": 5, "data": [], "detail": "x", "event_params": {"a": []}, "contexts": 5}', "no_time"),
    ],
)
def test_line_that_is_no_event_is_dead_and_harms_no_other(name: str, line: bytes, reason: str) -> None:
    sample = next(path for path in CASES if CASES[path][0].format == name and path.endswith(".ndjson"))
    lines = (SAMPLES / sample).read_bytes().splitlines()
    decoded = decode(b"\n".join([line, b"", *lines, line]), CASES[sample][0])
    assert decoded.events.height == len(CASES[sample][1])
    assert read_reasons(decoded) == [reason, *CASES[sample][2], reason]
    assert decoded.dead["source_position"].to_list()[0] == 0
    assert decoded.dead["raw"].to_list()[0] == line
    assert decoded.events["source_position"].to_list()[0] == 2


# Of each format a good record, and where its nested parts are.
NESTED = {
    "cloudevents": ({"id": "1", "source": "s", "type": "t", "time": "2026-01-05T10:11:12Z"}, ["data"]),
    "eventbridge": ({"id": "1", "detail-type": "t", "time": "2026-01-05T10:11:12Z"}, ["detail"]),
    "eventgrid": ({"id": "1", "eventType": "t", "eventTime": "2026-01-05T10:11:12Z"}, ["data"]),
    "snowplow": (
        {"event": "struct", "event_name": "e", "derived_tstamp": "2026-01-05T10:11:12Z", "domain_userid": "d"},
        ["contexts", "unstruct_event", "contexts_com_snowplowanalytics_snowplow_client_session_1"],
    ),
    "posthog": ({"event": "e", "distinct_id": "d", "timestamp": "2026-01-05T10:11:12Z"}, ["properties"]),
    "ga4": (
        {"event_name": "e", "user_pseudo_id": "d", "event_timestamp": 1767607872000000},
        ["event_params", "collected_traffic_source", "session_traffic_source_last_click"],
    ),
    "amplitude": (
        {"event_type": "e", "device_id": "d", "event_time": "2026-01-05 10:11:12"},
        ["event_properties", "user_properties"],
    ),
}
ENVELOPES = ("cloudevents", "eventbridge", "eventgrid")
ODD: list[Any] = [
    *(None, 5, "x", "", True, [], {}, [None], [5], ["x"], [[]], {"data": 5}, {"data": [5]}, {"schema": {}}),
    *([{"key": None}], [{"key": "page_location", "value": 5}], [{"key": "a", "value": {"double_value": "NaN"}}]),
    *({"type": "page", "properties": 5, "context": []}, {"type": ["track"]}, {"data": [{"schema": None, "data": 5}]}),
    *({"$lib": {}}, {"$set": {"a": None}}),
]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
@pytest.mark.parametrize("name", FORMATS)
def test_nested_part_of_another_shape_costs_nothing_but_itself(name: str, odd: Any) -> None:
    good, places = NESTED[name]
    records = [good | {place: odd} for place in places] + [good | {"zz": 1}]
    decoded = decode_records(records, rules(name))
    assert decoded.received == len(records)
    if name in ENVELOPES:
        assert set(read_reasons(decoded)) == {"no_person"}
    else:
        assert read_reasons(decoded) == []
        assert {event["channel"] for event in read_events(decoded)} == {"elsewhere"}


@pytest.mark.parametrize("name", FORMATS)
def test_fields_of_ones_own_replace_columns_and_leave_the_others(name: str) -> None:
    sample = next(path for path in CASES if CASES[path][0].format == name and path.endswith(".ndjson"))
    events = CASES[sample][1]
    fields = {"campaign": ("mine.`a.b`", "my_campaign"), "page": ("my_page",), "event_name": ("my_name",)}
    records = [json.loads(line) for line in (SAMPLES / sample).read_bytes().splitlines()][: len(events)]
    changed = [{**record, "mine": {"a.b": "C"}, "my_page": "P", "my_name": "N"} for record in records]
    found = show(read_events(decode_records(changed, rules(name, fields=fields))))
    mine = {"campaign": "C", "page": "P", "event_name": "N"}
    assert found == [dict.fromkeys(MAPPED) | event | mine for event in events]


@pytest.mark.parametrize(
    ("name", "record", "field", "place", "value"),
    [
        ("ga4", {"event_params": [{"key": "k", "value": {"int_value": "7"}}]}, "campaign", "event_params.k", "7"),
        ("ga4", {"user_properties": [{"key": "k", "value": {"string_value": "v"}}]}, "page", "user_properties.k", "v"),
        ("ga4", {"user_properties": [{"key": "k", "value": {}}]}, "properties", "user_properties", "{}"),
        ("ga4", {"event_params": {"k": 1}}, "properties", "event_params.k", "1"),
        ("ga4", {"traffic_source": {"name": "n"}}, "campaign", "traffic_source.name", "n"),
        ("snowplow", {"unstruct_event_com_acme_x_1": {"sku": "s"}}, "page", "unstruct_event.sku", "s"),
        ("snowplow", {"unstruct_event_com_acme_x_1": {"sku": "s"}}, "page", "unstruct_event_com_acme_x_1.sku", "s"),
        ("snowplow", {"page_title": "T"}, "page", "page_title", "T"),
        ("posthog", {"properties": {"$current_url": "u"}}, "page", "properties.$current_url", "u"),
        ("amplitude", {"user_properties": {"plan": "pro"}}, "referrer", "user_properties.plan", "pro"),
        ("cloudevents", {"subject": "order/1"}, "user_id", "subject", "order/1"),
        ("eventbridge", {"detail": {"a": {"b": 5}}}, "user_id", "detail.a.b", "5"),
    ],
)
def test_places_of_ones_own_reach_into_what_the_preset_reads(
    name: str, record: Row, field: str, place: str, value: str
) -> None:
    event = read_event({**NESTED[name][0], "zz": 1, **record}, rules(name, fields={field: (place,)}))
    assert event[field] == value


def test_self_describing_event_that_is_mapped_by_name_is_still_the_properties() -> None:
    record = {**NESTED["snowplow"][0], "event": "unstruct", "unstruct_event_com_acme_x_1": {"sku": "s"}}
    fields = {"page": ("unstruct_event_com_acme_x_1.sku",)}
    assert read_event(record, rules("snowplow", fields=fields))["properties"] == '{"sku":"s"}'


@pytest.mark.parametrize("name", FORMATS)
def test_name_may_be_a_setting_where_a_record_has_none(name: str) -> None:
    good, _ = NESTED[name]
    nameless = {key: value for key, value in good.items() if key not in ("event", "event_name", "event_type", "type")}
    nameless = {key: value for key, value in nameless.items() if key not in ("detail-type", "eventType")}
    person = {"data": {"userId": "u"}, "detail": {"userId": "u"}}
    assert read_reasons(decode_records([nameless | person], rules(name))) == ["no_name"]
    assert read_event(nameless | person, rules(name, event_name="it's"))["event_name"] == "it's"


# As the libraries' own sources, and exports, name them.
LIBRARIES = {
    "mobile": {
        "posthog": ("posthog-ios", "posthog-android", "posthog-flutter", "posthog-react-native"),
        "amplitude": (
            "amplitude-swift/1.18.0",
            "amplitude-ios/8.12.0",
            "amplitude-android/2.39.3",
            "amplitude-analytics-android/1.16.8",
            "amplitude-react-native-ts/1.4.4",
        ),
    },
    "web": {"posthog": ("web", "posthog-js"), "amplitude": ("amplitude-js/8.21.0", "amplitude-ts/2.24.0")},
    "elsewhere": {
        "posthog": ("posthog-python", "posthog-node", "posthog-java", "posthog-go"),
        "amplitude": ("amplitude-python/1.1.2", "amplitude-go/0.0.7", "http/2.0", "amplitude-node-ts/1.3.0"),
    },
}


@pytest.mark.parametrize(
    ("channel", "name", "library"),
    [
        (channel, name, library)
        for channel, names in LIBRARIES.items()
        for name, libraries in names.items()
        for library in libraries
    ],
)
def test_library_tells_the_channel(channel: str, name: str, library: str) -> None:
    record = {"properties": {"$lib": library}} if name == "posthog" else {"library": library, "platform": None}
    assert read_event({**NESTED[name][0], **record}, rules(name))["channel"] == channel


def test_ga4s_parameter_that_has_no_value_costs_nothing_but_itself() -> None:
    odd: list[Any] = [{"double_value": "NaN"}, {"double_value": "Infinity"}, {"int_value": "many"}, {}, 5, None]
    params = [{"key": f"k{at}", "value": value} for at, value in enumerate(odd)]
    good = {"key": "page_location", "value": {"string_value": "app-start"}}
    event = read_event({**NESTED["ga4"][0], "event_params": [*params, good, {"value": {"int_value": 1}}]}, rules("ga4"))
    assert (event["page"], event["properties"]) == ("app-start", '{"page_location":"app-start"}')


def test_ga4_in_parquet_is_read_as_in_json_lines() -> None:
    lines = (SAMPLES / "ga4.ndjson").read_bytes().splitlines()
    kinds = {"string_value": pl.String, "int_value": pl.Int64, "float_value": pl.Float64, "double_value": pl.Float64}
    schema = {
        "event_timestamp": pl.Int64,
        "event_name": pl.String,
        "user_id": pl.String,
        "user_pseudo_id": pl.String,
        "platform": pl.String,
        "event_params": pl.List(pl.Struct({"key": pl.String, "value": pl.Struct(kinds)})),
        "collected_traffic_source": pl.Struct({"manual_campaign_name": pl.String}),
        "device": pl.Struct({"category": pl.String}),
    }
    rows = []
    for record in map(json.loads, lines):
        params = [
            {"key": one["key"], "value": {kind: one["value"].get(kind) for kind in kinds}}
            for one in record["event_params"]
        ]
        for one in params:
            number = one["value"]["int_value"]
            one["value"]["int_value"] = number and int(number)
        row = {name: record.get(name) for name in schema}
        rows.append(row | {"event_timestamp": int(record["event_timestamp"]), "event_params": params})
    decoded = decode(pl.DataFrame(rows, schema=schema), rules("ga4"))
    assert show(read_events(decoded)) == [dict.fromkeys(MAPPED) | event for event in expected.GA4]


def test_posthog_in_parquet_has_its_properties_as_text() -> None:
    records = [json.loads(line) for line in (SAMPLES / "posthog.ndjson").read_bytes().splitlines()]
    frame = pl.DataFrame(
        {
            "uuid": [record["uuid"] for record in records],
            "event": [record["event"] for record in records],
            "distinct_id": [record["distinct_id"] for record in records],
            "properties": [json.dumps(record["properties"], separators=(",", ":")) for record in records],
            "timestamp": pl.Series([record["timestamp"] for record in records]).str.to_datetime(
                "%+", time_unit="us", time_zone="UTC"
            ),
            "created_at": [record.get("created_at") for record in records],
        }
    )
    decoded = decode(frame, rules("posthog"))
    assert show(read_events(decoded)) == [dict.fromkeys(MAPPED) | event for event in expected.POSTHOG]


@pytest.mark.parametrize(
    ("number", "step"),
    [(0, "complaint"), (1, "complaint"), (2, "help")],
)
def test_support_desk_names_its_steps(number: int, step: str) -> None:
    decoder = make_decoder(SUPPORT_DESK.input, SUPPORT_DESK.steps, to_us(NOW))
    block = RawBlock("ndjson", "f", "lane-000", 0, (SAMPLES / "support-desk.ndjson").read_bytes())
    assert decoder(block).events["step"].cast(pl.String).to_list()[number] == step
