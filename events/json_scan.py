"""One JSON object's wanted fields, found in one pass over its bytes, compiled.

Only what is plain is read. FAILED means that another reader has to be asked, not that something is wrong: escapes in
a wanted field or in a key beside it, a key twice, numbers that have other spellings, a wrong type, deep nesting, …
Where the bytes end there must be a newline behind the object, and 32 bytes that can be read behind that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from events.hashing import A, B, C
from events.memory import Word, compiled, count_zeros, load, load_byte, load_word, mask, store, to_number

FAILED = -1
DEEPEST = 60
LONGEST_KEY, LONGEST_NUMBER = 17, 40
ONES, HIGHS = Word(0x0101010101010101), Word(0x8080808080808080)
QUOTES, BACKSLASHES, SPACES = ONES * Word(0x22), ONES * Word(0x5C), ONES * Word(0x20)
TAB, RETURN, SPACE, QUOTE, COMMA, MINUS, POINT, SLASH, ZERO, NINE = 9, 13, 32, 34, 44, 45, 46, 47, 48, 57
COLON, BRACKET, BACKSLASH, BRACE, SMALL_E = 58, 91, 92, 123, 101
CASE = 32  # the bit that tells e from E, and { from [
GAPS = 1 << SPACE | 1 << TAB | 1 << RETURN
NULL, TRUE, FALSE = (Word(int.from_bytes(word, "little")) for word in (b"null", b"true", b"false"))
# What a string or number is: as it stands, the only spelling; only there (as a number: with a point); something else.
PLAIN, SPELLED, OTHER = 0, 1, 2

# A wanted field: its number, its kind << 8, and the level of the keys below it << 16.
TEXT, INSIDE, KEPT = 0, 1, 2  # text or a whole number; an object to look into; an object kept as it is
ANY, ROOT, NOWHERE = -1, INSIDE << 8, 15
# A table of keys has 256 slots of four words: the key's first 16 bytes, length | level << 8 | byte 17 << 16, field.
SLOTS, SLOT = 256, 32
# The stack has a frame for each open container: its last byte; the level of its keys; whether it is kept text: 0, the
# number of the field that it is, less one, or WITHIN.
FRAME, LEVEL, KEEPING, WITHIN = 24, 8, 16, 255
FIELD = 16  # where a field's text begins and ends; its end is 0 if there was no such key and 1 if it was null


def build_keys(fields: Sequence[tuple[str, int]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Build the table of keys of fields by number: path and kind. A path begins with the path of a field before it."""
    levels = {""} | {path.rpartition(".")[0] for path, _ in fields}
    places = {path: number for number, path in enumerate(sorted(levels))}
    table = np.full((SLOTS, 4), -1, dtype=np.int64)
    for number, (path, kind) in enumerate(fields):
        above, _, key = path.rpartition(".")
        text = key.encode().ljust(LONGEST_KEY, b"\0")
        first, second = (int.from_bytes(text[at : at + 8], "little") for at in (0, 8))
        tag = len(key) | places[above] << 8 | text[16] << 16
        slot = ((first ^ (second * int(C)) ^ (tag * int(A))) * int(B) % 2**64) >> 56
        while table[slot, 2] >= 0:
            slot = (slot + 1) % SLOTS
        words = np.array([first, second], dtype=np.uint64).view(np.int64)
        table[slot] = (*words, tag, number | kind << 8 | places.get(path, NOWHERE) << 16)
    return table


@compiled
def skip_space(pos: int) -> int:
    """Return the place of the next byte that is no space within a line."""
    byte = load_byte(pos)
    while byte <= SPACE and (GAPS >> byte) & 1:
        pos += 1
        byte = load_byte(pos)
    return pos


@compiled
def find_special(pos: int) -> int:
    """Return the place of the next quote, backslash, control character or byte beyond ASCII."""
    while True:
        word = load_word(pos)
        quote, slash = word ^ QUOTES, word ^ BACKSLASHES
        found = ((quote - ONES) & ~quote) | ((slash - ONES) & ~slash) | ((word - SPACES) & ~word) | word
        found &= HIGHS
        if found != Word(0):
            return pos + (count_zeros(found) >> 3)
        pos += 8


@compiled
def measure_utf8(pos: int) -> int:
    """Return the length of a character beyond ASCII, 0 if it is none."""
    first, second = load_byte(pos), load_byte(pos + 1)
    if first < 0xC2 or first > 0xF4:
        return 0
    if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
        return 0
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return 0
    length = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    for place in range(1, length):
        if load_byte(pos + place) & 0xC0 != 0x80:
            return 0
    return length


@compiled
def read_string(pos: int) -> tuple[int, int]:
    """Return the place of the closing quote (`pos` is behind the opening one), or FAILED; and what it is."""
    form = PLAIN
    while True:
        pos = find_special(pos)
        byte = load_byte(pos)
        if byte == QUOTE:
            return pos, form
        if byte == BACKSLASH:
            escaped = load_byte(pos + 1)
            if escaped == SLASH:
                form = OTHER
            elif escaped in (QUOTE, BACKSLASH, 98, 102, 110, 114, 116):  # b f n r t
                form = max(form, SPELLED)
            else:
                return FAILED, OTHER
            pos += 2
        else:
            length = measure_utf8(pos)
            if length == 0:
                return FAILED, OTHER
            pos += length


@compiled
def skip_digits(pos: int) -> int:
    """Return the place of the next byte that is no digit."""
    while ZERO <= load_byte(pos) <= NINE:
        pos += 1
    return pos


@compiled
def read_number(pos: int) -> tuple[int, int]:
    """Return the place behind a number, or FAILED; and what it is."""
    first = pos + 1 if load_byte(pos) == MINUS else pos
    end = skip_digits(first)
    digits, zero = end - first, load_byte(first) == ZERO
    if digits == 0 or (zero and digits > 1):
        return FAILED, OTHER
    form = PLAIN if digits <= 18 and not (zero and first > pos) else OTHER
    if load_byte(end) == POINT:
        point = end
        end = skip_digits(point + 1)
        places = end - point - 1
        # Fifteen digits come back as they were from a double; more, or closer to zero, may not.
        odd = digits + places > 15 or (zero and places > 3) or (places > 1 and load_byte(end - 1) == ZERO)
        form = OTHER if odd or form == OTHER else SPELLED
        if places == 0:
            return FAILED, OTHER
    if load_byte(end) | CASE == SMALL_E or end - pos > LONGEST_NUMBER:
        return FAILED, OTHER
    return end, form


@compiled
def read_literal(pos: int) -> tuple[int, int]:
    """Return the place behind true, false or null, or FAILED; and PLAIN for null."""
    word = load_word(pos)
    if word & mask(4) == NULL:
        return pos + 4, PLAIN
    if word & mask(4) == TRUE:
        return pos + 4, OTHER
    return (pos + 5 if word & mask(5) == FALSE else FAILED), OTHER


@compiled
def find_field(pos: int, end: int, level: int, keys: int) -> int:
    """Return the wanted field of the key between two places, or ANY."""
    length = end - pos
    if level == NOWHERE or length > LONGEST_KEY or length == 0:
        return ANY
    first, second, tag = load_word(pos) & mask(length), Word(0), length | level << 8
    if length > 8:
        second = load_word(pos + 8) & mask(length - 8)
        if length == LONGEST_KEY:
            tag |= load_byte(pos + 16) << 16
    slot = to_number(((first ^ (second * C) ^ (Word(tag) * A)) * B) >> Word(56))
    while True:
        at = keys + SLOT * slot
        found = load(at + 16)
        if found < 0:
            return ANY
        if found == tag and load_word(at) == first and load_word(at + 8) == second:
            return load(at + 24)
        slot = (slot + 1) % SLOTS


@compiled
def read_key(pos: int, level: int, keys: int, fields: int) -> tuple[int, int, int]:
    """Return the place of a key's value, or FAILED; its field; and how many spaces stood between."""
    if load_byte(pos) != QUOTE:
        return FAILED, ANY, 0
    end, form = read_string(pos + 1)
    if end < 0 or (form != PLAIN and level != NOWHERE):
        return FAILED, ANY, 0
    field = find_field(pos + 1, end, level, keys)
    if field != ANY:
        seen = fields + FIELD * (field & 255) + 8
        if load(seen) != 0:
            return FAILED, ANY, 0
        store(seen, 1)
    colon = skip_space(end + 1)
    if load_byte(colon) != COLON:
        return FAILED, ANY, 0
    value = skip_space(colon + 1)
    # A solidus that is escaped is written without: as loose as a space.
    return value, field, value - end - 2 + (form == OTHER)


@compiled
def read_scalar(pos: int, field: int, keeping: int, fields: int) -> tuple[int, int]:
    """Return the place behind a string, number or literal, or FAILED; and 1 if it is written otherwise when kept."""
    byte, loose = load_byte(pos), 0
    if byte == QUOTE:
        begin = pos + 1
        end, form = read_string(begin)
        behind, loose = end + 1, form == OTHER
    elif byte == MINUS or ZERO <= byte <= NINE:
        begin = pos
        end, form = read_number(pos)
        behind = end
        if keeping and form == OTHER:
            return FAILED, 0
    else:
        end, form = read_literal(pos)
        return (FAILED if field != ANY and form != PLAIN else end), 0
    if end < 0:
        return FAILED, 0
    if field != ANY:
        if form != PLAIN or (field >> 8) & 255 != TEXT:
            return FAILED, 0
        store(fields + FIELD * (field & 255), begin)
        store(fields + FIELD * (field & 255) + 8, end)
    return behind, loose


@compiled
def open_container(pos: int, field: int, top: int, fields: int) -> int:
    """Put an object or array on the stack; return the new top, or FAILED."""
    byte, level, keeping = load_byte(pos), NOWHERE, load(top + KEEPING)
    keeping = WITHIN if keeping else 0
    if field != ANY:
        kind = (field >> 8) & 255
        if byte == BRACKET or kind == TEXT:
            return FAILED
        level = field >> 16
        if kind == KEPT:
            keeping = (field & 255) + 1
            store(fields + FIELD * (field & 255), pos)
    top += FRAME
    store(top, byte + 2)  # } and ] are two behind { and [
    store(top + LEVEL, level)
    store(top + KEEPING, keeping)
    return top


@compiled
def close_containers(pos: int, top: int, fields: int) -> tuple[int, int, int]:
    """Behind a value: leave the containers that end here; return the place of what follows, the top, and spaces passed.

    What follows is a comma, or the top is the stack's own frame; else FAILED.
    """
    loose = 0
    while True:
        at = skip_space(pos)
        loose += at - pos
        byte = load_byte(at)
        if byte == COMMA:
            return at, top, loose
        if byte != load(top):
            return FAILED, top, loose
        pos = at + 1
        keeping = load(top + KEEPING)
        if keeping not in (0, WITHIN):
            store(fields + FIELD * (keeping - 1) + 8, pos)
        top -= FRAME
        if load(top) == 0:
            return pos, top, loose


@compiled
def scan_object(pos: int, keys: int, fields: int, stack: int) -> tuple[int, int]:
    """Find the fields of the object at `pos`; return the place behind it, or FAILED, and 0 if nothing was loose in it.

    `fields` must be zeros, and `stack` a frame of zeros with room for DEEPEST more. Loose is what kept text is written
    without: spaces between its tokens, backslashes before solidi.
    """
    top, deepest = stack, stack + FRAME * DEEPEST
    field, loose = ROOT, 0
    if load_byte(pos) != BRACE:
        return FAILED, 0
    while True:
        opened = load_byte(pos) | CASE == BRACE
        if opened:
            top = open_container(pos, field, top, fields)
            if top < 0 or top > deepest:
                return FAILED, 0
            behind = pos + 1
            pos = skip_space(behind)
            loose += pos - behind
        else:
            pos, more = read_scalar(pos, field, load(top + KEEPING), fields)
            loose += more
        if pos < 0:
            return FAILED, 0
        if not opened or load_byte(pos) == load(top):
            pos, top, more = close_containers(pos, top, fields)
            loose += more
            if pos < 0 or top == stack:
                return pos, loose
            behind = pos + 1
            pos = skip_space(behind)
            loose += pos - behind
        field = ANY
        if load(top) == BRACE + 2:
            pos, field, more = read_key(pos, load(top + LEVEL), keys, fields)
            loose += more
            if pos < 0:
                return FAILED, 0
