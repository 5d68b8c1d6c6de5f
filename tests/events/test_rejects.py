"""Why a record is no event: reasons, and the limit on them."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import DeadLetterLimit
from errors import DeadLetterLimitError
from events.rejects import REASONS, check_limit, explain_unreadable, find_nested
from tests.support.damage import DEAD

PAGE = (Path(__file__).parents[2] / "docs" / "input.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"{", "not_json", "Expecting property name"),
        (b"", "not_json", "Expecting value"),
        (b'{"a":1}{"b":2}', "not_json", "Extra data"),
        (b'{"a":"\xff"}', "bad_utf8", "byte 6"),
        (b'{"a":"\\ud800"}', "bad_utf8", "half of a surrogate pair"),
        (b'{"\\udc00":1}', "bad_utf8", "half of a surrogate pair"),
        (b'{"a":"\\ud83d\\ude42"}', "no_time", ""),
        (b"[1]", "not_an_object", "array"),
        (b'"x"', "not_an_object", "string"),
        (b"1", "not_an_object", "number"),
        (b"true", "not_an_object", "boolean"),
        (b"null", "not_an_object", "null"),
        (b"{}", "no_time", ""),
        (b'\xef\xbb\xbf{"a":1}', "no_time", ""),
        (b'{"n":' + b"9" * 5_000 + b"}", "no_time", ""),
        (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "no_time", "deeply nested"),
        (b"[" * 50_000 + b"]" * 50_000, "not_an_object", "array"),
        (b"[" * 50_000, "not_json", "deeply nested"),
    ],
)
def test_line_without_a_time_says_why(line: bytes, reason: str, detail: str) -> None:
    found, note = explain_unreadable(line)
    assert found == reason
    assert note.startswith(detail)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_raise_and_every_reason_is_documented(line: bytes) -> None:
    assert explain_unreadable(line)[0] in REASONS


@pytest.mark.parametrize(
    ("value", "nested"),
    [
        ('{"a":1}', True),
        ("{}", True),
        ("[]", True),
        ('["a"]', True),
        ("[1,2]", True),
        ("[true]", True),
        ("[" * 5_000 + "]" * 5_000, True),
        ("{6F9619FF-8B86-D011-B42D-00CF4FC964FF}", False),
        ("[Amplitude] Page Viewed", False),
        ("[1] first", False),
        ("{name}", False),
        ("[", False),
        ("u", False),
        ("", False),
        (None, False),
    ],
)
def test_json_objects_and_arrays_are_told_from_text_in_brackets(value: str | None, nested: bool) -> None:
    others = pl.Series(["x", value, None, "[1]"], dtype=pl.String)
    assert find_nested(others).to_list() == [False, nested, False, True]


def test_nothing_in_brackets_is_nothing_nested() -> None:
    assert find_nested(pl.Series(["a", None], dtype=pl.String)).to_list() == [False, False]
    assert find_nested(pl.Series([], dtype=pl.String)).to_list() == []


def one_letter() -> pl.DataFrame:
    position = (3 << 40) + 41
    return pl.DataFrame({"source": ["a.ndjson"], "source_position": [position], "reason": ["no_time"], "detail": ["d"]})


@pytest.mark.parametrize(
    ("received", "dead", "stops"), [(100, 9, False), (100, 10, False), (19, 10, True), (20, 10, False), (9, 9, False)]
)
def test_job_stops_when_both_limits_are_passed(received: int, dead: int, stops: bool) -> None:
    limit = DeadLetterLimit(count=10, share=0.5)
    if not stops:
        check_limit(limit, received, dead, one_letter())
        return
    with pytest.raises(DeadLetterLimitError, match=r"10 of 19 .*a\.ndjson record 41: no_time \(d\)") as caught:
        check_limit(limit, received, dead, one_letter())
    assert "[dead_letters]" in caught.value.remedy


def test_page_explains_every_reason_and_no_other() -> None:
    section = PAGE.split("## Dead letters")[1]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.M) == sorted(REASONS, key=list(_in_order()).index)


def test_damager_knows_every_reason_of_json() -> None:
    assert {damage.fate for damage in DEAD} == set(REASONS) - {"bad_row"}


def _in_order() -> dict[str, None]:
    """Return the reasons in the order in which the decoder looks for them."""
    first = ("too_large", "bad_utf8", "not_json", "not_an_object", "bad_row")
    return dict.fromkeys([*first, *(reason for reason in REASONS if reason not in first)])
