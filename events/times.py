"""Timestamps as people write them to microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import polars as pl

from events.regular_times import parse_regular

DAY_US = 86_400_000_000
EARLIEST_US = 0
LATEST_US = 253_370_764_800_000_000  # 9999-01-01: later years are clock faults, and no tool prints them
# Offsets are written `+05:30`, `+0530` or `+05`.
ISO_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M%:z",
    "%Y-%m-%dT%H:%M%#z",
)
NAIVE_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
EPOCH = r"^([+-]?)(\d{1,18})(?:\.(\d{1,6})\d*)?$"
EXPONENT = r"^[+-]?\d(?:\.\d+)?[eE]\+?\d{1,2}$"


def to_date(micros: pl.Series) -> pl.Series:
    """Make the UTC date column of microseconds; n -> n."""
    return (micros // DAY_US).cast(pl.Int32).cast(pl.Date)


def parse_times(text: pl.Series, unit: str = "auto") -> pl.Series:
    """Read times; n -> n, Int64 microseconds, null where there is none or it can't be read.

    ISO 8601 with any offset (none means UTC; a space may stand for the `T`), a date alone, or epoch
    numbers in `unit`; `auto` tells s, ms and us apart by size (below 1e11 s, below 1e14 ms), `iso` takes no numbers.
    """
    regular = parse_regular(text)
    if regular is not None:
        return pl.Series(text.name, regular)
    first = _parse_iso(text)
    missing = first.is_null() & text.is_not_null()
    if not missing.any():
        return first
    rows = missing.arg_true()
    rest = _parse_slowly(text.gather(rows), unit)
    return first.scatter(rows, rest)


def _parse_iso(text: pl.Series) -> pl.Series:
    return text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False, exact=True).cast(pl.Int64)


def _parse_slowly(text: pl.Series, unit: str) -> pl.Series:
    frame = pl.DataFrame({"text": text.str.strip_chars()})
    if unit == "iso":
        epoch = pl.Series([None], dtype=pl.Int64).new_from_index(0, text.len())
    else:
        epoch = _parse_epoch(frame, unit)
    if not epoch.is_null().any():
        return epoch
    frame = frame.with_columns(_tidy(pl.col("text")).alias("iso"))
    # ISO 8601 before 2019 writes the midnight that ends a day as 24:00.
    ends_day = pl.col("iso").str.contains(r"T24:00(?::00(?:\.0+)?)?(?:[+-]|$)")
    iso = pl.when(ends_day).then(pl.col("iso").str.replace("T24:", "T00:", literal=True)).otherwise(pl.col("iso"))
    frame = frame.with_columns(iso.alias("iso"), ends_day.alias("ends_day"))
    day = pl.col("iso").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64) * pl.lit(DAY_US, dtype=pl.Int64)
    zoned = [
        pl.col("iso").str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False).cast(pl.Int64)
        for form in ISO_FORMATS
    ]
    naive = [pl.col("iso").str.to_datetime(form, time_unit="us", strict=False).cast(pl.Int64) for form in NAIVE_FORMATS]
    added = pl.when(pl.col("ends_day")).then(pl.lit(DAY_US, dtype=pl.Int64)).otherwise(pl.lit(0, dtype=pl.Int64))
    return frame.select(pl.coalesce(epoch, pl.coalesce(*zoned, *naive, day) + added)).to_series()


def _tidy(text: pl.Expr) -> pl.Expr:
    """Bring the ways to write an ISO time to one: `T`, a full stop, dashes and colons, a numeric offset."""
    iso = text.str.to_uppercase().str.replace(r"\[[^\[\]]*\]$", "")
    iso = iso.str.replace(r"^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})", "${1}-${2}-${3}T${4}:${5}:${6}")
    iso = iso.str.replace(r"^(\d{4}-\d{2}-\d{2}) +", "${1}T").str.replace(r" *(?:UTC|GMT|Z)$", "+00:00")
    return iso.str.replace(r"(:\d{2}(?:[.,]\d+)?) +([+-]\d)", "${1}${2}").str.replace(r"(\d),(\d)", "${1}.${2}")


def _parse_epoch(frame: pl.DataFrame, unit: str) -> pl.Series:
    # 1.7675712E+09, as spreadsheets write it, is a number too.
    exact = pl.col("text").cast(pl.Float64, strict=False).round(0).cast(pl.Int64, strict=False).cast(pl.String)
    digits = pl.when(pl.col("text").str.contains(EXPONENT)).then(exact).otherwise(pl.col("text"))
    number = frame.select(digits.str.extract_groups(EPOCH)).to_series().struct.unnest()
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
    part = (pl.col("fraction") * pl.col("scale")) // pl.lit(1_000_000, dtype=pl.Int64)
    size = pl.col("whole") * pl.col("scale") + part
    return work.select(pl.when(fits).then(pl.when(pl.col("sign")).then(-size).otherwise(size))).to_series()
