"""Where the members and elements of JSON text begin and end, by its brackets alone.

Nothing is parsed: neither a number of a thousand digits nor nesting a thousand deep can make it fail, and what is cut out is
what came, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPACE = re.compile(rb"[ \t\n\r]*")
_TEXT = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_STRING = re.compile(_TEXT, re.DOTALL)
_MARK = re.compile(_TEXT + rb"|[\[\]{}]", re.DOTALL)
_SCALAR = re.compile(rb"[^\s,:\[\]{}\"]+")


def list_members(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys, quoted as they stand, and the values of an object; raises ValueError where it is none."""
    for begin, end in _list_items(text, b"{", b"}"):
        key = _STRING.match(text, begin)
        if key is None:
            raise ValueError(f"no key at byte {begin}")
        colon = _skip(text, key.end())
        if text[colon : colon + 1] != b":":
            raise ValueError(f"no colon at byte {colon}")
        yield key[0], text[_skip(text, colon + 1) : end]


def list_elements(text: bytes) -> Iterator[bytes]:
    """Yield the elements of an array; raises ValueError where it is none."""
    for begin, end in _list_items(text, b"[", b"]"):
        yield text[begin:end]


def _list_items(text: bytes, opening: bytes, closing: bytes) -> Iterator[tuple[int, int]]:
    at = _skip(text, 0)
    if text[at : at + 1] != opening:
        raise ValueError(f"no {opening.decode()} at byte {at}")
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing:
        begin = at
        end = _find_end(text, begin)
        at = _skip(text, end)
        if text[at : at + 1] == b":":
            end = _find_end(text, _skip(text, at + 1))
            at = _skip(text, end)
        yield begin, end
        if text[at : at + 1] == b",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != closing:
            raise ValueError(f"no {closing.decode()} at byte {at}")


def _find_end(text: bytes, at: int) -> int:
    """Return where the value that begins at a place ends; raises ValueError."""
    if text[at : at + 1] not in (b"{", b"["):
        match = _STRING.match(text, at) or _SCALAR.match(text, at)
        if match is None:
            raise ValueError(f"no value at byte {at}")
        return match.end()
    depth = 0
    for mark in _MARK.finditer(text, at):
        depth += (mark[0] in (b"{", b"[")) - (mark[0] in (b"}", b"]"))
        if not depth:
            return mark.end()
    raise ValueError(f"what begins at byte {at} does not end")


def _skip(text: bytes, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
