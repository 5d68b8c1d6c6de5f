"""The words of JSON at an address: spaces, strings, numbers, literals; compiled.

FAILED means that another reader has to be asked, not that something is wrong.
"""

from __future__ import annotations

from events.memory import Word, compiled, count_zeros, load_byte, load_word, mask

FAILED = -1
LONGEST_NUMBER = 40
ONES, HIGHS = Word(0x0101010101010101), Word(0x8080808080808080)
QUOTES, BACKSLASHES, SPACES = ONES * Word(0x22), ONES * Word(0x5C), ONES * Word(0x20)
TAB, RETURN, SPACE, QUOTE, COMMA, MINUS, POINT, SLASH, ZERO, NINE = 9, 13, 32, 34, 44, 45, 46, 47, 48, 57
COLON, BRACKET, BACKSLASH, BRACE, SMALL_E = 58, 91, 92, 123, 101
CASE = 32  # the bit that tells e from E, and { from [
GAPS = 1 << SPACE | 1 << TAB | 1 << RETURN
NULL, TRUE, FALSE = (Word(int.from_bytes(word, "little")) for word in (b"null", b"true", b"false"))
# What a string or number is: as it stands, the only spelling; only there (as a number: with a point); something else.
PLAIN, SPELLED, OTHER = 0, 1, 2


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
