"""JSON cut by its brackets: the parts that a parser finds, as they stand, whatever stands in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.json_spans import list_elements, list_members

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
INDENTS = st.sampled_from([None, 0, 2, "\t"])


@given(st.dictionaries(st.text(), VALUES), INDENTS, st.booleans())
def test_members_are_those_of_a_parser(value: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    text = f"\r\n {json.dumps(value, indent=indent, ensure_ascii=ascii_only)}\n ".encode("utf-8", "surrogatepass")
    if b"\xed" not in text:  # half of a pair of surrogates is no UTF-8
        assert {json.loads(key): json.loads(part) for key, part in list_members(text)} == value


@given(st.lists(VALUES), INDENTS)
def test_elements_are_those_of_a_parser(value: list[Any], indent: Any) -> None:
    assert [json.loads(part) for part in list_elements(json.dumps(value, indent=indent).encode())] == value


def test_parts_are_byte_for_byte_what_came() -> None:
    parts = [
        b'{"n": 1.10, "big":123456789012345678901234567890.0e-2 }',
        b'"}]\\"{["',
        b"1e5",
        b'"\\ud83d\xc3\xa9"',
        b"[[], {} ]",
    ]
    assert list(list_elements(b"[ " + b" ,\n".join(parts) + b"]")) == parts


def test_neither_depth_nor_length_of_a_number_is_an_error() -> None:
    deep, long = b"[" * 20_000 + b"]" * 20_000, b"9" * 20_000
    assert list(list_elements(b"[" + deep + b"," + long + b"]")) == [deep, long]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"a"}', b'{"a" 1}', b'{"a":}', b'{"a":1', b'{"a":1 "b":2}', b"{1:2}", b'{"a":[}']
)
def test_what_is_no_object_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        list(list_members(text))


@pytest.mark.parametrize("text", [b"", b"{}", b"[1", b"[1 2]", b"[,]", b'["a', b"[[]"])
def test_what_is_no_array_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        list(list_elements(text))
