"""Transitions between consecutive steps, counted with a mergeable histogram of the time between."""

from __future__ import annotations

import numpy as np
import polars as pl

from events.schema import END, START, UTC
from operators.columns import I64

BUCKETS_PER_DOUBLING = 8
ZERO_BUCKET = -1000  # no time passed
HOUR_US = 3_600_000_000
KEYS = ("hour", "channel", "from_step", "to_step")
COUNTED = {"hour": UTC, "channel": pl.String, "from_step": pl.String, "to_step": pl.String, "bucket": pl.Int32, "n": pl.Int64, "micros": pl.Int64}


def count_transitions(events: pl.DataFrame, closed: pl.DataFrame) -> pl.DataFrame:
    """Count the steps from one event to the next, and into and out of sessions.

    Input: events of `sessionize` (step, channel, event_time, previous_step null at a start, previous_us) and its
    closed sessions. Output: COUNTED, one row per (hour, channel, from, to, bucket), bucket null for `(start)` and
    `(end)`; n + closed -> m; unordered. Bucket: floor(8 log2 seconds), -1000 for 0 s.
    """
    parts = []
    if events.height:
        elapsed = events["event_time"].to_physical().to_numpy() - events["previous_us"].to_numpy()
        inner = events.select(
            _hour(pl.col("event_time").to_physical()).alias("hour_us"),
            "channel",
            pl.col("previous_step").fill_null(START).alias("from_step"),
            pl.col("step").alias("to_step"),
            pl.when(pl.col("previous_step").is_not_null()).then(pl.Series(find_buckets(elapsed))).alias("bucket"),
            pl.Series("micros", elapsed),
        )
        parts.append(inner)
    if closed.height:
        parts.append(
            closed.select(
                _hour(pl.col("last_us")).alias("hour_us"),
                pl.col("exit_channel").alias("channel"),
                pl.col("exit_step").alias("from_step"),
                pl.lit(END).alias("to_step"),
                pl.lit(None, dtype=pl.Int32).alias("bucket"),
                pl.lit(0, dtype=pl.Int64).alias("micros"),
            )
        )
    if not parts:
        return pl.DataFrame(schema=COUNTED)
    counted = pl.concat(parts).group_by("hour_us", "channel", "from_step", "to_step", "bucket").agg(
        pl.len().cast(pl.Int64).alias("n"), pl.col("micros").sum()
    )
    return counted.select(pl.col("hour_us").cast(UTC).alias("hour"), "channel", "from_step", "to_step", "bucket", "n", "micros")


def _hour(micros: pl.Expr) -> pl.Expr:
    hour = pl.lit(HOUR_US, dtype=pl.Int64)
    return micros // hour * hour


def find_buckets(micros: I64) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Give each duration its histogram bucket; n -> n."""
    buckets = np.full(len(micros), ZERO_BUCKET, dtype=np.int32)
    some = micros > 0
    exact = np.floor(BUCKETS_PER_DOUBLING * np.log2(micros[some] / 1e6)).astype(np.int32)
    buckets[some] = exact
    return buckets


def merge_transitions(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Sum counted parts into rows of the `transitions` table with `dt`, sorted by its keys."""
    counted = pl.concat(parts).group_by(*KEYS, "bucket").agg(pl.col("n").sum(), pl.col("micros").sum())
    bars = pl.struct("bucket", "n").sort_by("bucket").filter(pl.col("bucket").sort_by("bucket").is_not_null())
    return (
        counted.group_by(KEYS)
        .agg(
            pl.col("n").sum().alias("transitions"),
            (pl.col("micros").sum() / 1e6).alias("total_seconds"),
            bars.alias("seconds_histogram"),
        )
        .sort(KEYS)
        .with_columns(pl.col("hour").dt.date().alias("dt"))
    )
