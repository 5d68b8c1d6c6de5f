"""How many sessions took which path."""

from __future__ import annotations

import numpy as np
import polars as pl

from events.hashing import U64, hash_strings, mix, to_hex
from events.schema import PATHS
from operators.columns import I64, Dense, find_begins, read_codes, renumber


def count_paths(sessions: pl.DataFrame) -> pl.DataFrame:
    """Count `sessions` rows by (dt, steps).

    Input: rows of the sessions table and `path_high`, `path_low`. Output: rows of the paths table with `dt`; n -> m;
    sorted by (dt, path_hash).
    """
    if sessions.height == 0:
        return pl.DataFrame(schema={**PATHS, "dt": pl.Date})
    counted = (
        sessions.select(
            "dt",
            "path_high",
            "path_low",
            "events",
            (pl.col("duration_s") * 1e6).round().cast(pl.Int64).alias("micros"),
            pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
        )
        .group_by("dt", "path_high", "path_low")
        .agg(pl.len().cast(pl.Int64).alias("sessions"), pl.col("events", "micros").sum(), pl.col("row").first())
    )
    return counted.select(
        sessions["steps"][counted["row"]].alias("steps"),
        to_hex(counted["path_high"].to_numpy(), counted["path_low"].to_numpy()).alias("path_hash"),
        "sessions",
        "events",
        # NumPy divides; Polars multiplies by the inverse, which is off in the last bit.
        pl.Series("total_seconds", counted["micros"].to_numpy() / 1e6),
        "dt",
    ).sort("dt", "path_hash")


def hash_paths(steps: pl.Series, lengths: I64) -> tuple[U64, U64]:
    """Hash runs of steps to 128 bits, as two columns: the sum of the mixed hashes of (step, place in the path).

    `steps`: a category column, the paths one after another, none of them empty; m -> number of paths.
    """
    if steps.len() == 0:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64)
    begin = find_begins(lengths)
    named = renumber(read_codes(steps), steps)
    place = np.arange(steps.len()) - np.repeat(begin, lengths)
    high, low = (_hash_places(named, place, seed) for seed in (3, 4))
    return np.add.reduceat(high, begin), np.add.reduceat(low, begin)


def _hash_places(named: Dense, place: I64, seed: int) -> U64:
    """Mix the hash of each step's name with its place; by a table of all names and places where that is smaller."""
    names, places = hash_strings(named.names, seed=seed), int(place.max()) + 1
    if names.size * places > place.size:
        return mix(names[named.numbers], place.view(np.uint64), seed=seed)
    table = mix(np.repeat(names, places), np.tile(np.arange(places, dtype=np.uint64), names.size), seed=seed)
    found: U64 = table[named.numbers * places + place]
    return found
