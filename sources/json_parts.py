"""JSON text cut into its parts, each as it stands: a number that is parsed and written again may not be the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar


def _keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


# Numbers stay text: nothing is counted with them, and one of thousands of digits is no error.
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_keep_first)
_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN: Mapping[str, Reader] = {}


@dataclass(frozen=True)
class Part:
    """A value, in which numbers are text, its own text, and of an object's member the text with its key."""

    value: Any
    text: str
    member: str = ""


Value = TypeVar("Value")
Parts = dict[str, Part]
Reader = Callable[[str, int], tuple[Any, int]]


def read_text(body: bytes) -> str:
    """Decode UTF-8, without a byte order mark; raises ValueError."""
    return body.decode("utf-8-sig")


def cut_object(text: str, inside: Mapping[str, Reader] = _PLAIN) -> Parts:
    """Cut an object into its members, the first of a key; `inside`: what reads a key's value. Raises ValueError."""
    return _read_all(text, lambda at: read_object(text, at, inside))


def cut_value(text: str) -> Part:
    """Read one value; raises ValueError."""
    return Part(_read_all(text, lambda at: _DECODER.raw_decode(text, at)), text)


def cut_values(text: str) -> list[Part] | None:
    """Cut an array into its elements; None if it is none. Raises ValueError."""
    return _read_all(text, lambda at: read_elements(text, at))


def _read_all(text: str, read: Callable[[int], tuple[Value, int]]) -> Value:
    try:
        value, end = read(_skip(text, 0))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _skip(text, end) < len(text):
        raise ValueError(f"more than one value, at character {end}")
    return value


def read_object(text: str, at: int, inside: Mapping[str, Reader] = _PLAIN) -> tuple[Parts, int]:
    """Read the object that begins at a place; return its members and where it ends. Raises ValueError."""
    parts: Parts = {}
    at = _pass(text, at, "{")
    if text[at : at + 1] == "}":
        return parts, at + 1
    while True:
        begin = at
        if text[at : at + 1] != '"':
            raise ValueError(f"no key at character {at}")
        key, at = _DECODER.raw_decode(text, at)
        start = at = _pass(text, _skip(text, at), ":")
        value, at = inside[key](text, at) if key in inside else _DECODER.raw_decode(text, at)
        parts.setdefault(key, Part(value, text[start:at], text[begin:at]))
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return parts, at + 1
        at = _pass(text, at, ",")


def read_elements(text: str, at: int) -> tuple[list[Part] | None, int]:
    """Read the array that begins at a place, as `cut_values`; None where something else stands."""
    if text[at : at + 1] != "[":
        return None, _DECODER.raw_decode(text, at)[1]
    parts: list[Part] = []
    at = _pass(text, at, "[")
    if text[at : at + 1] == "]":
        return parts, at + 1
    while True:
        start = at
        value, at = _DECODER.raw_decode(text, at)
        parts.append(Part(value, text[start:at]))
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return parts, at + 1
        at = _pass(text, at, ",")


def write_object(added: Mapping[str, str], kept: Iterable[Part]) -> str:
    """Write an object of new members, whose values are JSON, and of others as they stood."""
    new = (f"{json.dumps(key)}:{value}" for key, value in added.items())
    return "{" + ",".join([*new, *(part.member for part in kept)]) + "}"


def put_in_front(added: Mapping[str, str], text: str) -> str:
    """Put new members, whose values are JSON, before those of an object, whose text stays as it is."""
    rest = text.strip(" \t\r\n")[1:]
    new = ",".join(f"{json.dumps(key)}:{value}" for key, value in added.items())
    return f"{{{new}{rest}" if rest.lstrip(" \t\r\n") == "}" else f"{{{new},{rest}"


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _pass(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"no {sign} at character {at}")
    return _skip(text, at + 1)
