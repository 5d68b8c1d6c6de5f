"""What becomes of a message's value, key and headers in its line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import Message

from config import InputRules
from sources.kafka_messages import Wanted, find_wanted, write_lines
from sources.live import flatten

KEY, HEADERS = Wanted(key=True), Wanted(headers=True)


def make_message(
    value: bytes | None, key: bytes | None = b"k", headers: list[tuple[str, Any]] | None = None
) -> Message:
    return Message(topic="t", partition=0, offset=0, key=key, value=value, headers=headers, timestamp=(1, 5))


def write_line(wanted: Wanted, value: bytes | None, **rest: Any) -> bytes:
    return write_lines([make_message(value, **rest)], wanted)


def test_only_what_a_mapped_field_names_is_wanted() -> None:
    assert find_wanted(InputRules()) == Wanted()
    assert find_wanted(InputRules(fields={"user_id": ("id", "$key")})) == KEY
    assert find_wanted(InputRules(fields={"campaign": ("$headers.utm",), "page": ("a.$key",)})) == HEADERS
    assert find_wanted(InputRules(format="cloudevents")) == Wanted(binary=True)


def test_without_a_wish_the_value_is_the_line() -> None:
    assert write_line(Wanted(), b'{"a": 1}', headers=[("h", b"x")]) == b'{"a": 1}'
    assert write_line(Wanted(), b'{"a":\n1}') == b'{"a": 1}'
    assert write_line(Wanted(), None) == b"null"


GOOD, PRETTY = b'{"a": 1}', b'{"a":\n1}'


@pytest.mark.parametrize(
    "odd", [None, b"", b" ", b"\n", b" \n ", PRETTY, b"\n" + GOOD, GOOD + b"\n", b" " + GOOD, b"x", GOOD]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_message_is_one_line_wherever_an_odd_one_stands(odd: bytes | None, place: int) -> None:
    values: list[bytes | None] = [GOOD, GOOD, GOOD]
    values[place] = odd
    lines = write_lines([make_message(value) for value in values], Wanted()).split(b"\n")
    assert lines == [flatten(value) for value in values]
    assert all(line.strip() for line in lines)
    assert write_lines([make_message(odd)], Wanted()) == flatten(odd)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (b'{"a": 1}', b'{"$key": "k", "a": 1}'),
        (b' \n\xef\xbb\xbf{"a": 1}', b' \n\xef\xbb\xbf{"a": 1}'.replace(b"\n", b" ")),
        (b'\xef\xbb\xbf{"a": 1.10}', b'{"$key": "k", "a": 1.10}'),
        (b' {"$key": "own"}', b'{"$key": "k", "$key": "own"}'),
        (b"{ \n }", b'{"$key": "k"}'),
        (b"{broken", b'{"$key": "k", broken'),
        (b"[1]", b"[1]"),
        (b"{", b'{"$key": "k", '),
        (b" ", b"null"),
        (None, b"null"),
    ],
)
def test_key_is_put_in_front_of_an_object_and_of_nothing_else(value: bytes | None, line: bytes) -> None:
    """The first of two keys counts, so a record can't pretend to another; numbers stay as they are written."""
    assert write_line(KEY, value) == line


@pytest.mark.parametrize(("key", "text"), [(b"\xff", None), (None, None), (b"", ""), ('"ü"'.encode(), '"ü"')])
def test_key_that_is_no_text_is_null(key: bytes | None, text: str | None) -> None:
    assert json.loads(write_line(KEY, b"{}", key=key)) == {"$key": text}


def test_headers_are_an_object_in_which_the_last_of_a_name_counts() -> None:
    headers = [("a", b"1"), ("b", b"\xff"), ("a", b"2"), ("c", None), ("d e", b"x")]
    line = write_line(Wanted(key=True, headers=True), b'{"x": 1}', headers=headers)
    assert json.loads(line) == {"$key": "k", "$headers": {"a": "2", "b": None, "c": None, "d e": "x"}, "x": 1}
    assert write_line(HEADERS, b"{}") == b'{"$headers": {}}'


def test_binary_cloudevent_becomes_a_structured_one_and_others_stay() -> None:
    headers = [("ce_id", b"1"), ("ce_type", b"view"), ("ce_specversion", b"1.0"), ("content-type", b"application/json")]
    line = write_line(Wanted(binary=True), b'{"a":\n1}', headers=headers)
    assert json.loads(line) == {
        "id": "1", "type": "view", "specversion": "1.0", "datacontenttype": "application/json", "data": {"a": 1}
    }  # fmt: skip
    assert write_line(Wanted(binary=True), b'{"id": "2"}', headers=[("trace", b"x")]) == b'{"id": "2"}'
    both = write_line(Wanted(key=True, binary=True), b"{}", headers=headers)
    assert json.loads(both)["$key"] == "k"
    assert json.loads(write_line(Wanted(binary=True), None, headers=headers))["id"] == "1"
