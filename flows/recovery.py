"""Bytewax's recovery store seen from outside: its resume epoch is the job's commit point.

Two things Bytewax 0.21 leaves to us. It keeps snapshots of a dead run at and past the resume epoch and could load
them later, so `fence` deletes them before every start. And it does not tell a sink when an epoch is durable, so
`read_progress` works that out from the store, as Bytewax itself does when it resumes.

Never call this while Bytewax runs in the same process: it links an SQLite of its own, and two copies of SQLite in
one process break each other's locks on a file (it ends in a bus error).
"""

from __future__ import annotations

import os
import pickle
import re
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bytewax.recovery import init_db_dir

from errors import JourneyError, RecoveryError
from sinks.storage import pass_point

PARTS = 1


@dataclass(frozen=True)
class StoredProgress:
    """Where a job would resume: the epoch, and the state of sources and sinks by key at that point."""

    epoch: int
    sources: dict[str, bytes]
    sinks: dict[str, bytes]


def make_store(folder: Path) -> None:
    """Make an empty store with an identity of its own, unless there is one; a kill leaves all of it or none."""
    if list_parts(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".new-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as beside:
        _init_store(Path(beside))
        (made,) = list_parts(Path(beside))
        with _open(made, write=True) as connection:
            connection.execute(f"PRAGMA application_id = {secrets.randbelow((1 << 31) - 1) + 1}")
            connection.commit()
        pass_point("before_store")
        os.replace(made, folder / made.name)


def _init_store(folder: Path) -> None:
    try:
        init_db_dir(folder, PARTS)
    except BaseException as problem:  # a panic of the engine is no Exception
        clear = explain_panic(problem, folder.parent)
        if clear is None:
            raise
        raise clear from problem


def explain_failure(problem: BaseException, folder: Path) -> BaseException | None:
    """Find what the engine wrapped: an error of ours or of the system, or its own panic over the store; else None."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, (JourneyError, KeyboardInterrupt, OSError)):
            return cause
        cause = cause.__cause__ or cause.__context__
    return explain_panic(problem, folder)


def explain_panic(problem: BaseException, folder: Path) -> RecoveryError | None:
    """Make a clear error of the engine's panic over its store; None if it is about something else."""
    reason = re.search(r'SqliteFailure\(.*?Some\("(.*?)"\)', str(problem), re.DOTALL)
    if reason is None:
        return None
    return RecoveryError(
        f"{folder}: the recovery store can't be written ({reason[1]})",
        remedy="give it space and permission, then run the same command again: it goes on at the last commit",
    )


def read_identity(folder: Path) -> int:
    """Return the number by which a warehouse knows its store again."""
    with _open(list_parts(folder)[0], write=False) as connection:
        return int(connection.execute("PRAGMA application_id").fetchone()[0])


def check_identity(folder: Path, known: int, warehouse: Path) -> None:
    """Raise RecoveryError if the store was used by a warehouse other than the one that knows it as `known`."""
    with _open(list_parts(folder)[0], write=False) as connection:
        used = connection.execute("SELECT 1 FROM exs LIMIT 1").fetchone() is not None
    if used and read_identity(folder) != known:
        raise RecoveryError(
            f"{folder}: is not the recovery store of {warehouse}, another warehouse used it",
            remedy="name the store that belongs to it with --recovery, or replay into a new --warehouse with its own store",
        )


def list_parts(folder: Path) -> list[Path]:
    """List the store's files."""
    return sorted(folder.glob("part-*.sqlite3"))


@contextmanager
def _open(path: Path, *, write: bool) -> Iterator[sqlite3.Connection]:
    mode = "rw" if write else "ro"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=30)) as connection:
            yield connection
    except sqlite3.Error as problem:
        raise RecoveryError(
            f"{path}: the recovery store can't be read ({problem})",
            remedy="restore it from a copy; without one, replay into a new warehouse (the tables here stay readable)",
        ) from problem


def check_store(folder: Path) -> None:
    """Raise RecoveryError if the store is damaged or incomplete."""
    parts = list_parts(folder)
    for path in parts:
        with _open(path, write=False) as connection:
            verdict = connection.execute("PRAGMA quick_check").fetchone()
            if verdict is None or verdict[0] != "ok":
                raise RecoveryError(
                    f"{path}: the recovery store is damaged ({verdict[0] if verdict else 'empty'})",
                    remedy="restore it from a copy; without one, replay into a new warehouse (the tables here stay readable)",
                )
            count = connection.execute("SELECT part_count FROM parts").fetchone()
            if count is None or count[0] != len(parts):
                raise RecoveryError(
                    f"{folder}: the recovery store has {len(parts)} of {count[0] if count else '?'} files",
                    remedy="put the missing part files back, or replay into a new warehouse",
                )


def read_resume_epoch(folder: Path) -> int:
    """Return the epoch at which Bytewax would resume: the least frontier of the last execution's workers."""
    executions: dict[int, tuple[int, int]] = {}
    frontiers: dict[int, dict[int, int]] = {}
    for path in list_parts(folder):
        with _open(path, write=False) as connection:
            for number, workers, resume in connection.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"):
                executions[number] = (workers, resume)
            for number, worker, frontier in connection.execute(
                "SELECT ex_num, worker_index, worker_frontier FROM fronts"
            ):
                frontiers.setdefault(number, {})[worker] = frontier
    if not executions:
        return 1
    last = max(executions)
    workers, resume = executions[last]
    reached = frontiers.get(last, {})
    return min(reached.get(worker, resume) for worker in range(workers))


def read_progress(folder: Path, source_step: str, sink_step: str) -> StoredProgress:
    """Read the resume epoch and the states that are in force at it."""
    epoch = read_resume_epoch(folder)
    return StoredProgress(epoch, _read_states(folder, source_step, epoch), _read_states(folder, sink_step, epoch))


def _read_states(folder: Path, step: str, epoch: int) -> dict[str, bytes]:
    newest: dict[str, tuple[int, bytes | None]] = {}
    for path in list_parts(folder):
        with _open(path, write=False) as connection:
            rows = connection.execute(
                "SELECT state_key, snap_epoch, ser_change FROM snaps WHERE step_id = ? AND snap_epoch < ?",
                (step, epoch),
            )
            for key, at, change in rows:
                if key not in newest or newest[key][0] < at:
                    newest[key] = (at, change)
    # Bytewax pickles what it is given; what we give it is bytes.
    return {key: pickle.loads(change) for key, (_, change) in newest.items() if change is not None}


def fence(folder: Path) -> int:
    """Delete snapshots at and past the resume epoch, leftovers of a dead run; returns how many."""
    epoch = read_resume_epoch(folder)
    removed = 0
    for path in list_parts(folder):
        with _open(path, write=True) as connection:
            removed += connection.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (epoch,)).rowcount
            connection.commit()
    return removed
