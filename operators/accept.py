"""Watermark of one source partition: which of its events are late, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from events.canonical import Decoded
from events.raw import read_raw
from events.schema import LATE_EVENTS
from operators.columns import BEGINNING, I64, read_us, to_utc


@dataclass(frozen=True)
class Accepted:
    """`events` in partition order, `late` and `dead` as their tables with `dt`; times in microseconds.

    received = events + late + dead; `events` can still hold duplicates.
    """

    partition: str
    source: str
    events: pl.DataFrame
    late: pl.DataFrame
    dead: pl.DataFrame
    received: int
    latest: int

    def watermark(self, lateness: int) -> int:
        """Return the partition's watermark after its last row."""
        return self.latest - lateness if self.latest > BEGINNING else BEGINNING


def accept_events(decoded: Decoded, latest: int, lateness: int) -> Accepted:
    """Divide a decoded block into accepted and late events.

    `latest` is the largest event time the partition has delivered so far, BEGINNING if none.
    A row is late if its time is smaller than the largest time before it less `lateness` (design: Time 1, 2).
    Row relation: every event is one row of `events` or `late`; both keep the order.
    """
    block = decoded.block
    times = read_us(decoded.events["event_time"])
    reached = np.maximum.accumulate(np.concatenate([np.array([latest], dtype=np.int64), times]))
    before = reached[:-1]
    is_late = times < before - lateness
    dead = decoded.dead.with_columns(_date_dead(decoded, reached).alias("dt"))
    events, late = decoded.events, pl.DataFrame(schema={**LATE_EVENTS, "dt": pl.Date})
    if is_late.any():
        rows = np.flatnonzero(is_late)
        late = _describe_late(decoded, rows, before[rows] - lateness)
        events = events.filter(pl.Series(~is_late))
    return Accepted(block.partition, block.source, events, late, dead, decoded.received, int(reached[-1]))


def _date_dead(decoded: Decoded, reached: I64) -> pl.Series:
    # A dead letter has no time of its own: it is filed under the partition's event time when it came.
    positions = decoded.events["source_position"].to_numpy()
    where = np.searchsorted(positions, decoded.dead["source_position"].to_numpy())
    return to_utc(np.maximum(reached[where], 0)).dt.date()


def _describe_late(decoded: Decoded, rows: I64, watermarks: I64) -> pl.DataFrame:
    late = decoded.events[rows]
    raws = read_raw(decoded.block, decoded.lines.gather(rows).to_list())
    return late.select(
        "event_id",
        "event_time",
        "person_id",
        pl.Series("watermark", to_utc(watermarks)),
        pl.lit("late").alias("reason"),
        "source",
        "source_partition",
        "source_position",
        pl.Series("raw", raws, dtype=pl.Binary),
        pl.col("event_time").dt.date().alias("dt"),
    )
