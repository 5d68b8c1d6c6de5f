"""JSON cut into parts: the same parts that a parser finds, and their text untouched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.json_parts import cut_object, cut_values, read_elements, read_text, write_object

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
OBJECTS = st.dictionaries(st.text(), VALUES)
INDENTS = st.sampled_from([None, 0, 2, "\t"])


@given(OBJECTS, INDENTS)
def test_members_are_those_of_a_parser_and_make_the_same_object_again(value: dict[str, Any], indent: Any) -> None:
    text = f"\n {json.dumps(value, indent=indent)}\r\n"
    parts = cut_object(text)
    assert {key: json.loads(part.text) for key, part in parts.items()} == value
    assert json.loads(write_object({}, parts.values())) == value


@given(st.lists(VALUES), INDENTS)
def test_elements_are_those_of_a_parser(value: list[Any], indent: Any) -> None:
    text = json.dumps({"before": 1, "batch": value, "after": [2]}, indent=indent)
    elements = cut_object(text, {"batch": read_elements})["batch"].value
    assert [json.loads(part.text) for part in elements] == value
    assert [json.loads(part.text) for part in cut_values(json.dumps(value, indent=indent)) or []] == value


@given(st.text() | OBJECTS.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda n: text[:n])))
def test_what_a_parser_refuses_is_refused(text: str) -> None:
    try:
        is_object = isinstance(json.loads(text), dict)
    except ValueError:
        is_object = False
    if is_object:
        cut_object(text)
    else:
        with pytest.raises(ValueError):
            cut_object(text)


def test_text_stays_as_it_stands() -> None:
    digits = "9" * 5_000
    parts = cut_object(f'{{"a": 1.50, "b":1E5, "c": {digits}, "d": "\\u00e9\\ud800", "a": 2}}')
    assert [part.text for part in parts.values()] == ["1.50", "1E5", digits, '"\\u00e9\\ud800"']
    assert write_object({"x": "1"}, parts.values()).startswith('{"x":1,"a": 1.50,"b":1E5,')


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{} {}", "", "nul", '{"a":1,}', "[1,]", "{'a':1}"])
def test_hopeless_text_is_an_error_and_no_crash(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|more than|no . at|no key|Expecting"):
        cut_object(text)


def test_byte_order_mark_is_passed_over_and_other_bytes_are_refused() -> None:
    assert read_text(b"\xef\xbb\xbf{}") == "{}"
    with pytest.raises(ValueError, match="utf-8"):
        read_text(b"\xff\xfe{\0}\0")
