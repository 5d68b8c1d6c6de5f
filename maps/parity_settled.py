"""Up to when are the tables of a job that goes on the last word?

A key group hands on every event before its watermark, oldest first: once an event of a time is in the tables, so is
everything older of that group. A replay's groups take turns, so the group that is furthest behind decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from events.hashing import hash_strings, key_groups

I64 = npt.NDArray[np.int64]
NEVER, ALWAYS = -(1 << 62), 1 << 62
PERSONS = 100_000  # at once


def find_settled(connection: duckdb.DuckDBPyConnection, side: str, other: str, groups: int) -> int:
    """Return the time (microseconds) before which a side that was not read to its end has all events.

    A group of people of whom it has nothing yet has settled up to the first thing that the other side has of them.
    """
    newest = np.full(groups, NEVER, dtype=np.int64)
    for group, _, last in _read_persons(connection, side, groups):
        np.maximum.at(newest, group, last + 1)
    first = np.full(groups, ALWAYS, dtype=np.int64)
    if (newest == NEVER).any():
        for group, earliest, _ in _read_persons(connection, other, groups):
            np.minimum.at(first, group, earliest)
    return int(np.where(newest == NEVER, first, newest).min())


def _read_persons(
    connection: duckdb.DuckDBPyConnection, side: str, groups: int
) -> Iterator[tuple[npt.NDArray[np.uint8], I64, I64]]:
    """Read people's key groups, first and last event times, many at a time."""
    query = f"""
        SELECT person_id, epoch_us(min(event_time)) AS earliest, epoch_us(max(event_time)) AS latest
        FROM {side}_side.events GROUP BY person_id"""
    for batch in connection.sql(query).to_arrow_reader(PERSONS):
        persons = pl.DataFrame(batch)
        group = key_groups(hash_strings(persons["person_id"]), groups)
        yield group, persons["earliest"].to_numpy(), persons["latest"].to_numpy()
