"""The SQL of the views: tables over the manifest's files, additive ones summed, and the questions people ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from events.schema import TABLES, Schema
from sinks.manifest import Manifest

RAW = "raw_"  # schema-less prefix of the additive tables before summing
ADDITIVE = ("transitions", "paths", "ledger")


def build_views(root: Path, manifest: Manifest, stages: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return view name -> SELECT over exactly the files of one manifest, in an order in which they can be created."""
    views: dict[str, str] = {}
    for table in TABLES:
        name = RAW + table if table in ADDITIVE else table
        views[name] = _select_files(root, [file.path for file in manifest.visible(table)], TABLES[table])
    views["snapshot"] = f"SELECT {manifest.version} AS version, {manifest.epoch} AS epoch, {manifest.run} AS run, {bool(manifest.complete)} AS complete"
    views["stages"] = _select_stages(stages)
    return views | QUESTIONS


def _select_files(root: Path, names: Sequence[str], schema: Schema) -> str:
    if not names:
        columns = ", ".join(f'CAST(NULL AS {sql_type(dtype)}) AS "{name}"' for name, dtype in schema.items())
        return f"SELECT {columns}, CAST(NULL AS DATE) AS dt WHERE false"
    files = ", ".join(quote_text(str(root / name)) for name in names)
    return f"SELECT * FROM read_parquet([{files}], hive_partitioning = true, hive_types = {{'dt': DATE}})"


def sql_type(dtype: object) -> str:
    """Name the DuckDB type of a column."""
    if isinstance(dtype, pl.Datetime):
        return "TIMESTAMP WITH TIME ZONE"
    if isinstance(dtype, pl.List):
        return sql_type(dtype.inner) + "[]"
    if isinstance(dtype, pl.Struct):
        return "STRUCT(" + ", ".join(f"{field.name} {sql_type(field.dtype)}" for field in dtype.fields) + ")"
    return {
        pl.String: "VARCHAR",
        pl.Int64: "BIGINT",
        pl.Int32: "INTEGER",
        pl.Float64: "DOUBLE",
        pl.Boolean: "BOOLEAN",
        pl.Binary: "BLOB",
        pl.Date: "DATE",
    }[dtype]  # type: ignore[index]


def quote_text(value: str) -> str:
    """Quote an SQL text."""
    return "'" + value.replace("'", "''") + "'"


def _select_stages(stages: Mapping[str, Sequence[str]]) -> str:
    rows = [
        f"({number}, {quote_text(stage)}, {quote_text(step)})"
        for number, (stage, steps) in enumerate(stages.items())
        for step in steps
    ]
    if not rows:
        return "SELECT CAST(NULL AS INTEGER) AS stage_order, CAST(NULL AS VARCHAR) AS stage, CAST(NULL AS VARCHAR) AS step WHERE false"
    return f"SELECT * FROM (VALUES {', '.join(rows)}) AS declared(stage_order, stage, step)"


_QUANTILE = """
    SELECT {keys}, min(seconds) FILTER (running >= 0.5 * whole) AS median_seconds,
           min(seconds) FILTER (running >= 0.9 * whole) AS p90_seconds
    FROM (
        SELECT {keys}, CASE WHEN bucket = -1000 THEN 0 ELSE pow(2, (bucket + 0.5) / 8) END AS seconds,
               sum(n) OVER (PARTITION BY {keys} ORDER BY bucket) AS running, sum(n) OVER (PARTITION BY {keys}) AS whole
        FROM (SELECT {keys}, bar.bucket AS bucket, sum(bar.n) AS n
              FROM (SELECT {keys}, unnest(seconds_histogram) AS bar FROM raw_transitions) GROUP BY ALL)
    ) GROUP BY ALL"""

QUESTIONS = {
    "transitions": """
        WITH sums AS (
            SELECT dt, hour, channel, from_step, to_step,
                   CAST(sum(transitions) AS BIGINT) AS transitions, sum(total_seconds) AS total_seconds
            FROM raw_transitions GROUP BY ALL),
        bars AS (
            SELECT hour, channel, from_step, to_step, bar.bucket AS bucket, CAST(sum(bar.n) AS BIGINT) AS n
            FROM (SELECT hour, channel, from_step, to_step, unnest(seconds_histogram) AS bar FROM raw_transitions)
            GROUP BY ALL),
        histograms AS (
            SELECT hour, channel, from_step, to_step, list({'bucket': bucket, 'n': n} ORDER BY bucket) AS seconds_histogram
            FROM bars GROUP BY ALL)
        SELECT sums.hour, sums.channel, sums.from_step, sums.to_step, transitions, total_seconds,
               coalesce(seconds_histogram, []) AS seconds_histogram, dt
        FROM sums LEFT JOIN histograms USING (hour, channel, from_step, to_step)""",
    "paths": """
        SELECT any_value(steps) AS steps, path_hash, CAST(sum(sessions) AS BIGINT) AS sessions,
               CAST(sum(events) AS BIGINT) AS events, sum(total_seconds) AS total_seconds, dt
        FROM raw_paths GROUP BY dt, path_hash""",
    "ledger": """
        SELECT source, source_partition, CAST(sum(received) AS BIGINT) AS received,
               CAST(sum(accepted) AS BIGINT) AS accepted, CAST(sum(duplicate) AS BIGINT) AS duplicate,
               CAST(sum(late) AS BIGINT) AS late, CAST(sum(dead) AS BIGINT) AS dead
        FROM raw_ledger GROUP BY ALL""",
    "funnel_conversion": """
        WITH counted AS (
            SELECT funnel, step_index, step, count(DISTINCT person_id) AS persons, count(DISTINCT attempt_id) AS attempts
            FROM funnel_steps GROUP BY ALL)
        SELECT funnel, step_index, step, persons, attempts,
               persons / first_value(persons) OVER by_step AS conversion_from_start,
               persons / lag(persons) OVER by_step AS conversion_from_previous,
               persons - coalesce(lead(persons) OVER by_step, persons) AS dropped
        FROM counted WINDOW by_step AS (PARTITION BY funnel ORDER BY step_index)""",
    "time_to_convert": """
        SELECT funnel, step_index, step, count(*) AS arrivals,
               median(seconds_from_entry) AS median_seconds_from_entry,
               quantile_cont(seconds_from_entry, 0.9) AS p90_seconds_from_entry,
               median(seconds_from_previous) AS median_seconds_from_previous,
               quantile_cont(seconds_from_previous, 0.9) AS p90_seconds_from_previous
        FROM funnel_steps WHERE step_index > 0 GROUP BY ALL""",
    "top_paths": """
        SELECT array_to_string(any_value(steps), ' > ') AS path, any_value(steps) AS steps,
               CAST(sum(sessions) AS BIGINT) AS sessions, sum(sessions) / sum(sum(sessions)) OVER () AS share,
               CAST(sum(events) AS BIGINT) AS events, sum(total_seconds) / sum(sessions) AS mean_seconds
        FROM raw_paths GROUP BY path_hash ORDER BY sessions DESC, path""",
    "step_transitions": f"""
        WITH sums AS (
            SELECT from_step, to_step, CAST(sum(transitions) AS BIGINT) AS transitions, sum(total_seconds) AS total_seconds
            FROM raw_transitions GROUP BY ALL),
        times AS ({_QUANTILE.format(keys="from_step, to_step")})
        SELECT from_step, to_step, transitions,
               transitions / sum(transitions) OVER (PARTITION BY from_step) AS share_of_exits,
               CASE WHEN median_seconds IS NOT NULL THEN total_seconds / transitions END AS mean_seconds,
               median_seconds, p90_seconds
        FROM sums LEFT JOIN times USING (from_step, to_step) ORDER BY from_step, transitions DESC, to_step""",
    "journey_map": """
        WITH placed AS (
            SELECT coalesce(stage_order, 1000000) AS stage_order, coalesce(stage, '(no stage)') AS stage, channel,
                   person_id, session_id, event_time, session_index
            FROM events LEFT JOIN stages USING (step)),
        last_seen AS (SELECT session_id, max(session_index) AS last_index FROM events GROUP BY ALL),
        cells AS (
            SELECT stage_order, stage, channel, count(*) AS events, count(DISTINCT person_id) AS persons,
                   count(DISTINCT session_id) AS sessions,
                   count(DISTINCT session_id) FILTER (session_index = last_index) AS left_here
            FROM placed JOIN last_seen USING (session_id) GROUP BY ALL),
        spent AS (
            SELECT coalesce(stage, '(no stage)') AS stage, channel, median(seconds) AS median_seconds_to_next
            FROM (SELECT step, channel, epoch(lead(event_time) OVER (PARTITION BY session_id ORDER BY session_index))
                         - epoch(event_time) AS seconds FROM events)
            LEFT JOIN stages USING (step) GROUP BY ALL)
        SELECT stage, channel, events, persons, sessions, left_here, left_here / sessions AS drop_off,
               median_seconds_to_next
        FROM cells LEFT JOIN spent USING (stage, channel) ORDER BY stage_order, channel""",
    "live_sessions": """
        SELECT session_id, any_value(person_id) AS person_id, min(event_time) AS started_at, max(event_time) AS last_event_at,
               count(*) AS events, arg_max(step, session_index) AS current_step, arg_max(channel, session_index) AS current_channel
        FROM events ANTI JOIN sessions USING (session_id) GROUP BY session_id""",
    "daily_sessions": """
        SELECT dt, count(*) AS sessions, count(DISTINCT person_id) AS persons, CAST(sum(events) AS BIGINT) AS events,
               avg(duration_s) AS mean_duration_s, median(duration_s) AS median_duration_s,
               count(*) FILTER (events = 1) / count(*) AS bounce_share
        FROM sessions GROUP BY dt ORDER BY dt""",
}
