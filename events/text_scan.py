"""Texts at addresses to columns of string views, to times and to hashes, compiled."""

from __future__ import annotations

from events.hashing import A, B, C
from events.json_tokens import BACKSLASH, COLON, MINUS, NINE, POINT, QUOTE, SLASH, SPACE, ZERO
from events.memory import Word, compiled, load, load_byte, load_word, mask, store, store_byte, store_word

BAD = -1
# A column: its views (16 bytes a row), known rows (1 byte a row), their count, and the store that long texts go to.
VIEWS, KNOWN, COUNT, STORE = range(0, 32, 8)
# A store of texts: its bytes, and how many are used.
BYTES, USED = range(0, 16, 8)
VIEW, INLINE = 16, 12
NO_DIGITS = -(1 << 40)
LETTER_T, LETTER_Z, PLUS = 84, 90, 43


@compiled
def put_text(pos: int, end: int, column: int, row: int) -> None:
    """Write a text to a row of a column; the view of a long one points to its copy."""
    texts = load(column + STORE)
    used = load(texts + USED)
    if end - pos > INLINE:
        copy = load(texts + BYTES) + used
        for at in range(0, end - pos, 8):
            store_word(copy + at, load_word(pos + at))
        store(texts + USED, used + end - pos)
    put_view(pos, end - pos, used, column, row)


@compiled
def put_tight(pos: int, end: int, column: int, row: int) -> None:
    """Write JSON text to a row of a column, without spaces between its tokens and without backslashes before solidi."""
    texts = load(column + STORE)
    used = load(texts + USED)
    begin = load(texts + BYTES) + used
    copy, inside = begin, False
    while pos < end:
        byte = load_byte(pos)
        if byte == BACKSLASH:
            pos += 1
            byte = load_byte(pos)
            if byte != SLASH:
                store_byte(copy, BACKSLASH)
                copy += 1
        elif byte == QUOTE:
            inside = not inside
        if inside or byte > SPACE:
            store_byte(copy, byte)
            copy += 1
        pos += 1
    if copy - begin > INLINE:
        store(texts + USED, used + copy - begin)
    put_view(begin, copy - begin, used, column, row)


@compiled
def put_view(pos: int, length: int, offset: int, column: int, row: int) -> None:
    """Write the view of the text at `pos`, which lies at `offset` of the column's store if it is long."""
    view, known = load(column + VIEWS) + VIEW * row, load(column + KNOWN) + row
    store_byte(known, 1)
    store(column + COUNT, load(column + COUNT) + 1)
    if length == 0:
        return
    first = load_word(pos) & mask(length)
    store_word(view, Word(length) | (first << Word(32)))
    if length > INLINE:
        store_word(view + 8, Word(offset) << Word(32))
    else:
        rest = load_word(pos + 8) & mask(length - 8) if length > 8 else Word(0)
        store_word(view + 8, (first >> Word(32)) | (rest << Word(32)))


@compiled
def put_same(other: int, column: int, row: int) -> None:
    """Write what `other`, a column with the same store, has in this row."""
    view, copy = load(other + VIEWS) + VIEW * row, load(column + VIEWS) + VIEW * row
    store_word(copy, load_word(view))
    store_word(copy + 8, load_word(view + 8))
    store_byte(load(column + KNOWN) + row, 1)
    store(column + COUNT, load(column + COUNT) + 1)


@compiled
def hash_text(pos: int, end: int) -> Word:
    """Hash as `hash_strings` does."""
    state = Word(end - pos) * A
    while pos < end:
        state = (state ^ (load_word(pos) & mask(end - pos))) * B
        state ^= state >> Word(29)
        pos += 8
    state = (state ^ (state >> Word(30))) * B
    state = (state ^ (state >> Word(27))) * C
    return state ^ (state >> Word(31))


@compiled
def read_pair(pos: int) -> int:
    """Read two digits; far below zero if they are none."""
    tens, ones = load_byte(pos) - ZERO, load_byte(pos + 1) - ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else NO_DIGITS


@compiled
def read_date(pos: int) -> int:
    """Read `2026-01-05` as days since 1970, or BAD; from 1970 to 9998."""
    year, month, day = read_pair(pos) * 100 + read_pair(pos + 2), read_pair(pos + 5), read_pair(pos + 8)
    if load_byte(pos + 4) != MINUS or load_byte(pos + 7) != MINUS or year < 1970 or year > 9998:
        return BAD
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    longest = 28 + leap if month == 2 else 30 + ((month + (month > 7)) & 1)
    if month < 1 or month > 12 or day < 1 or day > longest:
        return BAD
    # Years that begin in March have their leap day last.
    year -= month <= 2
    in_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + in_year - 719_468


@compiled
def read_time(pos: int, end: int) -> int:
    """Read `2026-01-05T06:00:00Z`, with 3 or 6 decimals or none and Z or +00:00, as microseconds; else BAD."""
    if end - pos < 20:
        return BAD
    days, hour, minute, second = read_date(pos), read_pair(pos + 11), read_pair(pos + 14), read_pair(pos + 17)
    shaped = load_byte(pos + 10) == LETTER_T and load_byte(pos + 13) == COLON and load_byte(pos + 16) == COLON
    if not shaped or min(days, hour, minute, second) < 0 or hour > 23 or max(minute, second) > 59:
        return BAD
    micros, pos = 0, pos + 19
    if load_byte(pos) == POINT:
        micros = (read_pair(pos + 1) * 10 + load_byte(pos + 3) - ZERO) * 1000
        shaped, pos = ZERO <= load_byte(pos + 3) <= NINE, pos + 4
        if load_byte(pos) != LETTER_Z and load_byte(pos) != PLUS:
            micros += (load_byte(pos) - ZERO) * 100 + read_pair(pos + 1)
            shaped, pos = shaped and ZERO <= load_byte(pos) <= NINE, pos + 3
        if not shaped or micros < 0:
            return BAD
    if load_byte(pos) == LETTER_Z:
        shaped = pos + 1 == end
    else:
        shaped = pos + 6 == end and load_byte(pos) == PLUS and load_byte(pos + 3) == COLON
        shaped = shaped and read_pair(pos + 1) == 0 and read_pair(pos + 4) == 0
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros if shaped else BAD
