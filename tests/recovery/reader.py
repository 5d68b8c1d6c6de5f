"""A reader as a process of its own: reads all tables again and again and checks that they are of one epoch.

    python tests/recovery/reader.py WAREHOUSE views|globs READS

`views` opens `journeys.duckdb` anew for every read. `globs` is the control: it takes whatever Parquet files are there,
as a reader would who knows nothing of manifests, and has to be caught with tables that do not belong together.
Ends after so many reads, or when its standard input is closed; prints what it saw as JSON.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections import Counter
from pathlib import Path

import duckdb

from events.schema import TABLES

# What holds between the tables of every epoch, whatever was read so far.
INVARIANTS = {
    "every accepted event is in events": "events_n = ledger_accepted",
    "every session of events began with (start)": "started = events_sessions",
    "every closed session ended with (end)": "ended = sessions_n",
    "every event is where one transition leads": "arrived = events_n",
    "closed sessions hold their events": "sessions_events = closed_events",
    "paths count every closed session": "paths_sessions = sessions_n AND paths_events = sessions_events",
    "late and dead records are as in the ledger": "late_n = ledger_late AND dead_n = ledger_dead",
    "every product event begins an attempt": "attempts = products",
}
PAUSE_S = {"views": 0.02, "globs": 0.3}
FACTS = {
    "events_n": "SELECT count(*) FROM events",
    "events_sessions": "SELECT count(DISTINCT session_id) FROM events",
    "closed_events": "SELECT count(*) FROM events SEMI JOIN sessions USING (session_id)",
    "products": "SELECT count(*) FROM events WHERE step = 'product'",
    "sessions_n": "SELECT count(*) FROM sessions",
    "sessions_events": "SELECT coalesce(sum(events), 0) FROM sessions",
    "started": "SELECT coalesce(sum(transitions), 0) FROM transitions WHERE from_step = '(start)'",
    "ended": "SELECT coalesce(sum(transitions), 0) FROM transitions WHERE to_step = '(end)'",
    "arrived": "SELECT coalesce(sum(transitions), 0) FROM transitions WHERE to_step <> '(end)'",
    "paths_sessions": "SELECT coalesce(sum(sessions), 0) FROM paths",
    "paths_events": "SELECT coalesce(sum(events), 0) FROM paths",
    "late_n": "SELECT count(*) FROM late_events",
    "dead_n": "SELECT count(*) FROM dead_letters",
    "ledger_accepted": "SELECT coalesce(sum(accepted), 0) FROM ledger",
    "ledger_late": "SELECT coalesce(sum(late), 0) FROM ledger",
    "ledger_dead": "SELECT coalesce(sum(dead), 0) FROM ledger",
    "attempts": "SELECT count(*) FROM funnel_steps WHERE funnel = 'buy' AND step_index = 0",
}


def open_catalog(root: Path) -> duckdb.DuckDBPyConnection:
    """Open the warehouse's catalog, as any client does."""
    return duckdb.connect(str(root / "journeys.duckdb"), read_only=True)


def open_globs(root: Path) -> duckdb.DuckDBPyConnection:
    """Make views over all files that are there."""
    connection = duckdb.connect()
    for table in TABLES:
        pattern = f"{root}/{table}/**/*.parquet"
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{pattern}', hive_partitioning = true)")
    connection.execute("CREATE VIEW snapshot AS SELECT 0 AS version")
    return connection


def read_once(root: Path, kind: str) -> tuple[int, list[str]]:
    """Read every table in one session; return the version and, if invariants did not hold, which and the facts."""
    with open_catalog(root) if kind == "views" else open_globs(root) as connection:
        connection.execute("SET threads = 1")
        ((before,),) = connection.execute("SELECT version FROM snapshot").fetchall()
        facts = {}
        for name, query in FACTS.items():
            ((facts[name],),) = connection.execute(query).fetchall()
        ((after,),) = connection.execute("SELECT version FROM snapshot").fetchall()
        values = ", ".join(f"{value} AS {name}" for name, value in facts.items())
        checks = ", ".join(INVARIANTS.values())
        (held,) = connection.execute(f"SELECT {checks} FROM (SELECT {values})").fetchall()
    broken = [name for name, holds in zip(INVARIANTS, held, strict=True) if not holds]
    broken += [] if before == after else [f"began at {before}, ended at {after}"]
    return before, [f"version {before}: {'; '.join(broken)}: {facts}"] if broken else []


def main() -> None:
    """Read until told to stop, and print a summary."""
    root, kind, most = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    reads, versions, torn, errors = 0, Counter[int](), list[str](), list[str]()
    while reads < most and not select.select([sys.stdin], [], [], 0)[0]:
        try:
            version, broken = read_once(root, kind)
        except duckdb.Error as problem:
            if kind == "views" and not versions and "does not exist" in str(problem):
                time.sleep(0.02)  # the job has not yet made its catalog
                continue
            errors.append(f"{type(problem).__name__}: {str(problem)[:300]}")
        else:
            versions[version] += 1
            torn += broken
        reads += 1
        time.sleep(PAUSE_S[kind])
    examples = [*torn[:3], *errors[:3]]
    counts = {"reads": reads, "versions": len(versions), "torn": len(torn), "errors": len(errors)}
    print(json.dumps({**counts, "examples": examples}))


if __name__ == "__main__":
    main()
