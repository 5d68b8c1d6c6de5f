"""Messages of Kafka as lines: the value, and, where the mapping asks for them, the key and headers at its front."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from config import InputRules
from events.envelopes import KAFKA, wrap_binary
from events.formats.base import split_path
from events.raw import NEWLINE
from sources.live import flatten

KEY, HEADERS = "$key", "$headers"
SPACE = ord(" ")
Headers = dict[str, str | None]


@dataclass(frozen=True)
class Wanted:
    """What of a message goes into its line beside the value; `binary`: CloudEvents in binary mode become lines."""

    key: bool = False
    headers: bool = False
    binary: bool = False


VALUE_ONLY = Wanted()


def find_wanted(rules: InputRules) -> Wanted:
    """Tell what the mapped fields and the format need of a message."""
    heads = {split_path(path)[0] for paths in rules.fields.values() for path in paths}
    return Wanted(KEY in heads, HEADERS in heads, rules.format == "cloudevents")


def write_lines(messages: Sequence[Message], wanted: Wanted) -> bytes:
    """Make one line of each message, parted by newlines; a value that is no JSON object stays as it is."""
    if wanted == VALUE_ONLY:
        return _join_values(list(map(Message.value, messages)))
    return b"\n".join([_write_line(message, wanted) for message in messages])


def _join_values(values: list[bytes | None]) -> bytes:
    if None not in values:
        joined = b"\n".join(values)  # type: ignore[arg-type]
        if _is_plain(np.frombuffer(joined, dtype=np.uint8), len(values)):
            return joined
    return b"\n".join([flatten(value) for value in values])


def _is_plain(text: npt.NDArray[np.uint8], lines: int) -> bool:
    """Tell of all values at once that none has a newline, is empty or begins with space, as one of only space would."""
    if not text.size or text[-1] == NEWLINE:
        return False
    ends = np.flatnonzero(text == NEWLINE)
    return ends.size == lines - 1 and bool(text[0] > SPACE and (text[ends + 1] > SPACE).all())


def _write_line(message: Message, wanted: Wanted) -> bytes:
    value, headers = message.value(), _read_headers(message)
    if wanted.binary and any(name.startswith(KAFKA) for name in headers):
        value = wrap_binary({name: text for name, text in headers.items() if text is not None}, value or b"")
    line = flatten(value)
    front: dict[str, object] = {}
    if wanted.key:
        front[KEY] = _read_text(message.key())
    if wanted.headers:
        front[HEADERS] = headers
    return _put_in_front(front, line) if front else line


def _put_in_front(front: dict[str, object], line: bytes) -> bytes:
    """Put keys before those of a JSON object, as text: to parse numbers and write them again may change them."""
    body = line.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not body.startswith(b"{"):
        return line
    rest = body[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b", "
    return json.dumps(front).encode()[:-1] + comma + rest


def _read_headers(message: Message) -> Headers:
    # Of a name that is there more than once, the last one counts: so Kafka's own clients have it.
    return {name: _read_text(value) for name, value in dict(message.headers() or ()).items()}


def _read_text(value: bytes | str | None) -> str | None:
    """Return text; None where the bytes are none."""
    if value is None or isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
