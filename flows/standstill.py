"""A warehouse at rest: bring it to the last durable epoch, and change the states that the next run goes on from.

Never while Bytewax runs in the same process: see `flows.recovery`.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from errors import RecoveryError, WarehouseError
from flows.graph import FLOW, SINK_STEP, SOURCE_STEP
from flows.job import read_metadata
from flows.recovery import check_identity, check_store, fence, list_parts, read_progress, read_resume_epoch
from operators.journey import GroupState
from operators.state import load_state, save_state
from sinks.manifest import Manifest, read_manifest, remove_orphans
from sinks.publishing import discard_undurable, publish_durable
from sinks.storage import Folders, pass_point

GROUP_STEP = f"{FLOW}.journey"
NOTES = "CREATE TABLE IF NOT EXISTS journeys_notes (name TEXT NOT NULL PRIMARY KEY, note TEXT NOT NULL) STRICT"

Change = Callable[[int, GroupState], GroupState | None]


def require_warehouse(folders: Folders) -> dict[str, Any]:
    """Read the metadata of a warehouse; raises WarehouseError where there is none."""
    metadata = read_metadata(folders)
    if not metadata:
        raise WarehouseError(f"{folders.root}: is no warehouse", remedy="name the --warehouse that a replay wrote")
    return metadata


def settle(folders: Folders, store: Path) -> tuple[Manifest, bool]:
    """Publish what is durable and discard the rest, as the next replay would; the caller holds the writer lock.

    Returns the newest manifest, and whether there is a recovery store to go on from.
    """
    metadata = require_warehouse(folders)
    if not metadata.get("store") and not list_parts(store):
        remove_orphans(folders, discard_undurable(folders, {}))
        return read_manifest(folders), False
    if not list_parts(store):
        raise RecoveryError(
            f"{store}: the recovery store of {folders.root} is missing",
            remedy="put it back, or name it with --recovery: it holds open sessions, and so persons",
        )
    check_store(store)
    check_identity(store, int(metadata.get("store", 0)), folders.root)
    fence(store)
    progress = read_progress(store, SOURCE_STEP, SINK_STEP)
    durable = {part: int(state) for part, state in progress.sinks.items()}
    ahead = [part for part, commits in read_manifest(folders).parts.items() if commits > durable.get(part, 0)]
    if ahead:
        raise RecoveryError(
            f"{store}: the recovery store is older than the tables of {folders.root} (writer {ahead[0]})",
            remedy="put the store back that belongs to this warehouse",
        )
    manifest = publish_durable(folders, durable, progress.epoch)
    remove_orphans(folders, discard_undurable(folders, durable))
    return manifest, True


def read_states(store: Path) -> Iterator[tuple[int, GroupState]]:
    """Yield every key group's number and the state that the next run would go on from."""
    epoch = read_resume_epoch(store)
    for path in list_parts(store):
        with _open(path) as connection:
            for key, _, change in _find_states(connection, epoch):
                yield int(key), load_state(pickle.loads(change))


def edit_states(store: Path, change: Change, notes: Callable[[], Mapping[str, Any]] = dict) -> None:
    """Change the states of key groups; a note that belongs to the change is written in the same transaction.

    `change` returns None for a state that stays. Older states are deleted, and the file is packed, so that nothing of
    them is left in it.
    """
    epoch = read_resume_epoch(store)
    for path in list_parts(store):
        with _open(path) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(NOTES)
            for key, at, state in _find_states(connection, epoch):
                where = (GROUP_STEP, key, at)
                connection.execute("DELETE FROM snaps WHERE step_id = ? AND state_key = ? AND snap_epoch < ?", where)
                changed = change(int(key), load_state(pickle.loads(state)))
                if changed is not None:
                    body = pickle.dumps(save_state(changed))
                    connection.execute(
                        "UPDATE snaps SET ser_change = ? WHERE step_id = ? AND state_key = ? AND snap_epoch = ?",
                        (body, *where),
                    )
            for name, note in notes().items():
                connection.execute("INSERT OR REPLACE INTO journeys_notes VALUES (?, ?)", (name, json.dumps(note)))
            pass_point("before_states")
            connection.execute("COMMIT")
            pass_point("after_states")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def read_notes(store: Path) -> dict[str, Any]:
    """Read all notes that were written with changes of states."""
    notes: dict[str, Any] = {}
    for path in list_parts(store):
        with _open(path) as connection:
            connection.execute(NOTES)
            notes |= {name: json.loads(note) for name, note in connection.execute("SELECT * FROM journeys_notes")}
    return notes


def _find_states(connection: sqlite3.Connection, epoch: int) -> list[tuple[str, int, bytes]]:
    rows = connection.execute(
        """SELECT state_key, snap_epoch, ser_change FROM snaps JOIN (
               SELECT step_id, state_key, max(snap_epoch) AS snap_epoch FROM snaps
               WHERE step_id = ? AND snap_epoch < ? GROUP BY step_id, state_key
           ) USING (step_id, state_key, snap_epoch) WHERE ser_change IS NOT NULL ORDER BY state_key""",
        (GROUP_STEP, epoch),
    )
    return rows.fetchall()


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=30, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as problem:
        raise RecoveryError(
            f"{path}: the recovery store can't be changed ({problem})",
            remedy="restore it from a copy; without one, replay into a new warehouse (the tables here stay readable)",
        ) from problem
