"""Small tools that several operators share: numbers out of columns, runs, lists from runs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from events.schema import UTC

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
BEGINNING = -(1 << 62)  # before every event time
FOREVER = 1 << 62  # after every event time


def read_us(column: pl.Series) -> I64:
    """Read a time column as microseconds."""
    return column.to_physical().to_numpy()


def to_utc(micros: I64) -> pl.Series:
    """Make a UTC time column of microseconds."""
    return pl.Series(micros, dtype=pl.Int64).cast(UTC)


def to_mask(column: pl.Series) -> Mask:
    """Read a Boolean column without nulls."""
    return column.to_numpy()


def mark_changes(values: npt.NDArray[np.generic]) -> Mask:
    """Mark each row that differs from the one before; the first row is marked."""
    marks = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=marks[1:])
    return marks


def list_runs(values: pl.Series, counts: I64) -> pl.Series:
    """Cut a String column into lists of the given lengths; sum(counts) = len(values); m -> n."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    array = pa.LargeListArray.from_arrays(pa.array(offsets), values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest()))
    out = pl.from_arrow(array)
    return out if isinstance(out, pl.Series) else out.to_series()


def first_known(column: pl.Series, starts: I64, ends: I64) -> pl.Series:
    """Return the first value that is not null in each run [start, end], else null; n -> number of runs."""
    if column.null_count() == 0:
        return column.gather(starts)
    if column.null_count() == column.len():
        return pl.Series(column.name, [None], dtype=column.dtype).new_from_index(0, len(starts))
    rows = np.arange(column.len(), dtype=np.int64)
    known = np.where(to_mask(column.is_not_null()), rows, column.len())
    following = np.minimum.accumulate(known[::-1])[::-1][starts]
    inside = following <= ends
    found = column.gather(np.where(inside, following, starts))
    return found if inside.all() else found.set(pl.Series(~inside), None)
