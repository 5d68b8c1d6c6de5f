"""Raw blocks to events and dead letters: everything is counted once, in every format."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import InputRules, StepRule
from events.decode import find_oversized, make_decoder
from events.raw import RAW_KEPT, RawBlock, read_raw
from events.rejects import REASONS
from tests.support.records import decode, decode_records, free, read_events, read_reasons, track

GOOD = json.dumps(track()).encode()
CSV = free(("user_id", "event_name"), event_time="t")
HEADER = ("t", "user_id", "event_name")
BLANK = b" \t\r\n\v\f"
MARK = b"\xef\xbb\xbf"


def count_records(payload: bytes) -> int:
    return sum(bool(line.removeprefix(MARK).strip(BLANK)) for line in payload.split(b"\n"))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([GOOD, b"", b" ", b"{}", GOOD + b"\r", MARK + GOOD]), max_size=12)
)
def test_any_bytes_are_counted_once_line_by_line(lines: list[bytes]) -> None:
    payload = b"\n".join(lines)
    decoded = decode(payload, first_position=100)
    records = payload.split(b"\n")
    assert decoded.received == count_records(payload) == decoded.events.height + decoded.dead.height
    places = sorted([*decoded.events["source_position"], *decoded.dead["source_position"]])
    assert places == [100 + i for i, line in enumerate(records) if line.removeprefix(MARK).strip(BLANK)]
    for letter in decoded.dead.iter_rows(named=True):
        assert letter["reason"] in REASONS
        assert letter["raw"] == records[letter["source_position"] - 100].removesuffix(b"\r")
    good = [i for i, line in enumerate(records) if line.removeprefix(MARK).removesuffix(b"\r") == GOOD]
    assert set(good) <= set(decoded.lines)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_as_csv_are_counted_once_record_by_record(payload: bytes) -> None:
    decoded = decode(payload, CSV, kind="csv", header=HEADER)
    block = RawBlock("csv", "f", "lane-000", 0, payload, HEADER)
    places = sorted([*decoded.events["source_position"], *decoded.dead["source_position"]])
    assert decoded.received == len(places) == len(set(places))
    raws = read_raw(block, decoded.dead["source_position"].to_list())
    assert decoded.dead["raw"].to_list() == raws
    assert all(raw.strip(BLANK) for raw in raws)


def test_line_at_the_limit_is_read_and_a_longer_one_is_dead() -> None:
    rules = InputRules(max_record_bytes=len(GOOD))
    decoded = decode(b"\n".join([GOOD, GOOD + b" ", GOOD]), rules)
    assert decoded.lines.to_list() == [0, 2]
    assert decoded.dead.select("reason", "detail", "source_position", "raw").rows() == [
        ("too_large", f"longer than {len(GOOD)} bytes", 1, GOOD + b" ")
    ]


def test_dead_letter_keeps_64_kib() -> None:
    line = b"x" * (RAW_KEPT + 1)
    assert decode(line).dead["raw"].to_list() == [line[:RAW_KEPT]]
    assert decode(line[:RAW_KEPT] + b"\r").dead["raw"].to_list() == [line[:RAW_KEPT]]


def test_beginning_of_a_line_too_long_to_be_read_is_one_dead_letter_in_the_same_words() -> None:
    rules = InputRules(max_record_bytes=1000)
    part = decode(b"y" * 1001, rules, oversized=True, first_position=7)
    whole = decode(b"y" * 1001, rules, first_position=7)
    assert part.dead.equals(whole.dead)
    assert (part.received, part.events.height) == (1, 0)


@given(st.lists(st.integers(0, 12), max_size=12), st.integers(1, 8))
def test_oversized_lines_are_found(sizes: list[int], limit: int) -> None:
    payload = b"\n".join(b"x" * size for size in sizes)
    assert find_oversized(payload, limit) == [i for i, size in enumerate(sizes) if size > limit]


def test_dead_letters_are_in_order_whatever_found_them() -> None:
    decoded = decode(b"\n".join([b"x", b"y" * 2000, b"{}", b"z" * 2000]), InputRules(max_record_bytes=1000))
    assert read_reasons(decoded) == ["not_json", "too_large", "no_time", "too_large"]
    assert decoded.dead["source_position"].to_list() == [0, 1, 2, 3]


def test_csv_rows_become_events_and_bad_ones_dead_letters() -> None:
    rows = [
        "2026-01-05,u,A",
        "2026-01-05,u",
        '2026-01-05,"a ""b"", c","two\nlines"',
        "",
        ",u,A",
        "x,u,A",
        "2026-01-05,,A",
    ]
    decoded = decode("\r\n".join(rows).encode(), CSV, kind="csv", header=HEADER)
    events = read_events(decoded)
    assert [(event["user_id"], event["event_name"], event["source_position"]) for event in events] == [
        ("u", "A", 0),
        ('a "b", c', "two\nlines", 2),
    ]
    assert decoded.dead.select("reason", "source_position", "raw").rows() == [
        ("bad_row", 1, b"2026-01-05,u"),
        ("no_time", 4, b",u,A"),
        ("bad_time", 5, b"x,u,A"),
        ("no_person", 6, b"2026-01-05,,A"),
    ]
    assert decoded.received == 6


def test_csv_row_longer_than_the_limit_is_dead() -> None:
    rules = InputRules("fields", CSV.fields, max_record_bytes=30)
    decoded = decode(b"2026-01-05,u,A\n2026-01-05,u," + b"B" * 30 + b"\n", rules, kind="csv", header=HEADER)
    assert (decoded.lines.to_list(), read_reasons(decoded)) == ([0], ["too_large"])


def test_parquet_rows_keep_their_numbers_and_dead_ones_their_json() -> None:
    frame = pl.DataFrame(
        {"t": [None, "2026-01-05"], "user_id": ["a", "b"], "event_name": ["A", "B"], "blob": [b"\xff", b"x"]}
    )
    decoded = decode(frame, CSV, first_position=10)
    assert decoded.lines.to_list() == [1]
    assert read_events(decoded)[0]["source_position"] == 11
    assert decoded.dead.select("reason", "raw").rows() == [
        ("no_time", b'{"t":null,"user_id":"a","event_name":"A","blob":"ff"}')
    ]


@pytest.mark.parametrize("payload", [b"", b"\n", b" \r\n\n"])
def test_block_without_records_is_empty(payload: bytes) -> None:
    decoded = decode(payload)
    assert (decoded.received, decoded.events.height, decoded.dead.height) == (0, 0, 0)


def test_step_is_given_by_the_first_rule_that_holds() -> None:
    decode_steps = make_decoder(InputRules(), (StepRule("buy", "event_name = 'Order'"),), 0)
    lines = b"\n".join(
        json.dumps(track(event=name, receivedAt="2026-01-05T11:00:00Z")).encode() for name in ("Order", "X")
    )
    decoded = decode_steps(RawBlock("ndjson", "f", "l", 0, lines))
    # The clock stands at 1970: the receipt is ahead of it, and so not believed.
    assert read_reasons(decoded) == ["future", "future"]
    later = make_decoder(InputRules(), (StepRule("buy", "event_name = 'Order'"),), 1_800_000_000_000_000)
    assert [event["step"] for event in read_events(later(RawBlock("ndjson", "f", "l", 0, lines)))] == ["buy", "X"]


def test_neighbours_do_not_change_an_event() -> None:
    alone = read_events(decode_records([track(messageId="m")]))[0]
    lines = [b"{", b"\xff", b"", json.dumps(track(messageId="m")).encode(), b"[" * 1000, b"\0"]
    (beside,) = read_events(decode(b"\n".join(lines)))
    assert beside | {"source_position": 0} == alone
