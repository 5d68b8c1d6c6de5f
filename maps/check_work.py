"""The connection on which a check works, and how two queries are compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import duckdb

from config import SessionRules
from maps.check_report import Finding
from maps.scratch import fetch_rows
from sinks.manifest import Manifest

EXAMPLES = 10
Origin = tuple[str, str]


@dataclass(frozen=True)
class Allowance:
    """How many rows forgetting took away, as far as the tables that keep counting them still show it.

    `events`, `late_events`, `dead_letters`, `waiting`: by (source, source_partition); `waiting`: received events
    that were still in the reorder buffer. `starts`: events that began a session.
    """

    by_origin: dict[str, Counter[Origin]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    is_forgotten: bool = False

    def of(self, table: str, origin: Origin) -> int:
        """Return the number of rows of one source partition's file that were taken from a table."""
        return self.by_origin.get(table, Counter())[origin]


def read_allowance(manifest: Manifest) -> Allowance:
    """Add up what the manifest says was forgotten.

    What was taken from the tail counts as long as that tail stands; from then on, so do the events that were waiting.
    """
    by_origin: dict[str, Counter[Origin]] = {}
    totals: Counter[str] = Counter()
    for entry in manifest.forgotten:
        has_same_tail = int(entry["run"]) == manifest.run
        parts = [entry["base"], entry["tail"]] if has_same_tail else [entry["base"], {"waiting": entry["waiting"]}]
        for part in parts:
            for name, value in part.items():
                if isinstance(value, int):
                    totals[name] += value
                    continue
                for source, partition, rows in value:
                    by_origin.setdefault(name, Counter())[source, partition] += rows
                    totals[name] += rows
    return Allowance(by_origin, totals, bool(manifest.forgotten))


@dataclass(frozen=True)
class Work:
    """The views of one manifest on a connection of its own, with the rules by which they were made."""

    connection: duckdb.DuckDBPyConnection
    rules: SessionRules
    complete: bool
    allowance: Allowance

    def run(self, query: str, **values: object) -> None:
        """Execute a statement."""
        self.connection.execute(query, values).fetchall()

    def count(self, query: str) -> int:
        """Fetch one number."""
        return int(self.connection.execute(query).fetchall()[0][0] or 0)

    def fetch(self, query: str) -> list[dict[str, Any]]:
        """Fetch rows as JSON values."""
        return fetch_rows(self.connection, query)

    def list_wrong(self, name: str, query: str, note: str = "") -> Finding:
        """Make a finding of a query whose every row is wrong."""
        self.run(f"CREATE OR REPLACE TABLE wrong AS {query}")
        count = self.count("SELECT count(*) FROM wrong")
        examples = self.fetch(f"SELECT * FROM wrong LIMIT {EXAMPLES}") if count else []
        self.run("DROP TABLE wrong")
        return Finding(name, count == 0, count, tuple(examples), note if count else "")

    def compare(self, name: str, table: str, expected: str) -> Finding:
        """Compare two queries as bags of rows, both ways."""
        return self.list_wrong(
            name,
            f"""SELECT 'only in the table' AS difference, * FROM (({table}) EXCEPT ALL ({expected})) UNION ALL
                SELECT 'only in the recomputation' AS difference, * FROM (({expected}) EXCEPT ALL ({table}))""",
            "rows of the table that the events do not give, and rows that they give and the table lacks",
        )
