"""CSV text to records and cells, fast where the text is regular and the same where it is not.

A record ends at a newline outside quotes; one carriage return before it belongs to the line end. A quote opens
only at the start of a cell; inside, two quotes stand for one; what follows the closing quote up to the comma is
taken as it is. A record ends with its first line if it is longer than the limit, or if a cell that goes over
several lines has no proper end: an open quote costs one record, not the rest of the file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
QUOTE, COMMA, NEWLINE, RETURN = 0x22, 0x2C, 0x0A, 0x0D
UNDECIDED, BROKEN = -1, -2
BLANK = b" \t\r\n\v\f"


@dataclass(frozen=True)
class CsvRows:
    """Rows of a piece of CSV: `frame` has a String column per name, `lines` each row's record number in the piece.

    `lines` is None where that is 0, 1, 2, …; `bad` holds (record number, reason, detail) of what is no row.
    Blank records are in neither.
    """

    frame: pl.DataFrame
    lines: list[int] | None
    bad: list[tuple[int, str, str]]


def find_record_ends(data: bytes, limit: int, final: bool) -> I64:
    """Return the offset after each record; what is undecided is left out unless the text is at its end (`final`)."""
    text = np.frombuffer(data, dtype=np.uint8)
    newlines = np.flatnonzero(text == NEWLINE)
    if b'"' not in data:
        ends = newlines + 1
        return np.append(ends, len(data)) if final and _reaches(ends) < len(data) else ends
    quotes = np.flatnonzero(text == QUOTE)
    if not _is_regular(text, quotes):
        return _scan(data, limit, final)
    ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1
    rest = len(data) - _reaches(ends)
    longest = int(np.diff(ends, prepend=0).max(initial=0))
    if longest > limit + 1 or rest > limit or (final and quotes.size % 2):
        return _scan(data, limit, final)
    return np.append(ends, len(data)) if final and rest else ends


def split_records(payload: bytes, limit: int) -> list[bytes]:
    """Cut whole CSV records apart; each without its line end."""
    at, records = 0, []
    for end in find_record_ends(payload, limit, final=True).tolist():
        records.append(_trim(payload[at:end]))
        at = end
    return records


def split_cells(record: bytes) -> list[bytes] | None:
    """Cut one record, without its line end, into cells; None if a quote does not end."""
    cells, at, size = [], 0, len(record)
    while True:
        quoted = b""
        if record[at : at + 1] == b'"':
            close = _find_close(record, at + 1, size)
            if close < 0:
                return None
            quoted = record[at + 1 : close].replace(b'""', b'"')
            at = close + 1
        comma = record.find(b",", at)
        cells.append(quoted + record[at : comma if comma >= 0 else size])
        if comma < 0:
            return cells
        at = comma + 1


def read_rows(payload: bytes, header: tuple[str, ...], limit: int) -> CsvRows:
    """Read whole CSV records, without the header, into rows; a record that is no row says why."""
    ends = find_record_ends(payload, limit, final=True)
    if not ends.size:
        return CsvRows(_make_frame([], header), None, [])
    regular = _find_regular(payload, ends, len(header), limit)
    fast = _read_fast(payload, ends, regular, header)
    if fast is None:
        fast, regular = _make_frame([], header), np.zeros(ends.size, dtype=np.bool_)
    if regular.all():
        return CsvRows(fast, None, [])
    rows, lines, bad = _read_slowly(payload, ends, np.flatnonzero(~regular).tolist(), len(header), limit)
    numbers = np.concatenate([np.flatnonzero(regular), np.array(lines, dtype=np.int64)])
    order = np.argsort(numbers, kind="stable")
    frame = pl.concat([fast, _make_frame(rows, header)])[order]
    return CsvRows(frame, numbers[order].tolist(), bad)


def name_columns(cells: list[str]) -> tuple[str, ...]:
    """Give every column of a header a name of its own: `column_3` for an empty one, `a_2` for a second `a`."""
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        wanted = name = cell.strip() or f"column_{number}"
        copy = 2
        while name in names:
            name, copy = f"{wanted}_{copy}", copy + 1
        names.append(name)
    return tuple(names)


def _reaches(ends: I64) -> int:
    return int(ends[-1]) if ends.size else 0


def _trim(record: bytes) -> bytes:
    return record.removesuffix(b"\n").removesuffix(b"\r")


def _is_regular(text: U8, quotes: I64) -> bool:
    """Tell whether every quote opens at the start of a cell, closes at its end, or is one of two in a row."""
    before = text[quotes[0::2] - 1]
    opens = (before == COMMA) | (before == NEWLINE) | (before == QUOTE) | (quotes[0::2] == 0)
    closing = quotes[1::2]
    after = text[np.minimum(closing + 1, text.size - 1)]
    closes = (after == COMMA) | (after == NEWLINE) | (after == RETURN) | (after == QUOTE) | (closing + 1 == text.size)
    return bool(opens.all() and closes.all())


def _scan(data: bytes, limit: int, final: bool) -> I64:
    ends, at, size = [], 0, len(data)
    while at < size:
        newline = data.find(b"\n", at)
        if newline < 0 and not final:
            break
        end = line_end = newline + 1 if newline >= 0 else size
        if data.find(b'"', at, line_end) >= 0:
            end = _find_end(data, at, min(size, at + limit + 1), final)
            if end == UNDECIDED and not final and size - at <= limit:
                break
            too_long = end - at > limit and not data.endswith(b"\n", at, end)
            end = end if end > at and not too_long else line_end
        ends.append(end)
        at = end
    return np.array(ends, dtype=np.int64)


def _find_end(data: bytes, at: int, stop: int, final: bool) -> int:
    """Return the offset after the record that begins at `at`, UNDECIDED if it does not end before `stop`, or BROKEN."""
    while True:
        if data[at : at + 1] == b'"':
            close = _find_close(data, at + 1, stop)
            if close < 0:
                return UNDECIDED
            if data.find(b"\n", at, close) >= 0 and data[close + 1 : close + 2] not in (b",", b"\n", b"\r", b""):
                return BROKEN
            at = close + 1
        newline = data.find(b"\n", at, stop)
        comma = data.find(b",", at, newline if newline >= 0 else stop)
        if comma < 0:
            at_end = final and stop == len(data)
            return newline + 1 if newline >= 0 else (stop if at_end else UNDECIDED)
        at = comma + 1


def _find_close(data: bytes, at: int, stop: int) -> int:
    while True:
        close = data.find(b'"', at, stop)
        if close < 0 or data[close + 1 : close + 2] != b'"':
            return close
        at = close + 2


def _find_regular(payload: bytes, ends: I64, width: int, limit: int) -> npt.NDArray[np.bool_]:
    """Mark the records that any CSV reader reads alike: as many cells as the header, plain quotes, UTF-8."""
    if width < 2:
        return np.zeros(ends.size, dtype=np.bool_)
    text = np.frombuffer(payload, dtype=np.uint8)
    commas = np.flatnonzero(text == COMMA)
    odd = [np.flatnonzero(text == 0)] if b"\0" in payload else []
    if b'"' in payload:
        quotes = np.flatnonzero(text == QUOTE)
        if _is_regular(text, quotes) and quotes.size % 2 == 0:
            commas = commas[np.searchsorted(quotes, commas) % 2 == 0]
        else:
            odd.append(quotes)
    if b"\r" in payload:
        returns = np.flatnonzero(text == RETURN)
        odd.append(returns[text[np.minimum(returns + 1, text.size - 1)] != NEWLINE])
    if not payload.isascii() and not _is_utf8(payload):
        odd.append(np.flatnonzero(text > 127))
    cells = np.diff(np.searchsorted(commas, ends), prepend=0) + 1
    regular: npt.NDArray[np.bool_] = (cells == width) & (np.diff(ends, prepend=0) <= limit)
    for places in odd:
        regular[np.searchsorted(ends, places, side="right")] = False
    return regular


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_fast(
    payload: bytes, ends: I64, regular: npt.NDArray[np.bool_], header: tuple[str, ...]
) -> pl.DataFrame | None:
    wanted = int(regular.sum())
    if wanted == 0:
        return _make_frame([], header)
    if wanted < ends.size:
        text = np.frombuffer(payload, dtype=np.uint8)
        payload = text[np.repeat(regular, np.diff(ends, prepend=0))].tobytes()
    try:
        frame = pl.read_csv(
            io.BytesIO(payload),
            has_header=False,
            schema=dict.fromkeys(header, pl.String),
        ).with_columns(pl.all().fill_null(""))
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == wanted else None


def _read_slowly(
    payload: bytes, ends: I64, numbers: list[int], width: int, limit: int
) -> tuple[list[list[str]], list[int], list[tuple[int, str, str]]]:
    rows: list[list[str]] = []
    lines: list[int] = []
    bad: list[tuple[int, str, str]] = []
    for number in numbers:
        record = payload[int(ends[number - 1]) if number else 0 : int(ends[number])].removesuffix(b"\n")
        if len(record) > limit:
            bad.append((number, "too_large", f"longer than {limit} bytes"))
        elif record.strip(BLANK):
            reason, detail, row = _parse_record(record.removesuffix(b"\r"), width)
            if reason:
                bad.append((number, reason, detail))
            else:
                rows.append(row)
                lines.append(number)
    return rows, lines, bad


def _parse_record(record: bytes, width: int) -> tuple[str, str, list[str]]:
    cells = split_cells(record)
    if cells is None:
        return "bad_row", "a quote does not end", []
    if len(cells) != width:
        return "bad_row", f"{len(cells)} columns, the header has {width}", []
    try:
        return "", "", [cell.decode() for cell in cells]
    except UnicodeDecodeError:
        return "bad_utf8", f"byte {_find_bad_byte(record)}", []


def _find_bad_byte(record: bytes) -> int:
    try:
        record.decode()
    except UnicodeDecodeError as problem:
        return problem.start
    return 0


def _make_frame(rows: list[list[str]], header: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")
