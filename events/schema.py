"""The columns of every table: name, dtype; times are UTC microseconds."""

from __future__ import annotations

import polars as pl

UTC = pl.Datetime("us", "UTC")
STRINGS = pl.List(pl.String)
HISTOGRAM = pl.List(pl.Struct({"bucket": pl.Int32, "n": pl.Int64}))

# Inside the stream, columns with few values are categories: compared, moved and written as numbers.
CODED = pl.Categorical()
CODED_COLUMNS = ("channel", "event_type", "event_name", "step", "source", "source_partition")

Schema = dict[str, pl.DataType | type[pl.DataType]]

CANONICAL: Schema = {
    "event_id": pl.String,
    "event_time": UTC,
    "received_at": UTC,
    "person_id": pl.String,
    "device_id": pl.String,
    "user_id": pl.String,
    "channel": pl.String,
    "event_type": pl.String,
    "event_name": pl.String,
    "step": pl.String,
    "page": pl.String,
    "referrer": pl.String,
    "campaign": pl.String,
    "properties": pl.String,
    "source": pl.String,
    "source_partition": pl.String,
    "source_position": pl.Int64,
}
NEVER_NULL = (
    "event_id",
    "event_time",
    "person_id",
    "channel",
    "event_name",
    "step",
    "source",
    "source_partition",
    "source_position",
)

EVENTS: Schema = {**CANONICAL, "session_id": pl.String, "session_index": pl.Int32}
SESSIONS: Schema = {
    "session_id": pl.String,
    "person_id": pl.String,
    "device_id": pl.String,
    "user_id": pl.String,
    "channels": STRINGS,
    "entry_channel": pl.String,
    "started_at": UTC,
    "ended_at": UTC,
    "duration_s": pl.Float64,
    "events": pl.Int64,
    "entry_step": pl.String,
    "exit_step": pl.String,
    "steps": STRINGS,
    "path_cut": pl.Boolean,
}
TRANSITIONS: Schema = {
    "hour": UTC,
    "channel": pl.String,
    "from_step": pl.String,
    "to_step": pl.String,
    "transitions": pl.Int64,
    "total_seconds": pl.Float64,
    "seconds_histogram": HISTOGRAM,
}
PATHS: Schema = {
    "steps": STRINGS,
    "path_hash": pl.String,
    "sessions": pl.Int64,
    "events": pl.Int64,
    "total_seconds": pl.Float64,
}
FUNNEL_STEPS: Schema = {
    "funnel": pl.String,
    "attempt_id": pl.String,
    "person_id": pl.String,
    "step_index": pl.Int32,
    "step": pl.String,
    "entered_at": UTC,
    "reached_at": UTC,
    "seconds_from_entry": pl.Float64,
    "seconds_from_previous": pl.Float64,
    "channel": pl.String,
}
LATE_EVENTS: Schema = {
    "event_id": pl.String,
    "event_time": UTC,
    "person_id": pl.String,
    "watermark": UTC,
    "reason": pl.String,
    "source": pl.String,
    "source_partition": pl.String,
    "source_position": pl.Int64,
    "raw": pl.Binary,
}
DEAD_LETTERS: Schema = {
    "reason": pl.String,
    "detail": pl.String,
    "source": pl.String,
    "source_partition": pl.String,
    "source_position": pl.Int64,
    "raw": pl.Binary,
}
LEDGER: Schema = {
    "source": pl.String,
    "source_partition": pl.String,
    "epoch": pl.Int64,
    "received": pl.Int64,
    "accepted": pl.Int64,
    "duplicate": pl.Int64,
    "late": pl.Int64,
    "dead": pl.Int64,
}

TABLES: dict[str, Schema] = {
    "events": EVENTS,
    "sessions": SESSIONS,
    "transitions": TRANSITIONS,
    "paths": PATHS,
    "funnel_steps": FUNNEL_STEPS,
    "late_events": LATE_EVENTS,
    "dead_letters": DEAD_LETTERS,
    "ledger": LEDGER,
}
START, END = "(start)", "(end)"


def empty(table: str) -> pl.DataFrame:
    """Return the table with no rows and its exact dtypes, `dt` last."""
    return pl.DataFrame(schema={**TABLES[table], "dt": pl.Date})
