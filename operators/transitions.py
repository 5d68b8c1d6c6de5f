"""Transitions between consecutive steps, counted with a mergeable histogram of the time between."""

from __future__ import annotations

import numpy as np
import polars as pl

from events.schema import CODED, END, START, TRANSITIONS, UTC, Schema
from operators.columns import (
    I64,
    Dense,
    count_groups,
    list_runs,
    mark_changes,
    pick,
    read_codes,
    read_us,
    renumber,
    to_utc,
)

BUCKETS_PER_DOUBLING = 8
ZERO_BUCKET = -1000  # no time passed
NO_BUCKET = -1001  # no time to measure
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
    counted = pl.concat(parts, rechunk=True)
    if counted.height == 0:
        return pl.DataFrame(schema={**TRANSITIONS, "dt": pl.Date})
    hours, bars = read_us(counted["hour"]), counted["bucket"].fill_null(NO_BUCKET).to_numpy().astype(np.int64)
    ranks = [_rank(counted[name]) for name in KEYS[1:]]
    order, packed = _sort([hours // HOUR_US, *(rank.numbers for rank in ranks), bars])
    # Rows of equal key and bucket are one bar, and bars of equal key are one row.
    first = np.flatnonzero(mark_changes(packed))
    rows, bar = order[first], bars[order[first]]
    n, micros = (np.add.reduceat(counted[name].to_numpy()[order], first) for name in ("n", "micros"))
    keys = [hours, *(rank.numbers for rank in ranks)]
    begin = np.flatnonzero(np.logical_or.reduce([mark_changes(key[rows]) for key in keys]))
    drawn = bar != NO_BUCKET
    histogram = pl.DataFrame({"bucket": bar[drawn].astype(np.int32), "n": n[drawn]}).to_struct()
    hour = to_utc(hours[rows[begin]])
    return pl.DataFrame(
        {
            "hour": hour,
            **{name: pick(rank.names, rank.numbers[rows[begin]]) for name, rank in zip(KEYS[1:], ranks, strict=True)},
            "transitions": np.add.reduceat(n, begin),
            # NumPy divides; Polars multiplies by the inverse, which is off in the last bit.
            "total_seconds": np.add.reduceat(micros, begin) / 1e6,
            "seconds_histogram": list_runs(histogram, np.add.reduceat(drawn.astype(np.int64), begin)),
            "dt": hour.dt.date(),
        },
    )


def _rank(column: pl.Series) -> Dense:
    """Number the texts of a category column in their order."""
    dense = renumber(read_codes(column), column)
    order = dense.names.arg_sort()
    place = np.empty(order.len(), dtype=np.int64)
    place[order.to_numpy()] = np.arange(order.len())
    return Dense(place[dense.numbers], dense.names[order])


def _sort(keys: list[I64]) -> tuple[I64, I64]:
    """Sort rows by several keys; return their order, and in it numbers that are equal for equal keys."""
    lowest = [int(key.min()) for key in keys]
    sizes = [int(key.max()) - low + 1 for key, low in zip(keys, lowest, strict=True)]
    if np.prod([float(size) for size in sizes]) >= 2.0**62:
        order = np.lexsort(keys[::-1])
        changes = np.logical_or.reduce([mark_changes(key[order]) for key in keys])
        return order, np.cumsum(changes)
    packed = keys[0] - lowest[0]
    for key, low, size in zip(keys[1:], lowest[1:], sizes[1:], strict=True):
        packed = packed * size + (key - low)
    order = np.argsort(packed, kind="stable")
    return order, packed[order]
