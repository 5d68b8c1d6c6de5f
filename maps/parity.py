"""`journeys parity`: do two warehouses, of a live job and of a replay of its records, say the same?

Each table is compared as a bag of rows, by hashes that DuckDB counts and, where memory ends, puts aside on disk: a row
that one side has more often than the other differs. Two rows that differ go unseen only if their 64-bit hashes are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from config import SessionRules
from errors import FormatError, UsageError
from maps.parity_report import ParityReport, Row, SideState, TableParity, tell_time
from maps.parity_settled import find_settled
from maps.parity_tables import BEHIND_ALL, Scope
from maps.scratch import fetch_rows, open_scratch
from maps.shell import explain_problem
from maps.status import check_warehouse_exists
from sinks.catalog import create_views
from sinks.manifest import Manifest, read_manifest
from sinks.storage import Folders, read_json

SETTLED = -1
SECTIONS = {"sessions": "[sessions]", "steps": "[[steps]]", "funnels": "[funnels]"}


@dataclass(frozen=True)
class _Side:
    """One of the two, left or right; its views are in the schema NAME_side."""

    name: str
    folders: Folders
    manifest: Manifest
    metadata: dict[str, Any]


def compare_warehouses(
    left: Folders, right: Folders, until: int | None = SETTLED, strict: bool = False, rows: int = 5
) -> ParityReport:
    """Compare two warehouses table by table, row by row; up to `rows` differing rows of each side are in the report.

    `until` (microseconds): what may change after it is left out; SETTLED: what has not settled yet, where one was not
    read to its end; None: nothing is. Raises UsageError where they can't agree.
    """
    sides = _open("left", left), _open("right", right)
    _check_settings(*sides)
    try:
        with open_scratch() as connection:
            for side in sides:
                connection.execute(f"CREATE SCHEMA {side.name}_side")
                connection.execute(f"USE {side.name}_side")
                create_views(connection, side.folders, side.manifest)
            connection.execute("USE main")
            states = _read_state(connection, *sides), _read_state(connection, *sides[::-1])
            settled = [state.settled for state in states if state.settled is not None]
            chosen = min(settled, default=None) if until == SETTLED else until
            scope = Scope(SessionRules(**sides[0].metadata["sessions"]), chosen, strict)
            tables = tuple(_compare(connection, scope, table, rows) for table in scope.tables())
            notes = _explain(connection, scope, sides, states, tables)
    except duckdb.IOException as problem:
        raise explain_problem(problem) from problem
    if chosen is not None and not any(table.rows_left or table.rows_right for table in tables):
        raise UsageError(f"nothing had settled by {tell_time(chosen)}", remedy="wait, or give a later --until")
    return ParityReport(*states, chosen, strict, tables, notes)


def _open(name: str, folders: Folders) -> _Side:
    check_warehouse_exists(folders)
    manifest = read_manifest(folders)
    if not manifest.version:
        raise UsageError(f"{folders.root}: holds no tables", remedy="name a warehouse that was written to")
    metadata: dict[str, Any] = read_json(folders.inner / "warehouse.json")
    if "sessions" not in metadata or "fingerprint" not in metadata:
        raise FormatError(f"{folders.inner / 'warehouse.json'}: is damaged", remedy="replay into a new warehouse")
    return _Side(name, folders, manifest, metadata)


def _check_settings(left: _Side, right: _Side) -> None:
    marks, others = (side.metadata["fingerprint"] for side in (left, right))
    changed = [section for name, section in SECTIONS.items() if marks.get(name) != others.get(name)]
    if changed:
        raise UsageError(
            f"{left.folders.root} and {right.folders.root} were made with other settings in {', '.join(changed)}:"
            " their tables can't be the same",
            remedy="replay with the journey.toml of the live job into a new --warehouse",
        )


def _read_state(connection: duckdb.DuckDBPyConnection, side: _Side, other: _Side) -> SideState:
    newest = _count(connection, f"SELECT coalesce(epoch_us(max(event_time)), -1) FROM {side.name}_side.events")
    waiting = _count(
        connection, f"SELECT sum(received - accepted - duplicate - late - dead) FROM {side.name}_side.raw_ledger"
    )
    connection.execute(f"CREATE TABLE {side.name}_side.open_sessions (session_id VARCHAR)")
    settled = None
    if not side.manifest.complete:
        settled = find_settled(connection, side.name, other.name, int(side.metadata["key_groups"]))
        connection.execute(
            f"INSERT INTO {side.name}_side.open_sessions"
            f" SELECT DISTINCT session_id FROM {side.name}_side.events ANTI JOIN {side.name}_side.sessions USING (session_id)"
        )
    return SideState(
        warehouse=str(side.folders.root),
        name=side.name,
        version=side.manifest.version,
        complete=bool(side.manifest.complete),
        newest_event=None if newest < 0 else newest,
        open_sessions=_count(connection, f"SELECT count(*) FROM {side.name}_side.open_sessions"),
        events=sum(file.rows for file in side.manifest.visible("events")),
        waiting=waiting,
        settled=settled,
    )


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0] or 0)


def _compare(connection: duckdb.DuckDBPyConnection, scope: Scope, table: str, rows: int) -> TableParity:
    left, right = scope.select("left", table), scope.select("right", table)
    mark = _write_hash(scope.columns(table))
    connection.execute(f"""
        CREATE OR REPLACE TABLE main.differing AS
        SELECT mark, CAST(sum(l) AS BIGINT) AS l, CAST(sum(r) AS BIGINT) AS r
        FROM (SELECT {mark} AS mark, 1 AS l, 0 AS r FROM ({left})
              UNION ALL SELECT {mark}, 0, 1 FROM ({right}))
        GROUP BY mark HAVING sum(l) <> sum(r)""")
    only_left = _count(connection, "SELECT sum(l - r) FROM main.differing WHERE l > r")
    only_right = _count(connection, "SELECT sum(r - l) FROM main.differing WHERE r > l")
    shown = _list_differing(connection, scope, table, rows) if only_left or only_right else ((), ())
    return TableParity(
        table,
        _count(connection, f"SELECT count(*) FROM ({left})"),
        _count(connection, f"SELECT count(*) FROM ({right})"),
        only_left,
        only_right,
        scope.key(table),
        *shown,
    )


def _write_hash(columns: tuple[str, ...]) -> str:
    # An empty list has the hash of no list at all.
    names = [f'"{name}"' for name in columns]
    return f"hash({', '.join([*names, *(f'{name} IS NULL' for name in names)])})"


def _list_differing(
    connection: duckdb.DuckDBPyConnection, scope: Scope, table: str, rows: int
) -> tuple[tuple[Row, ...], ...]:
    """Fetch the first rows by key that each side has more often; on the right, those of the keys on the left first."""
    key = ", ".join(f'"{column}"' for column in scope.key(table))
    mark, found = _write_hash(scope.columns(table)), []
    for side, more in (("left", "l > r"), ("right", "r > l")):
        first = f"({key}) NOT IN (SELECT ({key}) FROM main.shown_left), " if key and side == "right" else ""
        connection.execute(f"""
            CREATE OR REPLACE TABLE main.shown_{side} AS
            SELECT * FROM (
                SELECT * EXCLUDE (mark, l, r), any_value(l) AS times_left, any_value(r) AS times_right
                FROM (SELECT *, {mark} AS mark FROM ({scope.select(side, table)}))
                JOIN main.differing USING (mark) WHERE {more} GROUP BY ALL)
            ORDER BY {first}{key or "ALL"} LIMIT {rows}""")
        found.append(tuple(fetch_rows(connection, f"SELECT * FROM main.shown_{side} ORDER BY {key or 'ALL'}")))
    return tuple(found)


def _explain(
    connection: duckdb.DuckDBPyConnection,
    scope: Scope,
    sides: tuple[_Side, _Side],
    states: tuple[SideState, SideState],
    tables: tuple[TableParity, ...],
) -> tuple[str, ...]:
    """Say what is known about why the two may differ."""
    notes = []
    for side, state in zip(sides, states, strict=True):
        if not state.complete:
            notes.append(state.tell(scope.until))
        if side.manifest.forgotten:
            notes.append(f"{side.name}: a person was forgotten here; what counts people goes on counting them")
    for name, other in (("left", "right"), ("right", "left")):
        closed = f"({scope.select(other, 'sessions')}) SEMI JOIN {name}_side.open_sessions USING (session_id)"
        number = _count(connection, f"SELECT count(*) FROM {closed}")
        if number:
            notes.append(f"{number:,} of the sessions that only {other} has are still open in {name}")
    behind = [
        _count(connection, f"SELECT count(*) FROM ({scope.select(name, 'late_events')}) WHERE reason = '{BEHIND_ALL}'")
        for name in ("left", "right")
    ]
    if behind[0] != behind[1]:
        notes.append(
            f"late behind all partitions: {behind[0]:,} in left, {behind[1]:,} in right;"
            " a live job does not wait for a partition that has been idle, a replay waits for every lane"
        )
    marks, others = (side.metadata["fingerprint"] for side in sides)
    changed = [name for name in marks if name not in SECTIONS and others.get(name, marks[name]) != marks[name]]
    if changed:
        names = ", ".join("[input]" if name == "input" else name for name in changed)
        notes.append(f"{names} is not the same: records may have been read in another way")
    if scope.until is not None:
        kept = next((table.rows_left, table.rows_right) for table in tables if table.table == "events")
        gone = [state.events - rows for state, rows in zip(states, kept, strict=True)]
        notes.append(f"left out, as not settled: {gone[0]:,} events of left, {gone[1]:,} of right, and what they make")
    return tuple(notes)
