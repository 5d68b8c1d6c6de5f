"""Stable hashes of strings, columnar; the same on every machine, version and batch split.

`hash_strings` is the documented 64-bit hash that decides key groups and, mixed, makes ids:
the UTF-8 bytes are read as little-endian 64-bit words (the last one zero-padded);
h = seed ^ (length * A); for each word h = (h ^ word) * B, h ^= h >> 29; then the finisher of splitmix64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

U64 = npt.NDArray[np.uint64]
A = np.uint64(0x9E3779B97F4A7C15)
B = np.uint64(0xBF58476D1CE4E5B9)
C = np.uint64(0x94D049BB133111EB)
NULL_WORD = np.uint64(0xD6E8FEB86659FD93)
INLINE = 12


def hash_strings(column: pl.Series, seed: int = 0) -> U64:
    """Hash a String column to 64 bits; n -> n, same order; null has a hash of its own."""
    if column.len() == 0:
        return np.empty(0, dtype=np.uint64)
    parts = [_hash_chunk(chunk, np.uint64(seed)) for chunk in column.get_chunks() if chunk.len()]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def mix(*columns: U64, seed: int = 0) -> U64:
    """Mix 64-bit columns of equal length into one; the order of the columns counts."""
    state = np.full(len(columns[0]), np.uint64(seed) ^ A, dtype=np.uint64)
    for column in columns:
        state = _finish((state ^ column) * B + A)
    return state


def to_hex(high: U64, low: U64) -> pl.Series:
    """Write two 64-bit columns as one String column of 32 hex digits."""
    if len(high) == 0:
        return pl.Series([], dtype=pl.String)
    raw = np.stack([high, low], axis=1).astype(">u8").tobytes()
    digits = _HEX_PAIRS[np.frombuffer(raw, dtype=np.uint8)]
    fixed = np.ascontiguousarray(digits).view("S32").ravel()
    return pl.Series(fixed).cast(pl.String)


def key_groups(person_hash: U64, groups: int) -> npt.NDArray[np.uint8]:
    """Give each person hash its key group, 0 to groups - 1 (multiply-shift of the upper 32 bits)."""
    upper = person_hash >> np.uint64(32)
    return ((upper * np.uint64(groups)) >> np.uint64(32)).astype(np.uint8)


def _finish(state: U64) -> U64:
    state = (state ^ (state >> np.uint64(30))) * B
    state = (state ^ (state >> np.uint64(27))) * C
    out: U64 = state ^ (state >> np.uint64(31))
    return out


def _hash_chunk(chunk: pl.Series, seed: np.uint64) -> U64:
    words, lengths, buffers, valid = _read_views(chunk)
    state: U64 = seed ^ (lengths.astype(np.uint64) * A)
    short = lengths <= INLINE
    _absorb_inline(state, words, lengths, short)
    long_rows = np.flatnonzero(~short)
    if long_rows.size:
        _absorb_long(state, words, lengths, buffers, long_rows)
    state = _finish(state)
    return state if valid is None else np.where(valid, state, NULL_WORD ^ seed)


def _read_views(chunk: pl.Series) -> tuple[U64, npt.NDArray[np.uint32], list[bytes], npt.NDArray[np.bool_] | None]:
    # A string view is 16 bytes: length, then 12 bytes of text, or 4 bytes of it, buffer number and offset.
    array = chunk.to_arrow(compat_level=pl.CompatLevel.newest())
    bitmap, views, *rest = array.buffers()
    n = len(array)
    words = np.frombuffer(views, dtype=np.uint64, count=2 * (n + array.offset)).reshape(-1, 2)[array.offset :]
    lengths = (words[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    valid = None
    if bitmap is not None and chunk.null_count():
        valid = np.asarray(chunk.is_not_null())
        lengths = np.where(valid, lengths, 0).astype(np.uint32)
    return words, lengths, rest, valid


def _absorb(state: U64, word: U64) -> U64:
    state = (state ^ word) * B
    out: U64 = state ^ (state >> np.uint64(29))
    return out


def _absorb_inline(state: U64, words: U64, lengths: npt.NDArray[np.uint32], short: npt.NDArray[np.bool_]) -> None:
    # The twelve inline bytes follow the length; two 64-bit words are read across the boundary.
    first = (words[:, 0] >> np.uint64(32)) | (words[:, 1] << np.uint64(32))
    second = words[:, 1] >> np.uint64(32)
    one = short & (lengths > 0)
    np.copyto(state, _absorb(state, first), where=one)
    two = short & (lengths > 8)
    if two.any():
        np.copyto(state, _absorb(state, second), where=two)


def _absorb_long(
    state: U64, words: U64, lengths: npt.NDArray[np.uint32], buffers: list[bytes], rows: npt.NDArray[np.int64]
) -> None:
    where = words[rows, 1]
    number = (where & np.uint64(0xFFFFFFFF)).astype(np.int64)
    offset = (where >> np.uint64(32)).astype(np.int64)
    for index in np.unique(number):
        mine = number == index
        _absorb_buffer(state, buffers[int(index)], offset[mine], lengths, rows[mine])


def _absorb_buffer(
    state: U64, buffer: bytes, offset: npt.NDArray[np.int64], lengths: npt.NDArray[np.uint32], rows: npt.NDArray[np.int64]
) -> None:
    text = np.frombuffer(buffer, dtype=np.uint8)
    size = text.size
    # Every byte position seen as the start of a 64-bit word; the last seven need the padded tail.
    if size < 8:
        text = np.concatenate([text, np.zeros(8, dtype=np.uint8)])
    lanes = _words_at(text)
    length = lengths[rows].astype(np.int64)
    done = 0
    while rows.size:
        start = offset + done
        left = length - done
        # A word that would reach past the text is read eight bytes before its end and shifted into place.
        safe = np.minimum(start, lanes.size - 1)
        word = lanes[safe] >> ((start - safe).astype(np.uint64) * np.uint64(8))
        part = left < 8
        if part.any():
            keep = (np.uint64(1) << (np.clip(left, 0, 7).astype(np.uint64) * np.uint64(8))) - np.uint64(1)
            word = np.where(part, word & keep, word)
        state[rows] = _absorb(state[rows], word)
        done += 8
        more = length > done
        rows, offset, length = rows[more], offset[more], length[more]


def _words_at(text: npt.NDArray[np.uint8]) -> U64:
    return np.ndarray(shape=(text.size - 7,), dtype=np.uint64, buffer=text.data, strides=(1,))


_HEX_PAIRS = np.array([f"{value:02x}".encode() for value in range(256)], dtype="S2")
