"""How many sessions took which path."""

from __future__ import annotations

import polars as pl

from events.hashing import hash_strings, to_hex
from events.schema import PATHS

SEPARATOR = "\x1f"  # the unit separator, which no step name should hold; the hash is over the joined text


def count_paths(sessions: pl.DataFrame) -> pl.DataFrame:
    """Count `sessions` rows by (dt, steps).

    Input: rows of the sessions table. Output: rows of the paths table with `dt`; n -> m; sorted by (dt, path_hash).
    """
    if sessions.height == 0:
        return pl.DataFrame(schema={**PATHS, "dt": pl.Date})
    joined = sessions.select(
        "dt",
        pl.col("steps").list.join(SEPARATOR).alias("joined"),
        pl.col("steps").list.len().alias("length"),
        "events",
        "duration_s",
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
    )
    counted = joined.group_by("dt", "joined", "length").agg(
        pl.col("row").first(),
        pl.len().cast(pl.Int64).alias("sessions"),
        pl.col("events").sum(),
        (pl.col("duration_s") * 1e6).round().cast(pl.Int64).sum().alias("micros"),
    )
    return _finish(counted, sessions["steps"].gather(counted["row"]))


def merge_paths(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Sum rows of the paths table that share (dt, path_hash)."""
    return (
        pl.concat(parts)
        .group_by("dt", "path_hash")
        .agg(
            pl.col("steps").first(),
            pl.col("sessions").sum(),
            pl.col("events").sum(),
            (pl.col("total_seconds") * 1e6).round().cast(pl.Int64).sum() / 1e6,
        )
        .select(*PATHS, "dt")
        .sort("dt", "path_hash")
    )


def _finish(counted: pl.DataFrame, steps: pl.Series) -> pl.DataFrame:
    path_hash = to_hex(hash_strings(counted["joined"], seed=3), hash_strings(counted["joined"], seed=4))
    return counted.select(
        steps.alias("steps"),
        path_hash.alias("path_hash"),
        "sessions",
        "events",
        (pl.col("micros") / 1e6).alias("total_seconds"),
        "dt",
    ).sort("dt", "path_hash")
