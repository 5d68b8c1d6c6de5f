"""Small frames by hand, in the form in which the operators pass them on."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from events.hashing import hash_strings
from events.schema import CODED, CODED_COLUMNS, UTC
from operators.columns import I64
from operators.order import sort_persons

T0 = 1_700_000_000_000_000  # 2023-11-14 22:13:20 UTC
SECOND = 1_000_000


def make_events(
    rows: Sequence[tuple[str, float, str]],
    *,
    partition: str = "p",
    hashes: dict[str, int] | None = None,
    first_position: int = 0,
    **columns: Sequence[str | None],
) -> pl.DataFrame:
    """Make canonical events, with `person_hash`, of (person, seconds after T0, step) rows in partition order.

    Event ids are partition and position; `hashes` gives persons hashes of our choice; `columns` replaces
    others (channel "web", no device, user = person) row by row.
    """
    count = len(rows)
    persons = [person for person, _, _ in rows]
    frame = pl.DataFrame(
        {
            "event_id": [f"{partition}{first_position + row}" for row in range(count)],
            "event_time": pl.Series([T0 + round(at * SECOND) for _, at, _ in rows], dtype=pl.Int64).cast(UTC),
            "person_id": persons,
            "device_id": [None] * count,
            "user_id": persons,
            "channel": ["web"] * count,
            "event_name": [step for _, _, step in rows],
            "step": [step for _, _, step in rows],
            "source": [f"{partition}.ndjson"] * count,
            "source_partition": [partition] * count,
            "source_position": range(first_position, first_position + count),
        },
        schema_overrides={
            "device_id": pl.String,
            "source_position": pl.Int64,
            "person_id": pl.String,
            "user_id": pl.String,
        },
    )
    replaced = [pl.Series(name, list(values), dtype=pl.String) for name, values in columns.items()]
    frame = frame.with_columns(replaced)
    coded = [pl.col(name).cast(pl.String).cast(CODED) for name in CODED_COLUMNS if name in frame.columns]
    known = hash_strings(frame["person_id"]).tolist() if hashes is None else [hashes[person] for person in persons]
    return frame.with_columns(*coded, pl.Series("person_hash", known, dtype=pl.UInt64))


def order_events(events: pl.DataFrame) -> tuple[pl.DataFrame, I64]:
    """Sort events as the reorder buffer releases them; also the first row of each person."""
    return sort_persons(events)


def texts(frame: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """Return rows of some columns, categories as text."""
    return frame.select(pl.col(columns)).with_columns(pl.col(pl.Categorical).cast(pl.String)).rows()
