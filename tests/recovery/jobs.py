"""Start, kill and watch replays that run as processes of their own, and compare the warehouses that they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from events.schema import TABLES
from sinks.manifest import Manifest, read_manifest
from sinks.storage import FAIL_AT, Folders

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
KILLED = -signal.SIGKILL


@dataclass
class Job:
    """A replay told by `told`; `fail_at` names the point of the commit at which it is killed."""

    told: dict[str, Any]
    fail_at: str = ""
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = start_python("tests/recovery/driver.py", json.dumps(self.told), fail_at=self.fail_at)

    @property
    def folders(self) -> Folders:
        return Folders(Path(self.told["warehouse"]))

    def wait(self) -> Ending:
        """Wait for the end."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        return Ending(self.process.returncode, json.loads(lines[-1]) if lines else {}, err)

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Wait until something is so; False if the process ends before it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if reached():
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.002)
        raise TimeoutError("waited too long for the job")

    def wait_for_run(self, number: int) -> bool:
        """Wait until the warehouse's metadata say that run `number` has begun."""
        return self.wait_until(lambda: read_run(self.folders) >= number)

    def wait_for_version(self, version: int) -> bool:
        """Wait until a manifest of that version or a later one is published."""
        return self.wait_until(lambda: read_manifest(self.folders).version >= version)

    def wait_for_events(self) -> bool:
        """Wait until events are visible."""
        return self.wait_until(lambda: bool(read_manifest(self.folders).files.get("events")))

    def send(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)


@dataclass(frozen=True)
class Ending:
    """How a job ended: exit code, what it printed as JSON, and what it said on stderr."""

    code: int
    result: dict[str, Any]
    err: str

    @property
    def outcome(self) -> str:
        return str(self.result.get("outcome", ""))


def start_python(script: str, *arguments: str, fail_at: str = "") -> subprocess.Popen[str]:
    """Start a script of the project in a process of its own, outside this one's signals."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop(FAIL_AT, None)
    if fail_at:
        environment[FAIL_AT] = fail_at
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_job(told: dict[str, Any], fail_at: str = "") -> Ending:
    """Run a job to its end."""
    return Job(told, fail_at).wait()


def finish_job(told: dict[str, Any]) -> Ending:
    """Run a job that must finish."""
    ending = run_job(told)
    assert ending.code == 0, ending.err
    assert ending.outcome in ("finished", "nothing_to_do"), ending
    return ending


def read_run(folders: Folders) -> int:
    """Return the number of the run that the metadata name, 0 if there are none."""
    path = folders.inner / "warehouse.json"
    try:
        return int(json.loads(path.read_bytes())["run"])
    except FileNotFoundError:
        return 0


def read_version(told: dict[str, Any]) -> int:
    """Return the newest manifest's version."""
    return newest_manifest(told).version


def newest_manifest(told: dict[str, Any]) -> Manifest:
    """Return the newest manifest."""
    return read_manifest(Folders(Path(told["warehouse"])))


def count_rows(warehouse: Path) -> dict[str, int]:
    """Count the rows that each table's view shows."""
    with duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True) as connection:
        rows = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchall() for table in TABLES}
    return {table: found[0][0] for table, found in rows.items()}


def compare_warehouses(one: Path, other: Path) -> dict[str, int]:
    """Count, by table, the rows that stand in one of the two only; seconds are compared to the microsecond."""
    found, wanted = (_read_views(root) for root in (one, other))
    differing = {}
    with duckdb.connect() as connection:
        for table in TABLES:
            left, right = found[table], wanted[table]
            assert left.schema == right.schema, table
            columns = ", ".join(
                f'CAST(round("{name}" * 1e6) AS BIGINT) AS "{name}"' if str(kind) == "double" else f'"{name}"'
                for name, kind in zip(left.schema.names, left.schema.types, strict=True)
            )
            connection.register("l", left)
            connection.register("r", right)
            a, b = f"SELECT {columns} FROM l", f"SELECT {columns} FROM r"
            ((differing[table],),) = connection.execute(
                f"SELECT (SELECT count(*) FROM ({a} EXCEPT ALL {b})) + (SELECT count(*) FROM ({b} EXCEPT ALL {a}))"
            ).fetchall()
            connection.unregister("l")
            connection.unregister("r")
    return differing


def _read_views(root: Path) -> dict[str, Any]:
    with duckdb.connect(str(root / "journeys.duckdb"), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return {table: connection.sql(f"SELECT * FROM {table}").to_arrow_table() for table in TABLES}


def assert_same(one: Path, other: Path) -> None:
    """Fail with the tables that differ, and that both hold something to compare."""
    counts = count_rows(other)
    assert counts["events"] > 0, counts
    assert counts["sessions"] > 0, counts
    differing = {table: count for table, count in compare_warehouses(one, other).items() if count}
    assert not differing, f"rows that differ from the uninterrupted run's: {differing}"
