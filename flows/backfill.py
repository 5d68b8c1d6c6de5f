"""`journeys backfill`: the funnels once more, from `events`, for a changed [funnels]; the job then goes on with them.

Order, so that a kill can't mix two answers: the metadata first say that a backfill has begun, which keeps every
replay from starting; then the recovery store's chains, then one manifest, then the metadata of the new funnels.
Whatever stops it, the same command (with these or other funnels) does all of it again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from config import Config, FunnelRules
from errors import ConfigChangedError
from events.hashing import hash_strings, key_groups
from events.schema import CODED, TABLES
from flows.job import check_settings
from flows.standstill import edit_states, read_states, require_warehouse, settle
from operators.chains import start_chains
from operators.columns import BEGINNING, FOREVER, mark_changes
from operators.funnels import fold_funnel
from operators.journey import GroupState
from operators.open_sessions import OpenSessions
from sinks.catalog import write_catalog
from sinks.manifest import DataFile, Files, Manifest, publish, read_manifest
from sinks.rewriting import read_data, replace_table, write_data
from sinks.storage import (
    Folders,
    hold_publish_lock,
    hold_rewrite_lock,
    hold_writer_lock,
    pass_point,
    write_atomically,
)

TABLE = "funnel_steps"
UNFINISHED = "a backfill was begun"  # no config has this fingerprint
CHUNK_ROWS = 1_000_000
FLUSH_ROWS = 400_000
NEEDED = (
    "event_id",
    "event_time",
    "person_id",
    "channel",
    "step",
    "source_partition",
    "source_position",
    "session_id",
)
ORDER = ("person_hash", "person_id", "event_time", "source_partition", "source_position")


@dataclass(frozen=True)
class BackfillReport:
    """`rows_before` and `rows_after`: of funnel_steps; `events`: how many carried a step of a funnel."""

    version: int
    funnels: tuple[str, ...]
    events: int = 0
    rows_before: int = 0
    rows_after: int = 0
    outcome: str = "nothing_to_do"

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        if self.outcome == "nothing_to_do":
            return "the funnels are those of the warehouse already: nothing to do"
        names = ", ".join(self.funnels) or "none"
        return (
            f"funnels: {names}; {self.events:,} events with a step of one; {TABLE} had {self.rows_before:,} rows,"
            f" now {self.rows_after:,} (version {self.version})"
        )


def backfill_funnels(folders: Folders, config: Config, *, store: Path | None = None) -> BackfillReport:
    """Recompute `funnel_steps` from `events` for the config's funnels, and make the next run go on with them.

    The job must be stopped: raises WarehouseLockedError while it writes, ConfigChangedError if anything but [funnels]
    differs from the warehouse's settings.
    """
    require_warehouse(folders)
    names = tuple(rules.name for rules in config.funnels)
    store = store or folders.recovery
    with hold_writer_lock(folders, "journeys backfill"):
        metadata = require_warehouse(folders)
        check_others(folders, config, metadata)
        if metadata["fingerprint"]["funnels"] == config.fingerprint()["funnels"]:
            return BackfillReport(read_manifest(folders).version, names)
        _, has_store = settle(folders, store)
        with hold_rewrite_lock(folders):
            _save_settings(folders, metadata, {"backfill": True}, UNFINISHED)
            pass_point("backfill_begun")
            report = _Backfill(folders, config, store if has_store else None, int(metadata["key_groups"])).run()
            done = {
                "funnels": {rules.name: list(rules.steps) for rules in config.funnels},
                "funnel_rules": [asdict(rules) for rules in config.funnels],
                "backfill": False,
            }
            _save_settings(folders, metadata, done, config.fingerprint()["funnels"])
            with hold_publish_lock(folders):
                write_catalog(folders, read_manifest(folders))
    return report


def check_others(folders: Folders, config: Config, metadata: dict[str, Any]) -> None:
    """Raise ConfigChangedError if anything but [funnels] differs from the warehouse's settings."""
    same = {**metadata["fingerprint"], "funnels": config.fingerprint()["funnels"]}
    try:
        check_settings(folders, config, {**metadata, "fingerprint": same})
    except ConfigChangedError as error:
        raise ConfigChangedError(
            f"{error.problem} (a backfill changes [funnels] alone)", remedy=error.remedy
        ) from error


def _save_settings(folders: Folders, metadata: dict[str, Any], changes: dict[str, Any], funnels: str) -> None:
    body = {**metadata, **changes, "fingerprint": {**metadata["fingerprint"], "funnels": funnels}}
    write_atomically(folders.inner / "warehouse.json", json.dumps(body, indent=1).encode())


@dataclass
class _Rows:
    """Rows of funnel_steps on their way into files; `last`: the number of the last file."""

    held: list[pl.DataFrame] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)


class _Backfill:
    def __init__(self, folders: Folders, config: Config, store: Path | None, groups: int) -> None:
        self.folders, self.funnels, self.store, self.groups = folders, config.funnels, store, groups
        self.manifest = read_manifest(folders)
        self.base, self.tail = _Rows(), _Rows()
        self.chains: dict[int, dict[str, list[pl.DataFrame]]] = {}
        self.events = 0

    def run(self) -> BackfillReport:
        """Fold all events, then change store and manifest."""
        before = sum(file.rows for file in self.manifest.visible(TABLE))
        states = {group: (state.released, state.open) for group, state in self._read_states()}
        with tempfile.TemporaryDirectory(prefix="journeys-backfill-") as beside:
            chunks = self._divide(Path(beside))
            for chunk in range(self.groups * chunks):
                group = chunk // chunks
                released, open_sessions = states.get(group, (BEGINNING, None))
                self._fold(Path(beside) / str(chunk), group, released, open_sessions)
        self._flush(self.base, 0)
        self._flush(self.tail, 0)
        pass_point("backfill_written")
        if self.store is not None:
            edit_states(self.store, self._change_state)
        pass_point("backfill_states")
        manifest = self._publish()
        pass_point("backfill_published")
        after = sum(file.rows for file in manifest.visible(TABLE))
        names = tuple(rules.name for rules in self.funnels)
        return BackfillReport(manifest.version, names, self.events, before, after, "recomputed")

    def _read_states(self) -> Iterator[tuple[int, GroupState]]:
        yield from read_states(self.store) if self.store is not None else ()

    def _divide(self, beside: Path) -> int:
        """Put the events that matter into files of persons who belong together; returns the chunks a key group has."""
        wanted = sorted({step for rules in self.funnels for step in rules.steps})
        total = sum(file.rows for file in self.manifest.visible("events"))
        chunks = 1 + total // (CHUNK_ROWS * self.groups)
        for part, files in (("base", self.manifest.files), ("tail", self.manifest.tail)):
            for number, file in enumerate(files.get("events", ())):
                events = read_data(self.folders, "events", file.path, NEEDED).filter(pl.col("step").is_in(wanted))
                self.events += events.height
                hashes = hash_strings(events["person_id"])
                events = events.with_columns(
                    pl.Series("person_hash", hashes, dtype=pl.UInt64),
                    pl.Series("chunk", _find_chunks(hashes, self.groups, chunks), dtype=pl.Int64),
                )
                for (chunk,), rows in events.partition_by("chunk", as_dict=True, include_key=False).items():
                    folder = beside / str(chunk)
                    folder.mkdir(exist_ok=True)
                    rows.write_ipc(folder / f"{part}-{number:06d}.arrow", compression="lz4")
        return chunks

    def _fold(self, folder: Path, group: int, released: int, open_sessions: OpenSessions | None) -> None:
        base, tail = (_read_chunk(folder, part) for part in ("base", "tail"))
        for rules in self.funnels:
            chains = start_chains()
            for events, rows, watermark in ((base, self.base, released), (tail, self.tail, FOREVER)):
                done = fold_funnel(events, _find_starts(events), chains, rules, watermark)
                if done.reached.height:
                    rows.held.append(done.reached)
                chains = done.chains
                if rows is self.base:
                    self._keep(group, rules, chains, open_sessions)
        self._flush(self.base, FLUSH_ROWS)
        self._flush(self.tail, FLUSH_ROWS)

    def _keep(self, group: int, rules: FunnelRules, chains: pl.DataFrame, open_sessions: OpenSessions | None) -> None:
        # As the job does: chains within a session end with it.
        if rules.scope == "session" and open_sessions is not None:
            chains = chains.filter(pl.col("scope_id").is_in(open_sessions.name_ids().implode()))
        self.chains.setdefault(group, {}).setdefault(rules.name, []).append(chains)

    def _flush(self, rows: _Rows, enough: int) -> None:
        if not rows.held or sum(frame.height for frame in rows.held) < enough:
            return
        frame, rows.held = pl.concat(rows.held), []
        which = "tail" if rows is self.tail else "base"
        for (day,), part in sorted(frame.partition_by("dt", as_dict=True).items()):
            stem = f"backfill-{self.manifest.version + 1:07d}-{which}-{len(rows.files):05d}"
            typed = [pl.col(name).cast(dtype) for name, dtype in TABLES[TABLE].items()]
            ordered = part.select(typed).sort("funnel", "person_id", "entered_at", "step_index")
            rows.files.append(write_data(self.folders, TABLE, str(day), stem, ordered))

    def _change_state(self, group: int, state: GroupState) -> GroupState:
        chains = {
            name: pl.concat(parts).sort("scope_key", "level", maintain_order=True)
            for name, parts in self.chains.get(group, {}).items()
        }
        return replace(state, chains=chains)

    def _publish(self) -> Manifest:
        files: Files = replace_table(self.manifest.files, TABLE, self.base.files)
        tail: Files = replace_table(self.manifest.tail, TABLE, self.tail.files)
        with hold_publish_lock(self.folders):
            manifest = publish(self.folders, replace(self.manifest, files=files, tail=tail))
            write_catalog(self.folders, manifest)
        return manifest


def _find_chunks(hashes: np.ndarray[Any, np.dtype[np.uint64]], groups: int, chunks: int) -> np.ndarray[Any, Any]:
    """Give each person its chunk, from 0; the chunks of a key group follow one another."""
    within = (hashes & np.uint64(0xFFFFFFFF)) % np.uint64(chunks)
    return key_groups(hashes, groups).astype(np.int64) * chunks + within.astype(np.int64)


def _read_chunk(folder: Path, part: str) -> pl.DataFrame:
    frames = [pl.read_ipc(path) for path in sorted(folder.glob(f"{part}-*.arrow"))]
    if not frames:
        return pl.DataFrame()
    events = pl.concat(frames).sort(*ORDER)
    # Events without a step of a funnel are left out, so a session begins at its first one that is left.
    return events.with_columns(
        pl.col("step", "channel").cast(CODED),
        (pl.col("session_id") == pl.col("session_id").shift(1)).fill_null(False).cast(pl.Int32).alias("session_index"),
    )


def _find_starts(events: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    if events.height == 0:
        return np.empty(0, dtype=np.int64)
    changes = mark_changes(events["person_hash"].to_numpy())
    person = events["person_id"]
    changes[1:] |= (person.slice(1) != person.slice(0, person.len() - 1)).to_numpy()
    return np.flatnonzero(changes)
