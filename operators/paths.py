"""How many sessions took which path."""

from __future__ import annotations

import numpy as np
import polars as pl

from events.hashing import U64, hash_strings, mix, to_hex
from events.schema import PATHS
from operators.columns import read_codes, renumber


def count_paths(sessions: pl.DataFrame) -> pl.DataFrame:
    """Count `sessions` rows by (dt, steps).

    Input: rows of the sessions table. Output: rows of the paths table with `dt`; n -> m; sorted by (dt, path_hash).
    `path_hash`: the sum, in 128 bits by two seeds, of the mixed hashes of (step, place in the path).
    """
    if sessions.height == 0:
        return pl.DataFrame(schema={**PATHS, "dt": pl.Date})
    high, low = hash_paths(sessions["steps"])
    counted = (
        sessions.select(
            "dt",
            pl.Series("high", high),
            pl.Series("low", low),
            "events",
            (pl.col("duration_s") * 1e6).round().cast(pl.Int64).alias("micros"),
            pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
        )
        .group_by("dt", "high", "low")
        .agg(pl.len().cast(pl.Int64).alias("sessions"), pl.col("events", "micros").sum(), pl.col("row").first())
    )
    return counted.select(
        sessions["steps"].gather(counted["row"]).alias("steps"),
        to_hex(counted["high"].to_numpy(), counted["low"].to_numpy()).alias("path_hash"),
        "sessions",
        "events",
        # NumPy divides; Polars multiplies by the inverse, which is off in the last bit.
        pl.Series("total_seconds", counted["micros"].to_numpy() / 1e6),
        "dt",
    ).sort("dt", "path_hash")


def hash_paths(steps: pl.Series) -> tuple[U64, U64]:
    """Hash lists of steps to 128 bits, as two columns; n -> n; no list is null or empty."""
    lengths = steps.list.len().to_numpy().astype(np.int64)
    begin = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    flat = steps.explode()
    named = renumber(read_codes(flat), flat)
    place = (np.arange(flat.len()) - np.repeat(begin, lengths)).view(np.uint64)
    halves = [
        np.add.reduceat(mix(hash_strings(named.names, seed=seed)[named.numbers], place, seed=seed), begin)
        for seed in (3, 4)
    ]
    return halves[0], halves[1]
