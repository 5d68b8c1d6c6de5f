"""One JSON object's wanted fields, found in one pass over its bytes, compiled.

Only what is plain is read. FAILED means that another reader has to be asked, not that something is wrong: escapes in
a wanted field or in a key beside it, a key twice, numbers that have other spellings, a wrong type, deep nesting, …
Where the bytes end there must be a newline behind the object, and 32 bytes that can be read behind that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from events.hashing import A, B, C
from events.json_tokens import (
    BRACE,
    BRACKET,
    CASE,
    COLON,
    COMMA,
    FAILED,
    MINUS,
    NINE,
    OTHER,
    PLAIN,
    QUOTE,
    ZERO,
    read_literal,
    read_number,
    read_string,
    skip_space,
)
from events.memory import Word, compiled, load, load_byte, load_word, mask, store, store_word, to_number

DEEPEST = 60
LONGEST_KEY = 17

# A wanted field: its number, its kind << 8, and the level of the keys below it << 16.
TEXT, INSIDE, KEPT = 0, 1, 2  # text or a whole number; an object to look into; an object kept as it is
ANY, ROOT, NOWHERE = -1, INSIDE << 8, 15
# A table of keys has 256 slots of four words: the key's first 16 bytes, length | level << 8 | byte 17 << 16, field.
SLOTS, SLOT = 256, 32
# The stack has a frame for each open container: its last byte; the level of its keys; whether it is kept text: 0, the
# number of the field that it is, less one, or WITHIN.
FRAME, LEVEL, KEEPING, WITHIN = 24, 8, 16, 255
# Guesses: the address of the next one, and from GUESS on masks and words of a key with its quotes and colon, its level,
# length and field.
GUESS, GUESSED = 56, 64
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
def read_key(pos: int, level: int, keys: int, fields: int, guesses: int) -> tuple[int, int, int]:
    """Return the place of a key's value, or FAILED; its field; and how many spaces stood between.

    Most records have the keys of the one before, in the same order, so each is first compared with that one's.
    """
    guess = load(guesses)
    guessed = guess < guesses + GUESS * GUESSED
    if guessed:
        store(guesses, guess + GUESS)
        same = load_word(pos) & load_word(guess) == load_word(guess + 8)
        if same and load_word(pos + 8) & load_word(guess + 16) == load_word(guess + 24) and level == load(guess + 32):
            begin, field = pos + load(guess + 40), load(guess + 48)
            value = skip_space(begin)
            return (value if note_field(field, fields) else FAILED), field, value - begin
    value, field, loose = read_new_key(pos, level, keys)
    if value < 0 or not note_field(field, fields):
        return FAILED, ANY, 0
    if guessed and not loose and value - pos <= 16:
        store_word(guess, mask(value - pos))
        store_word(guess + 8, load_word(pos) & mask(value - pos))
        rest = mask(value - pos - 8) if value - pos > 8 else Word(0)
        store_word(guess + 16, rest)
        store_word(guess + 24, load_word(pos + 8) & rest)
        store(guess + 32, level)
        store(guess + 40, value - pos)
        store(guess + 48, field)
    return value, field, loose


@compiled
def note_field(field: int, fields: int) -> bool:
    """Mark a wanted field as seen; False if it was already."""
    if field == ANY:
        return True
    seen = fields + FIELD * (field & 255) + 8
    if load(seen) != 0:
        return False
    store(seen, 1)
    return True


@compiled
def read_new_key(pos: int, level: int, keys: int) -> tuple[int, int, int]:
    """Return the place of a key's value, or FAILED; its field; and how many spaces stood between."""
    if load_byte(pos) != QUOTE:
        return FAILED, ANY, 0
    end, form = read_string(pos + 1)
    if end < 0 or (form != PLAIN and level != NOWHERE):
        return FAILED, ANY, 0
    colon = skip_space(end + 1)
    if load_byte(colon) != COLON:
        return FAILED, ANY, 0
    value = skip_space(colon + 1)
    # A solidus that is escaped is written without: as loose as a space.
    return value, find_field(pos + 1, end, level, keys), value - end - 2 + (form == OTHER)


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
def scan_object(pos: int, keys: int, fields: int, stack: int, guesses: int) -> tuple[int, int]:
    """Find the fields of the object at `pos`; return the place behind it, or FAILED, and 0 if nothing was loose in it.

    `fields` must be zeros, and `stack` a frame of zeros with room for DEEPEST more. Loose is what kept text is written
    without: spaces between its tokens, backslashes before solidi.
    """
    store(guesses, guesses + GUESS)
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
            pos, field, more = read_key(pos, load(top + LEVEL), keys, fields, guesses)
            loose += more
            if pos < 0:
                return FAILED, 0
