"""The figures two runs must agree on, asked in the same words of any warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

FUNNEL = "purchase"
QUERIES = {
    "events": "SELECT count(*) FROM events",
    "sessions": "SELECT count(*) FROM sessions",
    "transitions": "SELECT sum(transitions)::BIGINT FROM transitions",
    "paths": "SELECT count(*) FROM (SELECT DISTINCT dt, steps FROM paths)",
    "funnel_rows": f"SELECT count(*) FROM funnel_steps WHERE funnel = '{FUNNEL}'",
    # Sums rounded: the order of adding floats is not part of the contract.
    "session_seconds": "SELECT round(sum(duration_s))::BIGINT FROM sessions",
    "transition_seconds": "SELECT round(sum(total_seconds))::BIGINT FROM transitions",
    "path_events": "SELECT sum(events)::BIGINT FROM paths",
    "convert_seconds": f"SELECT round(sum(seconds_from_entry))::BIGINT FROM funnel_steps WHERE funnel = '{FUNNEL}'",
}
PERSONS = f"""
    SELECT count(DISTINCT person_id) FROM funnel_steps
    WHERE funnel = '{FUNNEL}' GROUP BY step_index ORDER BY step_index
"""
TABLES = ("events", "sessions", "transitions", "paths", "funnel_steps")


def read_figures(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return the figures of the tables or views that the connection sees."""
    found: dict[str, Any] = {}
    for name, query in QUERIES.items():
        row = connection.execute(query).fetchone()
        found[name] = row[0] if row else None
    found["funnel"] = [row[0] for row in connection.execute(PERSONS).fetchall()]
    return found


def read_warehouse(folder: Path) -> dict[str, Any]:
    """Return the figures of a warehouse that journeystream wrote."""
    with duckdb.connect(str(folder / "journeys.duckdb"), read_only=True) as connection:
        found = read_figures(connection)
        row = connection.execute("SELECT sum(duplicate)::BIGINT FROM ledger").fetchone()
    found["duplicates"] = row[0] if row else None
    return found


def read_parquet_folder(folder: Path) -> dict[str, Any]:
    """Return the figures of a folder with one Parquet file per table."""
    with duckdb.connect() as connection:
        for table in TABLES:
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{folder / table}.parquet')")
        return read_figures(connection)


def list_differences(ours: dict[str, Any], peer: dict[str, Any]) -> list[str]:
    """Return one sentence per figure that both name and that differs."""
    return [f"{name}: {ours[name]} against {peer[name]}" for name in ours if name in peer and ours[name] != peer[name]]
