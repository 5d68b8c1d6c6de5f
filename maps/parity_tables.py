"""What of each table two warehouses of the same records have in common, as DuckDB SQL over one side's views."""

from __future__ import annotations

from dataclasses import dataclass

from config import DAY, HOUR, SessionRules
from events.schema import TABLES

PLACES = ("source", "source_partition", "source_position")  # a topic's names and offsets, or files, lanes and lines
RECEIVED = "received_at"  # a broker's time of a message, where the record has none; files have nothing to say of it
BEHIND_ALL = "behind_all_partitions"
KEYS = {
    "events": ("person_id", "event_time", "event_id"),
    "sessions": ("person_id", "started_at", "session_id"),
    "transitions": ("hour", "channel", "from_step", "to_step"),
    "paths": ("dt", "path_hash"),
    "funnel_steps": ("funnel", "person_id", "reached_at", "attempt_id", "step_index"),
    "late_events": ("person_id", "event_time", "event_id"),
    "dead_letters": ("dt", "reason", "raw"),
    "ledger": (),
}


@dataclass(frozen=True)
class Scope:
    """What is compared: everything, or what had settled `until` (microseconds); `strict`: names of places too."""

    rules: SessionRules
    until: int | None = None
    strict: bool = False

    def tables(self) -> list[str]:
        """Return the tables; what became of a record is counted without a time, so no part of the ledger is settled."""
        return [table for table in TABLES if table != "ledger" or self.until is None]

    def key(self, table: str) -> tuple[str, ...]:
        """Return the columns by which a row of one side finds its like on the other."""
        return ("source", "source_partition") if table == "ledger" and self.strict else KEYS[table]

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the columns that are compared."""
        if table == "ledger":
            return (*self.key(table), "received", "accepted", "duplicate", "late", "dead")
        return tuple(name for name in (*TABLES[table], "dt") if self.strict or name not in (*PLACES, RECEIVED))

    def select(self, side: str, table: str) -> str:
        """Return the query for a side's rows of a table."""
        where = self._settled(table)
        if table == "transitions":
            return _TRANSITIONS.format(side=side, where=where)
        if table == "paths":
            return _PATHS.format(side=side, where=where)
        if table == "ledger":
            key = "".join(f"{name}, " for name in self.key(table))
            counts = ", ".join(f"CAST(coalesce(sum({name}), 0) AS BIGINT) AS {name}" for name in _COUNTS)
            return f"SELECT {key}{counts} FROM {side}_side.raw_ledger" + (" GROUP BY ALL" if key else "")
        columns = ", ".join(self._write(table, name) for name in self.columns(table))
        return f"SELECT {columns} FROM {side}_side.{table} WHERE {where}"

    def _write(self, table: str, name: str) -> str:
        # What came behind all partitions is written down as an event, its place in it, with the watermark of that
        # moment: how far the others had come.
        if table == "late_events" and name in ("watermark", "raw") and not self.strict:
            return f"CASE WHEN reason <> '{BEHIND_ALL}' THEN {name} END AS {name}"
        return f'"{name}"'

    def _settled(self, table: str) -> str:
        """Return the condition for rows that can't change any more once every event before `until` is in."""
        if self.until is None:
            return "true"
        until, gap = self.until, self.rules.gap
        day = "epoch_us(CAST(dt AS TIMESTAMP))"
        return {
            "events": f"event_time < make_timestamptz({until})",
            # A session closes when the watermark has passed its last event by the gap.
            "sessions": f"ended_at < make_timestamptz({until - gap})",
            "transitions": f"hour <= make_timestamptz({until - HOUR})"
            f" AND (to_step <> '(end)' OR hour <= make_timestamptz({until - HOUR - gap}))",
            "paths": f"{day} <= {until - DAY - self.rules.max_session - gap}",
            "funnel_steps": f"reached_at < make_timestamptz({until})",
            "late_events": f"watermark < make_timestamptz({until})",
            "dead_letters": f"{day} <= {until - DAY}",
        }[table]


_COUNTS = ("received", "accepted", "duplicate", "late", "dead")

# Times are summed as whole microseconds: a sum of fractions depends on the order, and so on the commits.
_TRANSITIONS = """
WITH chosen AS (SELECT * FROM {side}_side.raw_transitions WHERE {where}),
sums AS (
    SELECT hour, channel, from_step, to_step, dt, CAST(sum(transitions) AS BIGINT) AS transitions,
           CAST(sum(CAST(round(total_seconds * 1e6) AS BIGINT)) AS BIGINT) / 1e6 AS total_seconds
    FROM chosen GROUP BY ALL),
bars AS (
    SELECT hour, channel, from_step, to_step, dt, bar.bucket AS bucket, CAST(sum(bar.n) AS BIGINT) AS n
    FROM (SELECT hour, channel, from_step, to_step, dt, unnest(seconds_histogram) AS bar FROM chosen) GROUP BY ALL),
histograms AS (
    SELECT hour, channel, from_step, to_step, dt, list({{'bucket': bucket, 'n': n}} ORDER BY bucket) AS histogram
    FROM bars GROUP BY ALL)
SELECT hour, channel, from_step, to_step, transitions, total_seconds,
       coalesce(histogram, []) AS seconds_histogram, dt
FROM sums LEFT JOIN histograms USING (hour, channel, from_step, to_step, dt)"""

_PATHS = """
SELECT steps, path_hash, CAST(sum(sessions) AS BIGINT) AS sessions, CAST(sum(events) AS BIGINT) AS events,
       CAST(sum(CAST(round(total_seconds * 1e6) AS BIGINT)) AS BIGINT) / 1e6 AS total_seconds, dt
FROM {side}_side.raw_paths WHERE {where} GROUP BY dt, path_hash, steps"""
