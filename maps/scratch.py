"""A DuckDB to compute in: on disk, in a folder of its own that goes away with it, and bounded in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

MEMORY = "800MB"  # of 1.5 GB: the limit leaves out what DuckDB reads and parses with
THREADS = 2


@contextmanager
def open_scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty DuckDB in the system's temporary folder; it is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="journeys-check-") as name:
        beside = Path(name)
        # On disk, so that what does not fit into the memory is packed and put aside.
        with closing(duckdb.connect(str(beside / "check.duckdb"))) as connection:
            connection.execute(f"SET memory_limit = '{MEMORY}'")
            connection.execute(f"SET threads = {THREADS}")
            connection.execute("SET temp_directory = $folder", {"folder": str(beside / "spilled")})
            connection.execute("SET preserve_insertion_order = false")
            connection.execute("SET TimeZone = 'UTC'")
            yield connection


def fetch_rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """Fetch rows as JSON values."""
    frame = pl.from_arrow(connection.sql(query).to_arrow_table())
    rows = frame.to_dicts() if isinstance(frame, pl.DataFrame) else []
    return [{name: _to_json(value) for name, value in row.items()} for row in rows]


def _to_json(value: object) -> Any:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    return value
