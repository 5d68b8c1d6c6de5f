"""A DuckDB connection for each thread that asks for one, opened when it does."""

from __future__ import annotations

import threading
from functools import cached_property

import duckdb

# Before 2.0 a line that ends where a value should begin takes the line below it along.
MIXES_LINES = int(duckdb.__version__.split(".")[0]) < 2


class Engine(threading.local):
    """Holds this thread's connection."""

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection, of one thread, that keeps rows in order."""
        return duckdb.connect(config={"threads": 1})
