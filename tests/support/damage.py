"""A seeded damager: ways in which a record can be wrong or odd, and what has to become of each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]
Make = Callable[[Event, random.Random], bytes]
LIMIT = 64 << 10  # the damaged records' max_record_bytes
BLANK_LINE = "blank"
KEPT = ""


@dataclass(frozen=True)
class Damage:
    """One kind: `fate` is the reason of its dead letter, `KEPT` if it stays an event, `BLANK_LINE` if it is no record."""

    name: str
    fate: str
    make: Make


def dump(event: Event) -> bytes:
    """Write an event as a line of JSON."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def _with(**changes: Any) -> Make:
    return lambda event, _: dump(event | changes)


def _without(*names: str) -> Make:
    return lambda event, _: dump({name: value for name, value in event.items() if name not in names})


def _literal(name: str, text: bytes) -> Make:
    """Put bytes in the place of a field's value, whatever they are."""
    return lambda event, _: dump(event | {name: "@here@"}).replace(b'"@here@"', text)


def _fixed(line: bytes) -> Make:
    return lambda _, __: line


def _cut(event: Event, random_: random.Random) -> bytes:
    # Between two characters: a cut inside one is a kind of its own.
    line = dump(event).decode()
    return line[: random_.randrange(1, len(line))].encode()


def _garbage(_: Event, random_: random.Random) -> bytes:
    line = bytes(random_.randrange(256) for _ in range(random_.randrange(1, 200)))
    return b"\xfe" + line.replace(b"\n", b"\xff")


def _huge(size: int) -> Make:
    return lambda event, random_: dump(event | {"properties": {"text": chr(random_.randrange(97, 123)) * size}})


def _deep(depth: int, inside: str = "properties") -> Make:
    return _literal(inside, b'{"a":' + b"[" * depth + b"1" + b"]" * depth + b"}")


def _twice(joint: bytes) -> Make:
    return lambda event, _: dump(event) + joint + dump(event)


def _first_byte(byte: bytes) -> Make:
    return lambda event, _: byte + dump(event)


def _encode(charset: str) -> Make:
    return lambda event, _: dump(event).decode().encode(charset).replace(b"\n", b"")


DEAD = [
    Damage("truncated", "not_json", _cut),
    Damage("two objects on a line", "not_json", _twice(b"")),
    Damage("two objects and a space", "not_json", _twice(b" ")),
    Damage("lone carriage returns as line ends", "not_json", _twice(b"\r")),
    Damage("comma after the object", "not_json", lambda event, _: dump(event) + b","),
    Damage("text after the object", "not_json", lambda event, _: dump(event) + b" and more"),
    Damage("comment", "not_json", _fixed(b"// nothing to see")),
    Damage("html", "not_json", _fixed(b"<html><body><h1>502 Bad Gateway</h1></body></html>")),
    Damage("csv", "not_json", _fixed(b"id,time,user\r")),
    Damage("syslog", "not_json", _fixed(b"Jan  5 10:11:12 host app[1]: started")),
    Damage("single quotes", "not_json", lambda event, _: dump(event).replace(b'"', b"'")),
    Damage("bare keys", "not_json", lambda event, _: dump(event).replace(b'"userId"', b"userId")),
    Damage("unescaped quotes", "not_json", _literal("event", b'"say "hello" now"')),
    Damage("open quote", "not_json", _literal("event", b'"never ends')),
    Damage("raw control character", "not_json", _literal("userId", b'"a\x01b"')),
    Damage("raw tab in text", "not_json", _literal("userId", b'"a\tb"')),
    Damage("raw NUL byte", "not_json", _literal("userId", b'"a\0b"')),
    Damage("NUL byte before", "not_json", _first_byte(b"\0")),
    Damage("only NUL bytes", "not_json", _fixed(b"\0" * 100)),
    Damage("no-break space line", "not_json", _fixed(b"\xc2\xa0")),
    Damage("bad escape", "not_json", _literal("event", rb'"a\qb"')),
    Damage("half an escape", "not_json", _literal("event", rb'"a\u12"')),
    Damage("leading zero", "not_json", _literal("properties", b'{"price":007}')),
    Damage("undefined", "not_json", _literal("properties", b"undefined")),
    Damage("deep and cut", "not_json", _fixed(b'{"a":' + b"[" * 30_000)),
    Damage("bad UTF-8 in an id", "bad_utf8", _literal("userId", b'"a\xffb"')),
    Damage("bad UTF-8 in properties", "bad_utf8", _literal("properties", b'{"name":"M\xfcller"}')),
    Damage("cut UTF-8", "bad_utf8", _literal("event", b'"\xe2\x82"')),
    Damage("UTF-8 of a surrogate", "bad_utf8", _literal("event", b'"\xed\xa0\x80"')),
    Damage("UTF-16", "bad_utf8", lambda event, _: b"\xff\xfe" + _encode("utf-16-le")(event, random.Random(0))),
    Damage("binary garbage", "bad_utf8", _garbage),
    Damage("gzip in the middle", "bad_utf8", _fixed(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")),
    Damage("lone surrogate escape", "bad_utf8", _literal("userId", rb'"a\ud800b"')),
    Damage("surrogates the wrong way round", "bad_utf8", _literal("event", rb'"\udc00\ud800"')),
    Damage("array", "not_an_object", lambda event, _: b"[" + dump(event) + b"]"),
    Damage("empty array", "not_an_object", _fixed(b"[]")),
    Damage("text", "not_an_object", _fixed(b'"hello"')),
    Damage("number", "not_an_object", _fixed(b"12345")),
    Damage("NaN", "not_an_object", _fixed(b"NaN")),
    Damage("null", "not_an_object", _fixed(b"null")),
    Damage("deep array", "not_an_object", _fixed(b"[" * 30_000 + b"]" * 30_000)),
    Damage("huge field", "too_large", _huge(LIMIT + 1)),
    Damage("line longer than a block", "too_large", _huge(1 << 20)),
    Damage("huge garbage", "too_large", _fixed(b"x" * (LIMIT + 1))),
    Damage("very long key", "too_large", lambda event, _: dump(event | {"k" * LIMIT: 1})),
    Damage("empty object", "no_time", _fixed(b"{}")),
    Damage("no time", "no_time", _without("timestamp")),
    Damage("null time", "no_time", _with(timestamp=None)),
    Damage("empty time", "no_time", _with(timestamp="")),
    Damage("time in another case", "no_time", lambda event, _: dump(event).replace(b'"timestamp"', b'"TimeStamp"')),
    Damage("object as time", "bad_time", _with(timestamp={"$date": "2026-01-05T00:00:00Z"})),
    Damage("array as time", "bad_time", _with(timestamp=[2026, 1, 5])),
    Damage("boolean as time", "bad_time", _with(timestamp=True)),
    Damage("NaN as time", "bad_time", _literal("timestamp", b"NaN")),
    Damage("1e400 as time", "bad_time", _literal("timestamp", b"1e400")),
    Damage("words as time", "bad_time", _with(timestamp="yesterday")),
    Damage("30 February", "bad_time", _with(timestamp="2026-02-30T00:00:00Z")),
    Damage("25 o'clock", "bad_time", _with(timestamp="2026-01-05T25:00:00Z")),
    Damage("offset of 99 hours", "bad_time", _with(timestamp="2026-01-05T00:00:00+99:00")),
    Damage("year 10000", "bad_time", _with(timestamp="10000-01-01T00:00:00Z")),
    Damage("nanoseconds", "bad_time", _with(timestamp=1767571200123456789)),
    Damage("year 9999", "time_out_of_range", _with(timestamp="9999-12-31T23:59:59Z")),
    Damage("year 0000", "time_out_of_range", _with(timestamp="0000-01-01T00:00:00Z")),
    Damage("before 1970", "time_out_of_range", _with(timestamp="1969-12-31T23:59:59Z")),
    Damage("negative epoch", "time_out_of_range", _with(timestamp=-1767571200)),
    Damage("year 9998", "future", _with(timestamp="9998-12-31T23:59:59Z")),
    Damage("ahead of its receipt", "future", _with(timestamp="2026-11-01T00:00:00Z")),
    Damage("both clocks ahead", "future", _with(timestamp="2091-01-01T00:00:00Z", receivedAt="2091-01-01T00:00:00Z")),
    Damage("ahead, and no receipt", "future", _with(timestamp="2091-01-01T00:00:00Z", receivedAt=None)),
    Damage("no person", "no_person", _without("userId", "anonymousId")),
    Damage("empty persons", "no_person", _with(userId="", anonymousId="")),
    Damage(
        "NaN as both ids", "no_person", lambda event, _: dump(event | {"userId": float("nan"), "anonymousId": None})
    ),
    Damage("object as id", "bad_person", _with(userId={"id": 7})),
    Damage("array as id", "bad_person", _with(userId=["a", "b"])),
    Damage("array as device", "bad_person", _with(userId=None, anonymousId=[1])),
    Damage("no name", "no_name", _without("event", "type")),
    Damage("object as name", "bad_name", _with(event={"name": "Product Viewed"})),
    Damage("array as name", "bad_name", _with(event=["Product Viewed"])),
    Damage("reserved name", "reserved_name", _with(event="(start)")),
    Damage("other reserved name", "reserved_name", _with(event="(end)")),
]
ODD = [
    Damage("carriage return", KEPT, lambda event, _: dump(event) + b"\r"),
    Damage("byte order mark", KEPT, _first_byte(b"\xef\xbb\xbf")),
    Damage("spaces around", KEPT, lambda event, _: b"  " + dump(event) + b" \t "),
    Damage("escaped NUL", KEPT, _literal("userId", rb'"odd\u0000one"')),
    Damage("escaped newline in an id", KEPT, _literal("userId", rb'"odd\nline\r\n"')),
    Damage("unicode ids", KEPT, _with(userId="odd-Ünïcødé-日本-🙂")),
    Damage("escaped emoji", KEPT, _literal("userId", rb'"odd-\ud83d\ude42"')),
    Damage("right to left", KEPT, _with(userId="odd-שלום‮abc")),
    Damage("number as id", KEPT, _with(userId=1234567890123456789)),
    Damage("number beyond 64 bits as id", KEPT, _literal("userId", b"123456789012345678901234567890")),
    Damage(
        "NaN beside a device", KEPT, lambda event, _: dump(event | {"userId": float("nan"), "anonymousId": "odd-d"})
    ),
    Damage("braces around an id", KEPT, _with(userId="{6F9619FF-8B86-D011-B42D-00CF4FC964FF}")),
    Damage("brackets in a name", KEPT, _with(event="[Amplitude] Page Viewed", userId="odd-a")),
    Damage("boolean as name", KEPT, _with(event=True, userId="odd-t")),
    Damage("number as name", KEPT, _with(event=404, userId="odd-n")),
    Damage("duplicate keys", KEPT, lambda event, _: dump(event)[:-1] + b',"userId":"odd-second"}'),
    Damage("trailing comma", KEPT, lambda event, _: dump(event)[:-1] + b",}"),
    Damage("deep nesting in properties", KEPT, _deep(10_000)),
    Damage("deep nesting in an unknown field", KEPT, _deep(20_000, "unknown")),
    Damage("long text within the limit", KEPT, _huge(LIMIT - 2_000)),
    Damage("infinite price", KEPT, _literal("properties", b'{"price":1e400,"other":-Infinity}')),
    Damage("text as context", KEPT, _with(context="web")),
    Damage("array as context", KEPT, _with(context=[1, 2])),
    Damage("text as page", KEPT, _with(context={"page": "home", "campaign": 7})),
    Damage("text as properties", KEPT, _with(properties="none")),
    Damage("no message id", KEPT, _without("messageId")),
    Damage("object as message id", KEPT, _with(messageId={"a": 1})),
    Damage("words as receipt", KEPT, _with(receivedAt="soon")),
    Damage("thousands of keys", KEPT, lambda event, _: dump(event | {f"key{i}": i for i in range(2_000)})),
    Damage("empty line", BLANK_LINE, _fixed(b"")),
    Damage("spaces only", BLANK_LINE, _fixed(b" \t  ")),
    Damage("form feed", BLANK_LINE, _fixed(b" \x0c\x0b ")),
    Damage("carriage return only", BLANK_LINE, _fixed(b"\r")),
]
