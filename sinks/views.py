"""The SQL of the views: tables over the manifest's files, additive ones summed, and the questions people ask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from config import SECOND, FunnelRules
from events.schema import TABLES, Schema
from sinks.manifest import Manifest

RAW = "raw_"  # schema-less prefix of the additive tables before summing
ADDITIVE = ("transitions", "paths", "ledger")
SNAPSHOT: Schema = {"version": pl.Int64, "epoch": pl.Int64, "run": pl.Int64, "complete": pl.Boolean}
STAGES: Schema = {"stage_order": pl.Int32, "stage": pl.String, "step_order": pl.Int32, "step": pl.String}
FUNNELS: Schema = {
    "funnel": pl.String,
    "step_index": pl.Int32,
    "step": pl.String,
    "within_seconds": pl.Float64,
    "scope": pl.String,
}


@dataclass(frozen=True)
class Declared:
    """What the config named: `stages` by name with their steps, and the funnels' rules."""

    stages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    funnels: Sequence[FunnelRules] = ()


def build_views(root: Path, manifest: Manifest, declared: Declared) -> dict[str, str]:
    """Return view name -> SELECT over exactly the files of one manifest, in an order in which they can be created."""
    views: dict[str, str] = {}
    for table in TABLES:
        name = RAW + table if table in ADDITIVE else table
        views[name] = _select_files(root, [file.path for file in manifest.visible(table)], TABLES[table])
    numbers = {"version": manifest.version, "epoch": manifest.epoch, "run": manifest.run}
    views["snapshot"] = _select_rows([(*numbers.values(), bool(manifest.complete))], SNAPSHOT)
    views["stages"] = _select_rows(_list_stages(declared.stages), STAGES)
    views["funnels"] = _select_rows(_list_funnels(declared.funnels), FUNNELS)
    return views | QUESTIONS


def _select_files(root: Path, names: Sequence[str], schema: Schema) -> str:
    if not names:
        return _select_rows([], {**schema, "dt": pl.Date})
    files = ", ".join(quote_text(_escape_glob(str(root / name))) for name in names)
    columns = ", ".join(f'"{name}"' for name in schema)
    if "=" in str(root):
        # Read as Hive folders, those of the path above the warehouse would become columns, or replace them.
        day = "CAST(regexp_extract(filename, '.*/dt=([0-9-]+)/', 1) AS DATE) AS dt"
        return f"SELECT {columns}, {day} FROM read_parquet([{files}], hive_partitioning = false, filename = true)"
    return f"SELECT {columns}, dt FROM read_parquet([{files}], hive_partitioning = true, hive_types = {{'dt': DATE}})"


def _escape_glob(path: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", path)


def _select_rows(rows: Sequence[Sequence[str | int | bool]], schema: Schema) -> str:
    names = ", ".join(f'"{name}"' for name in schema)
    if not rows:
        columns = ", ".join(f'CAST(NULL AS {sql_type(dtype)}) AS "{name}"' for name, dtype in schema.items())
        return f"SELECT {columns} WHERE false"
    values = ", ".join(f"({', '.join(_write_value(value) for value in row)})" for row in rows)
    columns = ", ".join(f'CAST("{name}" AS {sql_type(dtype)}) AS "{name}"' for name, dtype in schema.items())
    return f"SELECT {columns} FROM (VALUES {values}) AS given({names})"


def _write_value(value: str | int | bool) -> str:
    return quote_text(value) if isinstance(value, str) else str(value)


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


def _list_stages(stages: Mapping[str, Sequence[str]]) -> list[tuple[int, str, int, str]]:
    declared = [(number, stage, step) for number, (stage, steps) in enumerate(stages.items()) for step in steps]
    return [(number, stage, place, step) for place, (number, stage, step) in enumerate(declared)]


def _list_funnels(funnels: Sequence[FunnelRules]) -> list[tuple[str, int, str, str, str]]:
    return [
        (rules.name, index, step, str(rules.within / SECOND), rules.scope)
        for rules in funnels
        for index, step in enumerate(rules.steps)
    ]


# The smallest bucket with at least that share of the values at or below it; 0 seconds have a bucket of their own.
_QUANTILES = """
    SELECT from_step, to_step, min(seconds) FILTER (running >= 0.5 * whole) AS median_seconds,
           min(seconds) FILTER (running >= 0.9 * whole) AS p90_seconds
    FROM (
        SELECT from_step, to_step, CASE WHEN bucket = -1000 THEN 0 ELSE pow(2, (bucket + 0.5) / 8) END AS seconds,
               sum(n) OVER (PARTITION BY from_step, to_step ORDER BY bucket) AS running,
               sum(n) OVER (PARTITION BY from_step, to_step) AS whole
        FROM (SELECT from_step, to_step, bar.bucket AS bucket, sum(bar.n) AS n
              FROM (SELECT from_step, to_step, unnest(seconds_histogram) AS bar FROM raw_transitions) GROUP BY ALL)
    ) GROUP BY ALL"""

# Every event with its stage, whether it was its session's last, and what came next; an open session has no last event.
_PLACED = """
    SELECT coalesce(stage_order, 1000000) AS stage_order, coalesce(stage, '(no stage)') AS stage, events.channel,
           events.person_id, events.session_id, events.session_index,
           sessions.session_id IS NOT NULL AS closed, coalesce(session_index = sessions.events - 1, false) AS is_last,
           lead(coalesce(stage, '(no stage)')) OVER by_session AS next_stage,
           lead(events.channel) OVER by_session AS next_channel,
           (lead(epoch_us(event_time)) OVER by_session - epoch_us(event_time)) / 1000000 AS seconds_to_next
    FROM events LEFT JOIN stages USING (step) LEFT JOIN sessions USING (session_id)
    WINDOW by_session AS (PARTITION BY events.session_id ORDER BY session_index)"""

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
            SELECT hour, channel, from_step, to_step,
                   list({'bucket': bucket, 'n': n} ORDER BY bucket) AS seconds_histogram
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
        WITH reached AS (
            SELECT funnel, step_index, step, count(DISTINCT person_id) AS persons,
                   count(DISTINCT attempt_id) AS attempts
            FROM funnel_steps GROUP BY ALL),
        counted AS (
            SELECT funnel, step_index, coalesce(funnels.step, reached.step) AS step,
                   coalesce(persons, 0) AS persons, coalesce(attempts, 0) AS attempts
            FROM funnels FULL JOIN reached USING (funnel, step_index))
        SELECT funnel, step_index, step, persons, attempts,
               persons / nullif(first_value(persons) OVER by_step, 0) AS conversion_from_start,
               persons / nullif(lag(persons) OVER by_step, 0) AS conversion_from_previous,
               persons - coalesce(lead(persons) OVER by_step, persons) AS dropped
        FROM counted WINDOW by_step AS (PARTITION BY funnel ORDER BY step_index) ORDER BY funnel, step_index""",
    "time_to_convert": """
        SELECT funnel, step_index, step, count(*) AS arrivals,
               median(seconds_from_entry) AS median_seconds_from_entry,
               quantile_cont(seconds_from_entry, 0.9) AS p90_seconds_from_entry,
               median(seconds_from_previous) AS median_seconds_from_previous,
               quantile_cont(seconds_from_previous, 0.9) AS p90_seconds_from_previous
        FROM funnel_steps WHERE step_index > 0 GROUP BY ALL ORDER BY funnel, step_index""",
    "top_paths": """
        SELECT array_to_string(any_value(steps), ' > ') AS path, any_value(steps) AS steps,
               CAST(sum(sessions) AS BIGINT) AS sessions, sum(sessions) / sum(sum(sessions)) OVER () AS share,
               CAST(sum(events) AS BIGINT) AS events, sum(total_seconds) / sum(sessions) AS mean_seconds
        FROM raw_paths GROUP BY path_hash ORDER BY sessions DESC, path""",
    "step_transitions": f"""
        WITH sums AS (
            SELECT from_step, to_step, CAST(sum(transitions) AS BIGINT) AS transitions,
                   sum(total_seconds) AS total_seconds
            FROM raw_transitions GROUP BY ALL),
        times AS ({_QUANTILES})
        SELECT from_step, to_step, transitions,
               transitions / sum(transitions) OVER (PARTITION BY from_step) AS share_of_exits,
               CASE WHEN median_seconds IS NOT NULL THEN total_seconds / transitions END AS mean_seconds,
               median_seconds, p90_seconds
        FROM sums LEFT JOIN times USING (from_step, to_step) ORDER BY from_step, transitions DESC, to_step""",
    "journey_map": f"""
        WITH placed AS ({_PLACED})
        SELECT stage, channel, count(*) AS events, count(DISTINCT person_id) AS persons,
               count(DISTINCT session_id) AS sessions, count(*) FILTER (is_last) AS left_here,
               count(*) FILTER (is_last) / nullif(count(DISTINCT session_id) FILTER (closed), 0) AS drop_off,
               median(seconds_to_next) AS median_seconds_to_next
        FROM placed GROUP BY stage_order, stage, channel ORDER BY stage_order, channel""",
    "stage_flows": f"""
        WITH placed AS ({_PLACED}),
        moves AS (
            SELECT stage AS from_stage, channel AS from_channel, coalesce(next_stage, '(end)') AS to_stage,
                   coalesce(next_channel, channel) AS to_channel, seconds_to_next AS seconds, session_id
            FROM placed WHERE next_stage IS NOT NULL OR is_last
            UNION ALL
            SELECT '(start)', channel, stage, channel, NULL, session_id FROM placed WHERE session_index = 0)
        SELECT from_stage, from_channel, to_stage, to_channel, count(*) AS moves,
               count(DISTINCT session_id) AS sessions,
               count(*) / sum(count(*)) OVER (PARTITION BY from_stage, from_channel) AS share_of_exits,
               median(seconds) AS median_seconds
        FROM moves GROUP BY from_stage, from_channel, to_stage, to_channel
        ORDER BY from_stage, from_channel, moves DESC, to_stage, to_channel""",
    "live_sessions": """
        SELECT session_id, any_value(person_id) AS person_id, min(event_time) AS started_at,
               max(event_time) AS last_event_at, count(*) AS events, arg_max(step, session_index) AS current_step,
               arg_max(channel, session_index) AS current_channel
        FROM events ANTI JOIN sessions USING (session_id) GROUP BY session_id""",
    "daily_sessions": """
        SELECT dt, count(*) AS sessions, count(DISTINCT person_id) AS persons, CAST(sum(events) AS BIGINT) AS events,
               avg(duration_s) AS mean_duration_s, median(duration_s) AS median_duration_s,
               count(*) FILTER (events = 1) / count(*) AS bounce_share
        FROM sessions GROUP BY dt ORDER BY dt""",
    "persons": """
        SELECT person_id, count(*) AS sessions, count(DISTINCT dt) AS days, CAST(sum(events) AS BIGINT) AS events,
               sum(duration_s) AS total_seconds, min(started_at) AS first_seen_at, max(ended_at) AS last_seen_at,
               list_sort(list_distinct(flatten(list(channels)))) AS channels,
               arg_min(entry_channel, started_at) AS first_channel, arg_max(exit_step, started_at) AS last_step
        FROM sessions GROUP BY person_id""",
}
