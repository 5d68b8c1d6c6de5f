"""Snowplow's lines: the order of the columns, lines that are none, tab-separated ones and JSON side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import InputRules
from events.canonical import Decoded
from events.formats.snowplow import TABS
from tests.support.records import Row, decode, read_event, read_events, read_reasons

SAMPLES = Path(__file__).parents[2] / "samples" / "formats"
RULES = InputRules(format="snowplow")
TIME = "2026-01-05 10:11:12.345"
# As numbered in Snowplow's documentation of the enriched stream.
PLACES = {
    "app_id": 0,
    "platform": 1,
    "collector_tstamp": 3,
    "event": 5,
    "event_id": 6,
    "user_id": 12,
    "domain_userid": 15,
    "network_userid": 17,
    "geo_region_name": 24,
    "page_url": 29,
    "page_referrer": 31,
    "page_urlpath": 35,
    "refr_term": 46,
    "mkt_campaign": 51,
    "contexts": 52,
    "se_category": 53,
    "se_action": 54,
    "se_label": 55,
    "se_property": 56,
    "se_value": 57,
    "unstruct_event": 58,
    "tr_orderid": 59,
    "ti_quantity": 72,
    "useragent": 77,
    "br_viewheight": 96,
    "os_timezone": 100,
    "doc_height": 107,
    "etl_tags": 118,
    "derived_contexts": 122,
    "domain_sessionid": 123,
    "derived_tstamp": 124,
    "event_name": 126,
    "true_tstamp": 130,
}


def make_line(cells: Row) -> bytes:
    line = [""] * 131
    for name, cell in cells.items():
        line[PLACES[name]] = cell
    return "\t".join(line).encode()


GOOD = make_line({"event": "page_view", "domain_userid": "d", "derived_tstamp": TIME})


def read(*lines: bytes) -> Decoded:
    return decode(b"\n".join(lines), RULES)


def test_columns_are_in_snowplows_order() -> None:
    assert len(TABS) == len(set(TABS)) == 131
    assert {name: TABS.index(name) for name in PLACES} == PLACES


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (GOOD + b"\t", "bad_row", "132 columns, the format has 131"),
        (GOOD.removesuffix(b"\t"), "bad_row", "130 columns, the format has 131"),
        (b"a\tb", "bad_row", "2 columns, the format has 131"),
        (b"\xff" + GOOD, "bad_utf8", "byte 0"),
        (make_line({"event": "e", "domain_userid": "d"}), "no_time", ""),
        (make_line({"event": "e", "domain_userid": "d", "derived_tstamp": "  "}), "no_time", ""),
        (make_line({"event": "e", "domain_userid": "d", "derived_tstamp": "soon"}), "bad_time", "soon"),
        (make_line({"event": "e", "derived_tstamp": TIME}), "no_person", ""),
        (make_line({"domain_userid": "d", "derived_tstamp": TIME}), "no_name", ""),
        (make_line({"event": "(end)", "domain_userid": "d", "derived_tstamp": TIME}), "reserved_name", ""),
        (b'{"event":\t"e"', "not_json", None),
        (b"[1,\t2]", "not_an_object", "array"),
    ],
)
def test_line_that_is_no_event_is_dead_and_harms_no_other(line: bytes, reason: str, detail: str | None) -> None:
    decoded = read(GOOD, b"  \r", line, GOOD)
    assert decoded.events["source_position"].to_list() == [0, 3]
    (dead,) = decoded.dead.rows(named=True)
    assert (dead["reason"], dead["source_position"], dead["raw"]) == (reason, 2, line)
    assert detail is None or dead["detail"] == detail
    assert decoded.received == 3


def test_nothing_but_bad_lines_is_no_crash() -> None:
    decoded = read(b"a\tb", b"", b"\t\t", b"c\td")
    assert (read_reasons(decoded), decoded.events.height) == (["bad_row", "bad_row"], 0)
    assert (read(b"").received, read(b"\n\n").received) == (0, 0)


def test_marks_returns_and_quotes_are_no_part_of_a_cell() -> None:
    line = make_line({"app_id": '"', "event": '"e', "domain_userid": "d", "derived_tstamp": TIME, "true_tstamp": "x"})
    rules = InputRules(format="snowplow", fields={"page": ("app_id",), "campaign": ("true_tstamp",)})
    marked, good = read_events(decode(b"\xef\xbb\xbf" + line + b"\r\n" + GOOD + b"\r", rules))
    assert (marked["event_name"], marked["page"], marked["campaign"]) == ('"e', '"', "x")
    assert (good["event_name"], good["page"], good["campaign"]) == ("page_view", None, None)


def test_lines_of_both_kinds_keep_their_order_and_positions() -> None:
    json = b'{"event":"e","domain_userid":"j","derived_tstamp":"2026-01-05T10:11:12Z","x":\t1}'
    decoded = read(json, GOOD, b"broken\tline", json, b"", GOOD, b"{", json)
    assert [event["device_id"] for event in read_events(decoded)] == ["j", "d", "j", "d", "j"]
    assert decoded.events["source_position"].to_list() == [0, 1, 3, 5, 7]
    assert decoded.dead["source_position"].to_list() == [2, 6]
    assert read_reasons(decoded) == ["bad_row", "not_json"]


def test_line_is_the_same_event_however_the_block_is_cut() -> None:
    lines = (SAMPLES / "snowplow.tsv").read_bytes().splitlines() + (
        SAMPLES / "snowplow.ndjson"
    ).read_bytes().splitlines()
    lines += [b"plain", b"a\tb", b'{"x": 1}', b"[]"]
    whole = read(*lines)
    alone = [read(line) for line in lines]
    assert [event["event_id"] for event in read_events(whole)] == [
        event["event_id"] for one in alone for event in read_events(one)
    ]
    assert read_reasons(whole) == [reason for one in alone for reason in read_reasons(one)]
    assert whole.received == len(lines)


def test_line_that_is_too_long_is_one_dead_letter_among_others() -> None:
    small = InputRules(format="snowplow", max_record_bytes=len(GOOD) + 10)
    decoded = decode(b"\n".join([GOOD, GOOD + b"x" * 20, b"a\tb", GOOD]), small)
    assert read_reasons(decoded) == ["too_large", "bad_row"]
    assert decoded.dead["source_position"].to_list() == [1, 2]
    assert decoded.events["source_position"].to_list() == [0, 3]


def test_line_without_an_id_gets_the_hash_of_the_whole_line() -> None:
    first, second, third = read_events(read(GOOD, GOOD + b"", GOOD.replace(b"\td\t", b"\te\t")))
    assert first["event_id"] == second["event_id"] != third["event_id"]
    assert len(first["event_id"]) == 32


def test_one_column_that_is_mapped_is_enough_to_read_lines() -> None:
    rules = InputRules(format="snowplow", fields={"campaign": ("app_id",), "page": ("no_such_column",)})
    line = make_line({"app_id": "shop", "event": "e", "domain_userid": "d", "derived_tstamp": TIME, "page_url": "u"})
    (event,) = read_events(decode(line, rules))
    assert (event["campaign"], event["page"]) == ("shop", None)


@pytest.mark.parametrize(
    ("cells", "column", "value"),
    [
        ({"collector_tstamp": "2026-01-05 10:00:00", "true_tstamp": TIME, "derived_tstamp": ""}, "event_time", 11),
        ({"collector_tstamp": TIME, "derived_tstamp": ""}, "event_time", 11),
        ({"event": "struct", "event_name": "event", "se_category": "c"}, "event_name", "c"),
        (
            {"event": "struct", "event_name": "event", "se_value": "nan", "se_action": "a"},
            "properties",
            '{"action":"a"}',
        ),
        ({"event": "ue", "event_name": "n", "unstruct_event": "{not json"}, "properties", '"{not json"'),
        ({"event": "ue", "contexts": "{not json", "domain_userid": "", "network_userid": "n"}, "device_id", "n"),
        ({"platform": "pc"}, "channel", "desktop"),
        ({"platform": "headset"}, "channel", "headset"),
        ({"platform": "app"}, "channel", "unknown"),
        ({"page_url": "https://x/y"}, "page", "https://x/y"),
    ],
)
def test_columns_stand_in_for_one_another(cells: Row, column: str, value: object) -> None:
    line = make_line({"event": "e", "domain_userid": "d", "derived_tstamp": TIME, **cells})
    (event,) = read_events(read(line))
    assert (event[column].minute if column == "event_time" else event[column]) == value


def test_key_that_only_looks_self_describing_is_left_alone() -> None:
    record = {
        "event": "e",
        "domain_userid": "d",
        "derived_tstamp": TIME,
        "unstruct_event_x_1": {"t": '"unstruct_event_y_1"'},
    }
    assert read_event(record, RULES)["properties"] == '{"t":"\\"unstruct_event_y_1\\""}'
