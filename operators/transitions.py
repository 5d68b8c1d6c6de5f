"""Transitions between consecutive steps, counted with a mergeable histogram of the time between."""

from __future__ import annotations

import numpy as np
import polars as pl

from events.schema import CODED, END, START, UTC, Schema
from operators.columns import I64, Dense, Mask, count_groups, read_codes, read_us, renumber, to_mask

BUCKETS_PER_DOUBLING = 8
ZERO_BUCKET = -1000  # no time passed
HOUR_US = 3_600_000_000
KEYS = ("hour", "channel", "from_step", "to_step")
COUNTED: Schema = {
    "hour": UTC,
    "channel": pl.String,
    "from_step": pl.String,
    "to_step": pl.String,
    "bucket": pl.Int32,
    "n": pl.Int64,
    "micros": pl.Int64,
}


def count_transitions(events: pl.DataFrame, closed: pl.DataFrame) -> pl.DataFrame:
    """Count the steps from one event to the next, and into and out of sessions.

    Input: events of `sessionize` (step, channel, event_time, previous_step null at a start, previous_us) and its
    closed sessions. Output: COUNTED, one row per (hour, channel, from, to, bucket), bucket null for `(start)` and
    `(end)`; n + closed -> m; unordered. Bucket: floor(8 log2 seconds), -1000 for 0 s.
    """
    if events.height == 0 and closed.height == 0:
        return pl.DataFrame(schema=COUNTED)
    # Steps and channels of both kinds of row share one numbering; `(start)` and `(end)` are numbers 0 and 1.
    times = (
        np.concatenate([read_us(events["event_time"]), closed["last_us"].to_numpy()])
        if events.height
        else closed["last_us"].to_numpy()
    )
    elapsed = np.zeros(len(times), dtype=np.int64)
    buckets = np.zeros(len(times), dtype=np.int64)
    inner = np.zeros(len(times), dtype=np.bool_)
    parts = [events] if events.height else []
    steps = _stack(
        [frame["step"] for frame in parts] + [frame["previous_step"] for frame in parts] + [closed["exit_step"]]
    )
    channels = _stack([frame["channel"] for frame in parts] + [closed["exit_channel"]])
    step = renumber(read_codes(steps.fill_null(START)), steps.fill_null(START))
    channel = renumber(read_codes(channels), channels)
    n, m = events.height, closed.height
    names = pl.concat([pl.Series([END], dtype=pl.String), step.names])
    origin = np.concatenate([step.numbers[n : 2 * n], step.numbers[2 * n :]]) + 1
    target = np.concatenate([step.numbers[:n] + 1, np.zeros(m, dtype=np.int64)])
    if n:
        elapsed[:n] = times[:n] - events["previous_us"].to_numpy()
        inner[:n] = to_mask(events["previous_step"].is_not_null())
        found = find_buckets(elapsed[:n][inner[:n]])
        buckets[np.flatnonzero(inner)] = found
    return _count(times // HOUR_US, (channel, origin, target, names), buckets, inner, elapsed)


def _stack(columns: list[pl.Series]) -> pl.Series:
    return pl.concat([column.cast(CODED).alias("value") for column in columns], rechunk=True)


def _count(
    hours: I64, steps: tuple[Dense, I64, I64, pl.Series], buckets: I64, inner: Mask, elapsed: I64
) -> pl.DataFrame:
    channel, origin, target, names = steps
    first, lowest = int(hours.min()), int(buckets.min())
    # Rows without a bucket get the number below the lowest.
    bars = np.where(inner, buckets - lowest + 1, 0)
    sizes = [int(hours.max()) - first + 1, channel.names.len(), names.len(), names.len()]
    # In two turns, so that the numbers to count over stay few.
    keys, _, pair = count_groups([hours - first, channel.numbers, origin, target], sizes)
    (of_pair, bar), rows, of_row = count_groups([pair, bars], [keys[0].size, int(bars.max()) + 1])
    groups = [*(key[of_pair] for key in keys), bar]
    micros = np.bincount(of_row, weights=elapsed, minlength=len(rows)).astype(np.int64)
    bucket = pl.Series(groups[4] + lowest - 1, dtype=pl.Int64).cast(pl.Int32)
    return pl.DataFrame(
        {
            "hour": pl.Series((groups[0] + first) * HOUR_US).cast(UTC),
            "channel": channel.names.gather(groups[1]),
            "from_step": names.gather(groups[2]),
            "to_step": names.gather(groups[3]),
            "bucket": bucket.set(pl.Series(groups[4] == 0), None),
            "n": rows,
            "micros": micros,
        },
        schema=COUNTED,
    )


def find_buckets(micros: I64) -> I64:
    """Give each duration its histogram bucket; n -> n."""
    buckets = np.full(len(micros), ZERO_BUCKET, dtype=np.int64)
    some = micros > 0
    exact = np.floor(BUCKETS_PER_DOUBLING * np.log2(micros[some] / 1e6)).astype(np.int64)
    buckets[some] = exact
    return buckets


def merge_transitions(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Sum counted parts into rows of the `transitions` table with `dt`, sorted by its keys."""
    counted = pl.concat(parts).group_by(*KEYS, "bucket").agg(pl.col("n").sum(), pl.col("micros").sum())
    bars = pl.struct("bucket", "n").sort_by("bucket").filter(pl.col("bucket").sort_by("bucket").is_not_null())
    merged = (
        counted.group_by(KEYS)
        .agg(pl.col("n").sum().alias("transitions"), pl.col("micros").sum(), bars.alias("seconds_histogram"))
        .sort(KEYS)
    )
    return merged.select(
        *KEYS,
        "transitions",
        # NumPy divides; Polars multiplies by the inverse, which is off in the last bit.
        pl.Series("total_seconds", merged["micros"].to_numpy() / 1e6),
        "seconds_histogram",
        pl.col("hour").dt.date().alias("dt"),
    )
