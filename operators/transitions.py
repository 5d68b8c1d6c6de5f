"""Transitions between consecutive steps, counted with a mergeable histogram of the time between."""

from __future__ import annotations

import numpy as np
import polars as pl

from events.schema import CODED, END, START, UTC, Schema
from operators.columns import I64, Dense, count_groups, mark_changes, pick, read_codes, read_us, renumber

BUCKETS_PER_DOUBLING = 8
ZERO_BUCKET = -1000  # no time passed
HOUR_US = 3_600_000_000
KEYS = ("hour", "channel", "from_step", "to_step")
COUNTED: Schema = {
    "hour": UTC,
    "channel": CODED,
    "from_step": CODED,
    "to_step": CODED,
    "bucket": pl.Int32,
    "n": pl.Int64,
    "micros": pl.Int64,
}


def count_transitions(events: pl.DataFrame, closed: pl.DataFrame) -> pl.DataFrame:
    """Count the steps from one event to the next, and into and out of sessions.

    Input: events of `sessionize` (step, channel, event_time, session_index, previous_step, previous_us) and its
    closed sessions. Output: COUNTED, one row per (hour, channel, from, to, bucket), bucket null for `(start)` and
    `(end)`; n + closed -> m; unordered. Bucket: floor(8 log2 seconds), -1000 for 0 s.
    """
    if events.height == 0 and closed.height == 0:
        return pl.DataFrame(schema=COUNTED)
    n, m = events.height, closed.height
    times, channels, steps = closed["last_us"].to_numpy(), [closed["exit_channel"]], [closed["exit_step"]]
    elapsed, inner = np.zeros(n + m, dtype=np.int64), np.empty(0, dtype=np.int64)
    if n:
        times = np.concatenate([read_us(events["event_time"]), times])
        inner = np.flatnonzero(events["session_index"].to_numpy())
        elapsed[:n] = times[:n] - events["previous_us"].to_numpy()
        channels.insert(0, events["channel"])
        steps = [events["step"], pick(events["previous_step"], inner), *steps]
    # Steps in all roles share one numbering; `(start)` and `(end)` are numbers 0 and 1.
    step = renumber(*_stack(steps))
    names = pl.concat([pl.Series([START, END], dtype=pl.String), step.names]).cast(CODED)
    origin, target = np.zeros(n + m, dtype=np.int64), np.ones(n + m, dtype=np.int64)
    target[:n] = step.numbers[:n] + 2
    origin[inner], origin[n:] = step.numbers[n : n + inner.size] + 2, step.numbers[n + inner.size :] + 2
    # Rows without a bucket have bar 0.
    bars, lowest = np.zeros(n + m, dtype=np.int64), 0
    if inner.size:
        buckets = find_buckets(elapsed[inner])
        lowest = int(buckets.min())
        bars[inner] = buckets - lowest + 1
    return _count(times // HOUR_US, renumber(*_stack(channels)), (origin, target, names), (bars, lowest, elapsed))


def _stack(columns: list[pl.Series]) -> tuple[I64, pl.Series]:
    """Put category columns one after another; return their codes and the column."""
    column = pl.concat([column.cast(CODED).alias("name") for column in columns], rechunk=True)
    return read_codes(column), column


def _count(hours: I64, channel: Dense, steps: tuple[I64, I64, pl.Series], times: tuple[I64, int, I64]) -> pl.DataFrame:
    (origin, target, names), (bars, lowest, elapsed) = steps, times
    first = int(hours.min())
    sizes = [int(hours.max()) - first + 1, channel.names.len(), names.len(), names.len()]
    keys, _, pair = count_groups([hours - first, channel.numbers, origin, target], sizes)
    # Bars are counted by sorting numbers of (pair, bar); a pair's time goes with its first bar, as merging sums it.
    wide = int(bars.max()) + 1
    packed = np.sort((pair * wide + bars).astype(np.int32 if keys[0].size * wide < 1 << 31 else np.int64))
    begins = np.flatnonzero(mark_changes(packed))
    of_pair, bar = np.divmod(packed[begins].astype(np.int64), wide)
    micros = np.zeros(begins.size, dtype=np.int64)
    micros[mark_changes(of_pair)] = np.bincount(pair, weights=elapsed).astype(np.int64)
    hour, place, came, went = (key[of_pair] for key in keys)
    bucket = pl.Series((bar + lowest - 1).astype(np.int32))
    return pl.DataFrame(
        {
            "hour": pl.Series((hour + first) * HOUR_US).cast(UTC),
            "channel": pick(channel.names.cast(CODED), place),
            "from_step": pick(names, came),
            "to_step": pick(names, went),
            "bucket": bucket.set(pl.Series(bar == 0), None),
            "n": np.diff(begins, append=packed.size),
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
        .with_columns(pl.col("channel", "from_step", "to_step").cast(pl.String))
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
