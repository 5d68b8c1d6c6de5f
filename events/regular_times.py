"""Times of one shape, `2026-01-05T06:00:00.080Z`, mostly in order: each hour is read once, the rest column by column.

Ten times as fast as reading every text by itself.
"""

from __future__ import annotations

import re
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from events.hashing import I64, read_text

Bytes = npt.NDArray[np.uint8]

HOUR = 13  # 2026-01-05T06
MINUTE = 16  # 2026-01-05T06:00
HEAD = 19  # 2026-01-05T06:00:00
SHAPES = {
    HEAD + (digits and digits + 1) + len(zone): (digits, zone) for digits in (0, 3, 6) for zone in (b"Z", b"+00:00")
}
MOST_HOURS = 2_000
EPOCH = date(1970, 1, 1).toordinal()
_HOUR = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d)")
ZERO = np.uint8(ord("0"))


def parse_regular(text: pl.Series) -> I64 | None:
    """Read UTC times that all have one shape; None if they do not, or are in no order; n -> n microseconds."""
    if text.len() == 0 or text.null_count():
        return None
    joined, offsets = read_text(text)
    length = int(offsets[1] - offsets[0])
    if length not in SHAPES or (np.diff(offsets) != length).any():
        return None
    digits, zone = SHAPES[length]
    rows = joined[offsets[0] : offsets[-1]].reshape(-1, length)
    point = b"." if digits else b""
    if not (
        _holds(rows, HOUR, b":")
        and _holds(rows, MINUTE, b":")
        and _holds(rows, HEAD, point)
        and _holds(rows, length - len(zone), zone)
    ):
        return None
    begins = _find_hours(rows)
    if np.count_nonzero(begins) > MOST_HOURS:
        return None
    hours = [_read_hour(row.tobytes()) for row in rows[begins, :HOUR]]
    minutes, seconds = (_read_pair(rows, at + 1) for at in (HOUR, MINUTE))
    micros = _read_fraction(rows, digits)
    smallest = min(minutes.min(), seconds.min(), micros.min())
    if None in hours or smallest < 0 or max(minutes.max(), seconds.max()) > 59:
        return None
    whole: I64 = np.array(hours, dtype=np.int64)[np.cumsum(begins) - 1] + (minutes * 60 + seconds) * 1_000_000 + micros
    return whole


def _read_hour(text: bytes) -> int | None:
    found = _HOUR.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour = (int(part) for part in found.groups())
    try:
        days = date(year, month, day).toordinal() - EPOCH
    except ValueError:
        return None
    return (days * 24 + hour) * 3_600_000_000 if hour < 24 else None


def _holds(rows: Bytes, at: int, text: bytes) -> bool:
    return all(bool((rows[:, at + place] == byte).all()) for place, byte in enumerate(text))


def _find_hours(rows: Bytes) -> npt.NDArray[np.bool_]:
    """Mark each row whose first 13 bytes differ from those of the row before."""
    begins = np.zeros(len(rows), dtype=np.bool_)
    begins[0] = True
    for at in (0, HOUR - 8):
        word = np.ndarray(len(rows), dtype="<u8", buffer=rows, offset=at, strides=rows.strides[:1])
        begins[1:] |= word[1:] != word[:-1]
    return begins


def _read_pair(rows: Bytes, at: int) -> I64:
    """Read the two digits at a place of every row; negative where they are none."""
    pairs: I64 = _PAIRS[np.ndarray(len(rows), dtype="<u2", buffer=rows, offset=at, strides=rows.strides[:1])]
    return pairs


def _read_fraction(rows: Bytes, digits: int) -> I64:
    """Read three or six digits as microseconds; negative where they are none."""
    if digits == 0:
        return np.zeros(len(rows), dtype=np.int64)
    head, last = _read_pair(rows, HEAD + 1), (rows[:, HEAD + 3] - ZERO).astype(np.int64)
    millis = np.where(last > 9, _NEVER, head * 10 + last)
    if digits == 3:
        return millis * 1000
    first, rest = (rows[:, HEAD + 4] - ZERO).astype(np.int64), _read_pair(rows, HEAD + 5)
    return millis * 1000 + np.where(first > 9, _NEVER, first * 100 + rest)


def _make_pairs() -> I64:
    pairs = np.full(1 << 16, _NEVER, dtype=np.int64)
    for value in range(100):
        pairs[int.from_bytes(b"%02d" % value, "little")] = value
    return pairs


_NEVER = -(1 << 40)
_PAIRS = _make_pairs()
