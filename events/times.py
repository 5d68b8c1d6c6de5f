"""Timestamps as people write them to microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import polars as pl

DAY_US = 86_400_000_000
EARLIEST_US = 0
LATEST_US = 253_370_764_800_000_000  # 9999-01-01: later years are clock faults, and no tool prints them
ISO_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M%:z",
)
NAIVE_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}


def parse_times(text: pl.Series, unit: str = "auto") -> pl.Series:
    """Read times; n -> n, Int64 microseconds, null where there is none or it can't be read.

    ISO 8601 with any offset (none means UTC; a space may stand for the `T`), a date alone, or epoch
    numbers in `unit`; `auto` tells s, ms and us apart by size (below 1e11 s, below 1e14 ms).
    """
    first = text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False, exact=True).cast(pl.Int64)
    missing = first.is_null() & text.is_not_null()
    if not missing.any():
        return first
    rows = missing.arg_true()
    rest = _parse_slowly(text.gather(rows), unit)
    return first.scatter(rows, rest)


def _parse_slowly(text: pl.Series, unit: str) -> pl.Series:
    tidy = pl.col("text").str.strip_chars()
    frame = pl.DataFrame({"text": text}).with_columns(tidy.alias("text"))
    epoch = _parse_epoch(frame, unit)
    if not epoch.is_null().any():
        return epoch
    iso = tidy.str.to_uppercase().str.replace(r"^(\d{4}-\d{2}-\d{2}) +", "${1}T").str.replace(r" *(?:UTC|GMT|Z)$", "+00:00")
    iso = iso.str.replace(r"(:\d{2}(?:[.,]\d+)?) +([+-]\d)", "${1}${2}").str.replace(r"(\d),(\d)", "${1}.${2}")
    frame = frame.with_columns(iso.alias("iso"))
    day = pl.col("iso").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64) * pl.lit(DAY_US, dtype=pl.Int64)
    zoned = [
        pl.col("iso").str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False).cast(pl.Int64)
        for form in ISO_FORMATS
    ]
    naive = [pl.col("iso").str.to_datetime(form, time_unit="us", strict=False).cast(pl.Int64) for form in NAIVE_FORMATS]
    return frame.select(pl.coalesce(epoch, *zoned, *naive, day)).to_series()


def _parse_epoch(frame: pl.DataFrame, unit: str) -> pl.Series:
    number = frame["text"].str.extract_groups(r"^([+-]?)(\d{1,18})(?:\.(\d{1,6})\d*)?$").struct.unnest()
    whole = number.to_series(1).cast(pl.Int64, strict=False)
    fraction = number.to_series(2).str.pad_end(6, "0").cast(pl.Int64, strict=False).fill_null(0)
    work = pl.DataFrame({"sign": number.to_series(0) == "-", "whole": whole, "fraction": fraction})
    one = pl.lit(1, dtype=pl.Int64)
    if unit in UNIT_US:
        scale = pl.lit(UNIT_US[unit], dtype=pl.Int64)
    else:
        second, milli = pl.lit(1_000_000, dtype=pl.Int64), pl.lit(1_000, dtype=pl.Int64)
        scale = pl.when(pl.col("whole") < 100_000_000_000).then(second)
        scale = scale.when(pl.col("whole") < 100_000_000_000_000).then(milli).otherwise(one)
    work = work.with_columns(scale.alias("scale"))
    # A number so large that its microseconds pass 64 bits is no time.
    fits = pl.col("whole").cast(pl.Float64) * pl.col("scale").cast(pl.Float64) < 9e18
    size = pl.col("whole") * pl.col("scale") + (pl.col("fraction") * pl.col("scale")) // pl.lit(1_000_000, dtype=pl.Int64)
    return work.select(pl.when(fits).then(pl.when(pl.col("sign")).then(-size).otherwise(size))).to_series()
