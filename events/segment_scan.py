"""Lines of Segment's JSON to columns, compiled: what presets.py and canonical.py say, for records that are plain.

A line that is not plain, or that may be no event, is left out and noted as one for the readers that take anything.
"""

from __future__ import annotations

from events.hashing import B
from events.json_scan import FIELD, INSIDE, KEPT, TEXT, scan_object
from events.json_tokens import skip_space
from events.memory import (
    Word,
    compiled,
    kept,
    load,
    load_byte,
    load_word,
    mask,
    store,
    store_half,
    store_word,
    to_number,
)
from events.text_scan import hash_text, put_same, put_text, put_tight, read_time

FIELDS = (
    *((name, TEXT) for name in ("messageId", "type", "event", "name", "anonymousId", "userId", "previousId")),
    *((name, TEXT) for name in ("timestamp", "originalTimestamp", "receivedAt", "channel")),
    *(("properties", KEPT), ("traits", KEPT), ("context", INSIDE), ("context.page", INSIDE)),
    *((f"context.{name}", INSIDE) for name in ("campaign", "device", "os", "library")),
    *((f"context.{name}", TEXT) for name in ("channel", "page.path", "page.url", "page.referrer", "campaign.name")),
    *((f"context.{name}", TEXT) for name in ("device.type", "os.name", "library.name")),
    *((f"properties.{name}", TEXT) for name in ("path", "url", "referrer")),
)
MESSAGE, TYPE, EVENT, NAME, ANONYMOUS, USER, PREVIOUS, TIME, ORIGINAL_TIME, RECEIVED, CHANNEL = range(11)
PROPERTIES, TRAITS, CONTEXT_CHANNEL, PATH, URL, REFERRER, CAMPAIGN, DEVICE, SYSTEM, LIBRARY = 11, 12, *range(19, 27)
OWN_PATH, OWN_URL, OWN_REFERRER = range(27, 30)
# Channel, type and name (and what step rules make of them) are made of these: a record's kind is all of them together.
KIND = (TYPE, EVENT, NAME, CHANNEL, CONTEXT_CHANNEL, DEVICE, SYSTEM, LIBRARY)
LONGEST, ABSENT = 120, Word(255)
UNKNOWN = -1

# A job: addresses, bounds and counts, and from COLUMNS on the addresses of columns.
(KEYS, FOUND, STACK, GUESSES, KINDS, LINES, TIMES, RECEIPTS, HASHES, CODES, RESTS) = range(0, 88, 8)
(LATEST, AHEAD, SHIFT, ROW, REST, LINE, COLUMNS) = range(88, 144, 8)
IDS, PERSONS, DEVICES, USERS, PAGES, REFERRERS, CAMPAIGNS, TEXTS = range(COLUMNS, COLUMNS + 64, 8)
WIDTH = 8  # columns
# Kinds seen: words of the newest; hash table of codes; where each kind's words begin; all their words; their count.
NEWEST, TABLE, BEGINS, WORDS, COUNT = range(0, 40, 8)
SLOTS, MOST_KINDS, MOST_WORDS, WORDS_OF_ONE = 1 << 13, 4_000, 1 << 16, 128

NEWLINE = 10
WORD_PAGE, WORD_SCREEN = (Word(int.from_bytes(text, "little")) for text in (b"page", b"screen"))
WORD_NAN = Word(int.from_bytes(b"NaN", "little"))


@compiled
def begin_of(found: int, field: int) -> int:
    """Return the place where a field's text begins."""
    return load(found + FIELD * field)


@compiled
def end_of(found: int, field: int) -> int:
    """Return the place behind a field's text; 0 or 1 if it has none."""
    return load(found + FIELD * field + 8)


@compiled
def has(found: int, field: int) -> bool:
    """Tell whether a field has a text, if an empty one."""
    return end_of(found, field) > 1


@compiled
def is_odd_id(found: int, field: int) -> bool:
    """Tell whether a text may be no id: nothing, NaN, or something in brackets."""
    begin, length = begin_of(found, field), end_of(found, field) - begin_of(found, field)
    first = load_byte(begin)
    return length == 0 or first in (40, 91, 123) or (length == 3 and load_word(begin) & mask(3) == WORD_NAN)


@compiled
def is_view(found: int) -> bool:
    """Tell whether the record is a page's or a screen's."""
    begin, length = begin_of(found, TYPE), end_of(found, TYPE) - begin_of(found, TYPE)
    if length < 4:
        return False  # there may be no text at all
    word = load_word(begin)
    return (length == 4 and (word & mask(4)) == WORD_PAGE) or (length == 6 and (word & mask(6)) == WORD_SCREEN)


@compiled
def describe_kind(found: int, words: int) -> int:
    """Write the words that tell the record's kind from others; return how many, or UNKNOWN if one is too long."""
    lengths, count = Word(0), 1
    for place in range(len(KIND)):
        field = KIND[place]
        length = Word(end_of(found, field) - begin_of(found, field)) if has(found, field) else ABSENT
        lengths |= length << Word(8 * place)
        if length == ABSENT:
            continue
        if length > Word(LONGEST):
            return UNKNOWN
        begin, end = begin_of(found, field), end_of(found, field)
        for at in range(begin, end, 8):
            store_word(words + 8 * count, load_word(at) & mask(end - at))
            count += 1
    store_word(words, lengths)
    return count


@compiled
def find_kind(found: int, kinds: int) -> int:
    """Return the code of the record's kind, a new one if it is new, or UNKNOWN if there are too many."""
    words, table, begins = load(kinds + NEWEST), load(kinds + TABLE), load(kinds + BEGINS)
    count = describe_kind(found, words)
    if count < 0:
        return UNKNOWN
    mixed = Word(0)
    for at in range(0, 8 * count, 8):
        mixed = (mixed ^ load_word(words + at)) * B
        mixed ^= mixed >> Word(29)
    slot = to_number(mixed >> Word(51))
    while True:
        code = load(table + 8 * slot)
        if code < 0:
            return add_kind(count, slot, kinds)
        begin = load(begins + 8 * code)
        if load(begins + 8 * code + 8) - begin == count:
            known, at = load(kinds + WORDS) + 8 * begin, 0
            while at < 8 * count and load_word(known + at) == load_word(words + at):
                at += 8
            if at == 8 * count:
                return code
        slot = (slot + 1) % SLOTS


@compiled
def add_kind(count: int, slot: int, kinds: int) -> int:
    """Give the newest kind a code, and return it; UNKNOWN if there is no room."""
    code, begins = load(kinds + COUNT), load(kinds + BEGINS)
    begin = load(begins + 8 * code)
    if code == MOST_KINDS or begin + count > MOST_WORDS:
        return UNKNOWN
    for at in range(0, 8 * count, 8):
        store_word(load(kinds + WORDS) + 8 * begin + at, load_word(load(kinds + NEWEST) + at))
    store(begins + 8 * code + 8, begin + count)
    store(load(kinds + TABLE) + 8 * slot, code)
    store(kinds + COUNT, code + 1)
    return code


@compiled
def put_field(found: int, field: int, column: int, row: int) -> None:
    """Write a field's text to a row of a column, if it has one."""
    if has(found, field):
        put_text(begin_of(found, field), end_of(found, field), column, row)


@compiled
def put_times(found: int, job: int, row: int) -> bool:
    """Write the times of the record; False if they are not plain, or may be too far ahead."""
    field = TIME if has(found, TIME) else ORIGINAL_TIME
    time, receipt = read_time(begin_of(found, field), end_of(found, field)), UNKNOWN
    if time < 0 or time > load(job + LATEST):
        return False
    if has(found, RECEIVED):
        receipt = read_time(begin_of(found, RECEIVED), end_of(found, RECEIVED))
        if receipt < 0 or time > receipt + load(job + AHEAD):
            return False
    store(load(job + TIMES) + 8 * row, time)
    store(load(job + RECEIPTS) + 8 * row, receipt)
    return True


@compiled
def put_event(found: int, loose: int, job: int, row: int) -> bool:
    """Write a row of the record; False if that can't be done here, and then nothing has been used up."""
    device = ANONYMOUS if has(found, ANONYMOUS) else PREVIOUS
    person = USER if has(found, USER) else device
    if end_of(found, MESSAGE) - begin_of(found, MESSAGE) < 2 or not has(found, person):
        return False
    if is_odd_id(found, person) or (has(found, device) and is_odd_id(found, device)):
        return False
    if not put_times(found, job, row):
        return False
    code = find_kind(found, load(job + KINDS))
    if code < 0:
        return False
    store_half(load(job + CODES) + 4 * row, code)
    store_word(load(job + HASHES) + 8 * row, hash_text(begin_of(found, person), end_of(found, person)))
    put_field(found, MESSAGE, load(job + IDS), row)
    put_field(found, USER, load(job + USERS), row)
    put_field(found, device, load(job + DEVICES), row)
    put_same(load(job + (USERS if person == USER else DEVICES)), load(job + PERSONS), row)
    view = is_view(found)
    own = OWN_PATH if has(found, OWN_PATH) else URL if has(found, URL) else OWN_URL
    put_field(found, own if view and not has(found, PATH) else PATH, load(job + PAGES), row)
    put_field(found, OWN_REFERRER if view and not has(found, REFERRER) else REFERRER, load(job + REFERRERS), row)
    put_field(found, CAMPAIGN, load(job + CAMPAIGNS), row)
    kept_text = PROPERTIES if has(found, PROPERTIES) else TRAITS
    if loose and has(found, kept_text):
        put_tight(begin_of(found, kept_text), end_of(found, kept_text), load(job + TEXTS), row)
    else:
        put_field(found, kept_text, load(job + TEXTS), row)
    return True


@kept("void(int64, int64, int64)")
def scan_lines(pos: int, stop: int, job: int) -> None:
    """Read the lines between two places, the last of which ends with a newline, as the job says; go on in its counts."""
    found, row, rest, line = load(job + FOUND), load(job + ROW), load(job + REST), load(job + LINE)
    while pos < stop:
        for at in range(0, FIELD * len(FIELDS), 8):
            store(found + at, 0)
        begin = pos
        end, loose = scan_object(skip_space(pos), load(job + KEYS), found, load(job + STACK), load(job + GUESSES))
        if end >= 0:
            pos = skip_space(end)
        if end >= 0 and load_byte(pos) == NEWLINE and put_event(found, loose, job, row):
            store(load(job + LINES) + 8 * row, line)
            row += 1
        else:
            while load_byte(pos) != NEWLINE:
                pos += 1
            place = load(job + RESTS) + 24 * rest
            store(place, line)
            store(place + 8, begin + load(job + SHIFT))
            store(place + 16, pos + load(job + SHIFT))
            rest += 1
        pos += 1
        line += 1
    store(job + ROW, row)
    store(job + REST, rest)
    store(job + LINE, line)
