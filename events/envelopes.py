"""Messages of brokers and web hooks whose attributes travel beside the body, as one line of JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

HTTP, KAFKA = "ce-", "ce_"
AMQP = ("cloudevents:", "cloudevents_")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_JSON_TYPE = re.compile(r"[\w.+-]+/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_OWN = ("data", "data_base64", "datacontenttype")


def wrap_binary(headers: Mapping[str, str], body: bytes) -> bytes:
    """Make one line of JSON, a CloudEvent in structured mode, of one in binary mode; structured ones pass through.

    Attributes are the headers that begin with `ce-` (HTTP: percent-encoded), `ce_` (Kafka), `cloudEvents:` or
    `cloudEvents_` (AMQP); one that can't be decoded is left out. A body that is JSON is `data`, any other one
    `data_base64`. The line has no newline at its end.
    """
    kind = _find_type(headers)
    if kind.lower().startswith("application/cloudevents"):
        return _join(body)
    event = {}
    for name, value in headers.items():
        prefix = _find_prefix(name)
        attribute = name[len(prefix) :].lower()
        text = _decode(value) if prefix == HTTP else value
        if prefix and text is not None and attribute not in _OWN:
            event[attribute] = text
    if kind:
        event["datacontenttype"] = kind
    if body and not (_holds_json(kind) and _is_json(body)):
        event["data_base64"] = base64.b64encode(body).decode()
    # Surrogates are escaped too: what is no text must not stop a stream.
    head = json.dumps(event).encode()
    if not body or "data_base64" in event:
        return head
    # As it stands: to parse numbers and write them again may change them.
    return head[:-1] + (b', "data": ' if event else b'"data": ') + _join(body) + b"}"


def _find_type(headers: Mapping[str, str]) -> str:
    lower = {name.lower(): value for name, value in headers.items()}
    names = ("content-type", *(f"{prefix}datacontenttype" for prefix in (KAFKA, HTTP, *AMQP)))
    return next((lower[name] for name in names if lower.get(name)), "")


def holds_cloudevent(headers: Mapping[str, str]) -> bool:
    """Tell whether a message is a CloudEvent: its headers hold attributes, or say that its body does."""
    return any(map(_find_prefix, headers)) or _find_type(headers).lower().startswith("application/cloudevents")


def _find_prefix(name: str) -> str:
    lower = name.lower()
    return next((prefix for prefix in (HTTP, KAFKA, *AMQP) if lower.startswith(prefix)), "")


def _decode(value: str) -> str | None:
    bare = value.strip()
    quoted = _QUOTED.fullmatch(bare)
    bare = _ESCAPED.sub(r"\1", quoted[1]) if quoted else bare
    try:
        return unquote_to_bytes(bare).decode()
    except UnicodeError:
        return None


def _holds_json(kind: str) -> bool:
    return not kind or _JSON_TYPE.match(kind.strip()) is not None


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    # json.loads guesses UTF-16 and UTF-32 as well, which a line of UTF-8 can't hold.
    return b"\0" not in body


def _join(body: bytes) -> bytes:
    """Put JSON text on one line: outside of texts, where JSON has newlines at all, they are blanks."""
    return body.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b" ").replace(b"\n", b" ")
