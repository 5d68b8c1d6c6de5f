"""Commands on a warehouse as processes of their own, so that they can be killed or halted at a named point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from events.schema import TABLES
from maps.check import check_warehouse
from sinks.catalog import open_views
from sinks.storage import FAIL_AT, Folders

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0


def start_command(code: str, *arguments: str, fail_at: str = "") -> subprocess.Popen[str]:
    """Start Python code with arguments; `fail_at`: point, point:n or point:n:signal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), FAIL_AT: fail_at}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_command(code: str, *arguments: str, point: str) -> None:
    """Run Python code that must be killed at a point."""
    process = start_command(code, *arguments, fail_at=point)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, f"{point} was not passed: {err}"


@contextmanager
def halt_command(code: str, *arguments: str, point: str) -> Iterator[None]:
    """Hold Python code up at a point while the body runs, then let it go on to its end, which must be a good one."""
    process = start_command(code, *arguments, fail_at=f"{point}:1:{int(signal.SIGSTOP)}")
    try:
        _wait_until_halted(process)
        yield
        # It halts each time that it passes the point.
        until = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < until:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
    finally:
        process.kill()
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err


def _wait_until_halted(process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "Tt":
            return
        time.sleep(0.01)
    raise TimeoutError("the command did not halt")


def read_tables(folders: Folders, where: str = "true") -> dict[str, list[str]]:
    """Return every row of every table as text, seconds to the microsecond, sorted; `where` is for tables of persons."""
    connection, _ = open_views(folders)
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        return {table: sorted(_read_rows(connection, table, where)) for table in TABLES}


def _read_rows(connection: duckdb.DuckDBPyConnection, table: str, where: str) -> list[str]:
    described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
    kinds = {name: kind for name, kind, *_ in described}
    texts = ", ".join(
        f'CAST(round("{name}", 5) AS VARCHAR)' if kind == "DOUBLE" else f'CAST("{name}" AS VARCHAR)'
        for name, kind in kinds.items()
    )
    condition = where if "person_id" in kinds else "true"
    return [repr(row) for row in connection.execute(f"SELECT {texts} FROM {table} WHERE {condition}").fetchall()]


def read_catalog_version(folders: Folders) -> int:
    """Return the version of the manifest whose views the catalog file holds."""
    with duckdb.connect(str(folders.catalog), read_only=True) as connection:
        ((version,),) = connection.execute("SELECT version FROM snapshot").fetchall()
    return int(version)


def list_failed(folders: Folders) -> list[str]:
    """Return the checks that the warehouse does not pass."""
    return [f"{finding.name}: {finding.examples}" for finding in check_warehouse(folders).findings if not finding.ok]
