"""A DuckDB connection for each thread that asks for one, opened when it does."""

from __future__ import annotations

import threading
from functools import cached_property

import duckdb

# DuckDB 1 gives up the line behind one that ends too soon: both become nulls.
LOSES_LINES = duckdb.__version__.startswith("1.")


class Engine(threading.local):
    """Holds this thread's connection."""

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection, of one thread, that keeps rows in order."""
        return duckdb.connect(config={"threads": 1})
