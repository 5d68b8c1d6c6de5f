"""Lines of Segment's JSON in every shape, and damaged byte by byte: for readers that must agree on all of them."""

from __future__ import annotations

import json
import random
from typing import Any

TEXTS = (
    "",
    "a",
    "Home Viewed",
    "/p/1",
    "https://shop.example/p?q=1",
    "Übergröße 日本 🙂",
    "NaN",
    "(start)",
    "{x}",
    "[y]",
    "iOS",
)
IDS = ("u-00012", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "x", "12345678901234567", "é", *TEXTS)
TIMES = (
    *("2026-01-05T10:11:12Z", "2026-01-05T10:11:12.345Z", "2026-01-05T10:11:12.345678Z", "2024-02-29T23:59:59+00:00"),
    *("2026-01-05T10:11:12.5Z", "2026-01-05T12:11:12+02:00", "2026-01-05 10:11:12", "2026-02-30T00:00:00Z", "soon", ""),
    *("1969-12-31T23:59:59Z", "2100-02-29T00:00:00Z", "2000-02-29T00:00:00.000Z", "2026-02-28T23:00:00.999Z"),
)
NUMBERS = (
    "0",
    "-0",
    "1",
    "-7",
    "31.84",
    "1.50",
    "1.0",
    "0.00001",
    "1e5",
    "123456789012345678901",
    "0.1000000000000000055",
)
LITERALS = ("null", "true", "false", "[]", "{}", '[1,{"a":"b"}]', '{"a":{"b":[1,2,3]}}', "NaN", *NUMBERS)
BYTES = b'"\\{}[]:,.-+eE019 \t\r\0\x01\x7f\x80\xc3\xa9\xff/untfalsTZ'
PIECES = (
    *(b"\\u00e9", b"\\ud83d\\ude42", b"\\ud800", b"\\/", b'\\"', b"\\\\", b"\\n", b"  ", b"\xc3\xa9", b"\xed\xa0\x80"),
    *(b'"userId":"twice",', b'"properties":{"path":"/own"},', b'"context":{},', b",", b"}", b"{", b"]", b'"', b"null"),
    *(b'"timestamp":"2026-01-05T10:11:12Z",', b'"type":"page",', b"\xef\xbb\xbf", b"\r", b" ", b"\t", b"1.0", b"1e400"),
)


def make_line(rng: random.Random) -> bytes:
    """Make a record that is good, or odd in one of its values."""
    pick = rng.choice
    kind = pick(("track", "page", "screen", "identify"))
    record: dict[str, Any] = {"messageId": f"m-{rng.randrange(10**12)}", "type": kind}
    record["event" if rng.random() < 0.6 else "name"] = pick(("Product Viewed", "Order Completed", pick(TEXTS)))
    record["anonymousId"] = pick((None, f"d-{rng.randrange(99)}", IDS[rng.randrange(5)]))
    record["userId"] = pick((None, f"u-{rng.randrange(99)}"))
    record["timestamp"] = TIMES[rng.randrange(3)] if rng.random() < 0.9 else pick(TIMES)
    if rng.random() < 0.3:
        record |= {"receivedAt": pick(TIMES[:4]), "originalTimestamp": pick(TIMES), "previousId": pick(IDS)}
    if rng.random() < 0.5:
        record["channel"] = pick(("web", "mobile", "", None))
    if rng.random() < 0.6:
        record[pick(("properties", "properties", "traits"))] = _make_properties(rng)
    if rng.random() < 0.5:
        record["context"] = _make_context(rng)
    if rng.random() < 0.1:
        record[pick((*record, "other"))] = "@here@"
    if rng.random() < 0.3:
        items = list(record.items())
        rng.shuffle(items)
        record = dict(items)
    separators = (",", ":") if rng.random() < 0.7 else (", ", ": ")
    line = json.dumps(record, separators=separators, ensure_ascii=rng.random() < 0.1).encode()
    return line.replace(b'"@here@"', pick(LITERALS).encode())


def _make_properties(rng: random.Random) -> dict[str, Any]:
    some = {"path": rng.choice(TEXTS), "url": rng.choice(TEXTS), "referrer": rng.choice((None, 5, "r", *TEXTS))}
    kept = {name: value for name, value in some.items() if rng.random() < 0.3}
    return kept | {
        "product": {"id": f"p{rng.randrange(99)}", "price": rng.choice((31.84, 5, 7.5, 0.25, True, 1e-7, 0.1 + 0.2))},
        "a/b": 'c"d',
    }


def _make_context(rng: random.Random) -> dict[str, Any]:
    page = {name: rng.choice((None, *TEXTS)) for name in ("path", "url", "referrer", "title") if rng.random() < 0.5}
    context = {
        "page": page,
        "campaign": {"name": rng.choice(TEXTS)},
        "device": {"type": rng.choice(("ios", "Android", None))},
        "os": {"name": rng.choice(("iOS", "Windows"))},
        "library": {"name": rng.choice(("analytics.js", "analytics-ios", "python"))},
        "channel": rng.choice((None, "", "store")),
        "ip": "10.0.0.1",
    }
    return {name: value for name, value in context.items() if rng.random() < 0.5}


def mutate(line: bytes, rng: random.Random) -> bytes:
    """Damage a line in one to three places."""
    for _ in range(rng.choice((1, 1, 1, 1, 2))):
        at, how = rng.randrange(len(line) + 1), rng.randrange(6)
        if how == 0:
            line = line[:at] + line[at + rng.choice((1, 1, 2, 9)) :]
        elif how == 1:
            line = line[:at] + bytes([rng.choice(BYTES)]) + line[at:]
        elif how == 2:
            line = line[:at] + bytes([rng.choice(BYTES)]) + line[at + 1 :]
        elif how == 3:
            line = line[:at] + rng.choice(PIECES) + line[at:]
        elif how == 4:
            # Before a key or value, where a whole one may be put.
            places = [i + 1 for i, byte in enumerate(line) if byte in b"{,:"] or [at]
            at = rng.choice(places)
            line = line[:at] + rng.choice(PIECES) + line[at:]
        else:
            line = line[:at] + line[at : at + 1].swapcase() + line[at + 1 :]
    return line.replace(b"\n", b" ")
