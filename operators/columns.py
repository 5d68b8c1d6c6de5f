"""Small tools that several operators share: numbers out of columns, runs, lists from runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from events.arrow import read_array
from events.hashing import U64
from events.schema import CODED, UTC

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
BEGINNING = -(1 << 62)  # before every event time
FOREVER = 1 << 62  # after every event time


def read_us(column: pl.Series) -> I64:
    """Read a time column as microseconds."""
    return column.cast(pl.Int64).to_numpy()


def to_utc(micros: I64) -> pl.Series:
    """Make a UTC time column of microseconds."""
    return pl.Series(micros, dtype=pl.Int64).cast(UTC)


def to_index(rows: I64) -> pl.Series:
    """Make row numbers (none negative) an index for `frame[…]` and `column[…]`: faster than NumPy's or `gather`."""
    return pl.Series(rows.astype(np.uint32))


def pick(column: pl.Series, rows: I64) -> pl.Series:
    """Take rows of a column; n -> number of rows."""
    return column[to_index(rows)]


def match_keys(wanted: U64, known: U64) -> I64 | None:
    """Find each wanted key among the known ones: its row, -1 where there is none; None if a known key is there twice."""
    if known.size == 0:
        return np.full(wanted.size, -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    keys = known[order]
    if (keys[1:] == keys[:-1]).any():
        return None
    at = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[at] == wanted, order[at], -1)


def read_codes(column: pl.Series) -> I64:
    """Read a text or category column without nulls as numbers: equal text, equal number, in this process."""
    coded = column if isinstance(column.dtype, pl.Categorical) else column.cast(CODED)
    return coded.to_physical().to_numpy().astype(np.int64)


@dataclass(frozen=True)
class Dense:
    """Codes renumbered 0, 1, 2, …: `numbers` per row, `names` per number."""

    numbers: I64
    names: pl.Series


def renumber(codes: I64, column: pl.Series) -> Dense:
    """Renumber codes by first use of their size; `column` gives the names (String), row by row."""
    present = np.flatnonzero(np.bincount(codes))
    place = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    place[present] = np.arange(present.size)
    numbers = place[codes]
    example = np.zeros(present.size, dtype=np.int64)
    example[numbers] = np.arange(codes.size)
    return Dense(numbers, pick(column, example).cast(pl.String))


def mark_changes(values: npt.NDArray[np.generic]) -> Mask:
    """Mark each row that differs from the one before; the first row is marked."""
    marks = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=marks[1:])
    return marks


def find_begins(lengths: I64) -> I64:
    """Find where each of the runs of these lengths begins, one after another."""
    return np.cumsum(lengths) - lengths


def list_runs(values: pl.Series, counts: I64) -> pl.Series:
    """Cut a String column into lists of the given lengths; sum(counts) = len(values); m -> n."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    inner = values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    # From buffers: `pa.array` would import pandas where it is installed, which takes half a second.
    buffers = [None, pa.py_buffer(offsets)]
    return read_array(pa.Array.from_buffers(pa.large_list(inner.type), len(counts), buffers, children=[inner]))


def count_groups(keys: list[I64], sizes: list[int]) -> tuple[list[I64], I64, I64]:
    """Group rows by several dense numbers (0 to size - 1 each).

    Returns the numbers of each group, key by key; the rows of each group; and each row's group. Unordered input.
    """
    total = float(np.prod([float(size) for size in sizes]))
    if total >= 2.0**62:
        table, of_row, rows = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True, return_counts=True)
        return list(table.T), rows.astype(np.int64), of_row.ravel().astype(np.int64)
    packed = keys[0]
    for key, size in zip(keys[1:], sizes[1:], strict=True):
        packed = packed * size + key
    if total <= max(1 << 16, 16 * packed.size):
        counts = np.bincount(packed, minlength=int(total))
        groups = np.flatnonzero(counts)
        place = np.zeros(int(total), dtype=np.int64)
        place[groups] = np.arange(groups.size)
        of_row, rows = place[packed], counts[groups]
    else:
        groups, of_row, rows = np.unique(packed, return_inverse=True, return_counts=True)
    numbers: list[I64] = []
    for size in reversed(sizes[1:]):
        numbers.append(groups % size)
        groups = groups // size
    return [groups, *reversed(numbers)], rows.astype(np.int64), of_row.astype(np.int64)
