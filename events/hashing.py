"""Stable hashes of strings, columnar; the same on every machine, version and batch split.

`hash_strings` is the documented 64-bit hash that decides key groups and, mixed, makes ids:
the UTF-8 bytes are read as little-endian 64-bit words (the last one zero-padded);
h = seed ^ (length * A); for each word h = (h ^ word) * B, h ^= h >> 29; then the finisher of splitmix64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from events.arrow import read_array

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
A = np.uint64(0x9E3779B97F4A7C15)
B = np.uint64(0xBF58476D1CE4E5B9)
C = np.uint64(0x94D049BB133111EB)
NULL_WORD = np.uint64(0xD6E8FEB86659FD93)


def hash_strings(column: pl.Series, seed: int = 0) -> U64:
    """Hash a String column to 64 bits; n -> n, same order; null has a hash of its own."""
    if column.len() == 0:
        return np.empty(0, dtype=np.uint64)
    text, offsets = read_text(column)
    lengths = np.diff(offsets)
    state = np.uint64(seed) ^ (lengths.astype(np.uint64) * A)
    _absorb_words(state, text, offsets[:-1], lengths)
    state = _finish(state)
    if column.null_count():
        return np.where(column.is_not_null().to_numpy(), state, NULL_WORD ^ np.uint64(seed))
    return state


def mix(*columns: U64, seed: int = 0) -> U64:
    """Mix 64-bit columns of equal length into one; the order of the columns counts."""
    state = np.full(len(columns[0]), np.uint64(seed) ^ A, dtype=np.uint64)
    for column in columns:
        state = _finish((state ^ column) * B + A)
    return state


def to_hex(high: U64, low: U64) -> pl.Series:
    """Write two 64-bit columns as one String column of 32 hex digits."""
    n = len(high)
    if n == 0:
        return pl.Series([], dtype=pl.String)
    pairs = np.empty((n, 2), dtype=">u8")
    pairs[:, 0], pairs[:, 1] = high, low
    text = _FOUR_DIGITS[pairs.view("<u2")]
    # A string view is its length, first four bytes, buffer and offset: made here, nothing is copied again.
    views = np.zeros((n, 4), dtype=np.uint32)
    views[:, 0], views[:, 1], views[:, 3] = 32, text[:, 0], np.arange(0, 32 * n, 32, dtype=np.uint32)
    buffers = [None, pa.py_buffer(views), pa.py_buffer(text)]
    return read_array(pa.Array.from_buffers(pa.string_view(), n, buffers))


def key_groups(person_hash: U64, groups: int) -> npt.NDArray[np.uint8]:
    """Give each person hash its key group, 0 to groups - 1 (multiply-shift of the upper 32 bits)."""
    upper = person_hash >> np.uint64(32)
    return ((upper * np.uint64(groups)) >> np.uint64(32)).astype(np.uint8)


def _finish(state: U64) -> U64:
    state = (state ^ (state >> np.uint64(30))) * B
    state = (state ^ (state >> np.uint64(27))) * C
    out: U64 = state ^ (state >> np.uint64(31))
    return out


def read_first_bytes(column: pl.Series) -> npt.NDArray[np.uint8]:
    """Return the first byte of each value; 0 where it is empty or null."""
    text, offsets = read_text(column)
    if text.size == 0:
        return np.zeros(column.len(), dtype=np.uint8)
    first = text[np.minimum(offsets[:-1], text.size - 1)]
    return np.where(offsets[1:] > offsets[:-1], first, np.uint8(0))


def read_text(column: pl.Series) -> tuple[npt.NDArray[np.uint8], I64]:
    """Lay the column's UTF-8 bytes end to end; offsets of row i are [i] and [i + 1]."""
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offset_buffer, text_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(text_buffer, dtype=np.uint8) if text_buffer is not None else np.empty(0, dtype=np.uint8)
    return text, offsets


def _absorb(state: U64, word: U64) -> U64:
    state = (state ^ word) * B
    out: U64 = state ^ (state >> np.uint64(29))
    return out


def _absorb_words(state: U64, text: npt.NDArray[np.uint8], starts: I64, lengths: I64) -> None:
    longest = int(lengths.max())
    if longest == 0:
        return
    if text.size < 8:
        text = np.concatenate([text, np.zeros(8, dtype=np.uint8)])
    # Every byte position as the start of a 64-bit word. One that would reach past the text is read from before
    # its end and shifted into place; what lies past a row's own end is masked away.
    words = np.ndarray(shape=(text.size - 7,), dtype="<u8", buffer=text.data, strides=(1,))
    last = words.size - 1
    rows: I64 | None = None if int(lengths.min()) == longest else np.flatnonzero(lengths > 0)
    for done in range(0, longest, 8):
        if rows is not None and done:
            rows = rows[lengths[rows] > done]
        at = (starts if rows is None else starts[rows]) + done
        left = (lengths if rows is None else lengths[rows]) - done
        safe = np.minimum(at, last)
        word = words[safe]
        if int(at[-1]) > last or int(at.max()) > last:
            word = word >> ((at - safe).astype(np.uint64) << np.uint64(3))
        if int(left.min()) < 8:
            keep = _KEEP[np.minimum(left, 8)]
            word = word & keep
        if rows is None:
            state[:] = _absorb(state, word)
        else:
            state[rows] = _absorb(state[rows], word)


_KEEP = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)
_PAIRS = np.frombuffer("".join(f"{value:02x}" for value in range(256)).encode(), dtype="<u2").astype(np.uint32)
# Of two bytes, read as a little-endian number, their four digits.
_FOUR_DIGITS = (_PAIRS[None, :] | (_PAIRS[:, None] << np.uint32(16))).ravel()
