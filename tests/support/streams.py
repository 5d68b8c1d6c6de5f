"""Records of the oracle's streams as what the decoder makes of them, without bytes in between."""

from __future__ import annotations

import numpy as np
import polars as pl

from events.canonical import Decoded
from events.hashing import hash_strings
from events.raw import RawBlock
from events.schema import CODED, CODED_COLUMNS, DEAD_LETTERS, UTC


def decode_records(records: pl.DataFrame, partition: str, *, collide: bool = False) -> Decoded:
    """Make a decoded block of one partition's consecutive records (columns of the oracle's RECORDS).

    The raw line of a record is `<partition>:<position>`; columns that are null throughout are left out.
    `collide`: all persons have one hash.
    """
    positions = records["source_position"]
    text = "".join(f"{partition}:{position}\n" for position in positions)
    block = RawBlock("ndjson", f"{partition}.ndjson", partition, 0, text.encode())
    present = [name for name in ("device_id", "user_id", "channel") if records[name].null_count() < records.height]
    persons = hash_strings(records["person_id"])
    events = records.select(
        "event_id",
        pl.col("event_time").cast(UTC),
        "person_id",
        *present,
        pl.col("step").alias("event_name"),
        "step",
        pl.lit(block.source).alias("source"),
        pl.lit(partition).alias("source_partition"),
        "source_position",
        pl.Series("person_hash", np.full_like(persons, 7) if collide else persons, dtype=pl.UInt64),
    )
    events = events.with_columns(pl.col(name).cast(CODED) for name in CODED_COLUMNS if name in events.columns)
    lines = pl.Series(range(records.height), dtype=pl.Int64)
    return Decoded(block, events, lines, pl.DataFrame(schema=DEAD_LETTERS), records.height)
