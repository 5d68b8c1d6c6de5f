"""NDJSON blocks to rows: one a line that is not blank, whatever the line holds."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config import InputRules
from events.ndjson import read_ndjson
from events.presets import build_mapping
from tests.support.damage import DEAD, ODD, Damage
from tests.support.records import track

BLANK = b" \t\r\n\v\f"
MAPPING = build_mapping(InputRules())
GOOD = json.dumps(track()).encode()
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"\\",
    b":",
    b",",
    b"\r",
    b"\0",
    b"\v",
    b"\f",
    b" ",
    b"\t",
    b"1",
    b"null",
    b"//",
]
PIECES = [
    *TOKENS,
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\x1c",
    b'"userId":"u"',
    b'{"userId":"u"}',
    GOOD,
]
LINES = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join) | st.binary(max_size=20).map(
    lambda line: line.replace(b"\n", b"")
)


def is_record(line: bytes) -> bool:
    return bool(line.removeprefix(b"\xef\xbb\xbf").strip(BLANK))


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=12), st.booleans())
@example([b"", b'{"a":1}{"b":2}'], True)
@example([b"\xef\xbb\xbf" + GOOD, b"\xef\xbb\xbf" + GOOD], False)
@example([b" \f ", GOOD + b"\r" + GOOD], True)
def test_rows_are_the_lines_that_are_not_blank(lines: list[bytes], newline_at_end: bool) -> None:
    frame, numbers = read_ndjson(b"\n".join(lines) + b"\n" * newline_at_end, MAPPING)
    wanted = [number for number, line in enumerate(lines) if is_record(line)]
    assert (numbers if numbers is not None else list(range(frame.height))) == wanted
    good = [number for number, line in enumerate(lines) if line.strip(BLANK) == GOOD]
    found = dict(zip(wanted, frame["user_id"], strict=True))
    assert all(found[number] == "u" for number in good)


@pytest.mark.parametrize("damage", [d for d in [*DEAD, *ODD] if d.fate != "too_large"], ids=lambda damage: damage.name)
def test_damage_of_any_kind_is_one_row_beside_good_ones(damage: Damage) -> None:
    line = damage.make(track(messageId="m"), random.Random(1))
    frame, numbers = read_ndjson(b"\n".join([GOOD, line, GOOD]), MAPPING)
    rows = numbers if numbers is not None else list(range(frame.height))
    assert rows == ([0, 1, 2] if is_record(line) else [0, 2])
    assert (frame["user_id"][0], frame["user_id"][-1]) == ("u", "u")


def test_nesting_of_any_depth_is_read() -> None:
    deep = b"[" * 100_000 + b"1" + b"]" * 100_000
    lines = [GOOD[:-1] + b',"unknown":' + deep + b"}", GOOD[:-1] + b',"properties":{"a":' + deep + b"}}", GOOD]
    frame, _ = read_ndjson(b"\n".join(lines), MAPPING)
    assert frame["user_id"].to_list() == ["u", "u", "u"]
    assert frame["properties"][1] == '{"a":' + deep.decode() + "}"


def test_line_of_a_mebibyte_is_read() -> None:
    line = json.dumps(track(properties={"a": "x" * (1 << 20)})).encode()
    frame, _ = read_ndjson(line + b"\n" + GOOD, MAPPING)
    assert frame["user_id"].to_list() == ["u", "u"]


def test_nothing_gives_nothing() -> None:
    for payload in (b"", b"\n", b" \n\r\n"):
        assert read_ndjson(payload, MAPPING)[0].height == 0


@pytest.mark.parametrize("blank", [[], [b""]])
def test_line_cut_before_a_value_takes_no_other_along(blank: list[bytes]) -> None:
    cut = GOOD[: GOOD.index(b'"event":') + len(b'"event":')]
    frame, _ = read_ndjson(b"\n".join([GOOD, cut, GOOD, cut, cut, GOOD, *blank, GOOD, cut, b"x", GOOD]), MAPPING)
    assert frame["event_time"].is_null().to_list() == [False, True, False, True, True, False, False, True, True, False]
