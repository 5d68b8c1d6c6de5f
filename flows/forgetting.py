"""`journeys forget`: a person goes out of every table, every file and the job's own memory, and a receipt says so.

Order, so that a kill leaves nothing that a second call does not finish: records of inboxes and archives are emptied; new
data files under names nobody looks for; the recovery store's states, with a note of what was dropped; one manifest; then
older manifests and their files go.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from clock import Clock, read_system_clock
from errors import UsageError
from flows.standstill import edit_states, read_notes, read_states, require_warehouse, settle
from operators.journey import GroupState
from sinks.catalog import write_catalog
from sinks.forgetting import (
    FileChange,
    Rewritten,
    Target,
    find_persons,
    find_traces,
    look_for,
    mark_rows,
    read_ids,
    redact,
    rewrite_files,
    save_origins,
)
from sinks.manifest import clean_up, list_manifests, publish, read_manifest
from sinks.rewriting import remove_leftovers
from sinks.storage import (
    Folders,
    hold_publish_lock,
    hold_rewrite_lock,
    hold_writer_lock,
    pass_point,
    write_atomically,
)
from sources.redaction import find_records, redact_records


@dataclass(frozen=True)
class Receipt:
    """What was done, without a name: `digest` is HMAC-SHA256 of the id under `salt`, so only who knows the id can ask.

    `removed`: rows by table; `state`: what was dropped from the recovery store; `traces`: where the person was still
    found afterwards (`verified` means nowhere). `devices`, which name the person, are not stored: the devices of the
    removed rows, under which the person may have been seen before they were known.
    """

    salt: str
    digest: str
    forgotten_at: str
    version: int
    persons: int
    files: tuple[FileChange, ...]
    removed: dict[str, int]
    redacted: int
    state: dict[str, int]
    manifests_removed: int
    files_removed: int
    traces: tuple[str, ...]
    devices: tuple[str, ...] = field(default=(), repr=False)

    @property
    def verified(self) -> bool:
        """Tell whether nothing of the person was found afterwards."""
        return not self.traces

    def to_json(self) -> dict[str, Any]:
        """Return what is stored, as JSON values."""
        body = {name: value for name, value in asdict(self).items() if name != "devices"}
        return {"verified": self.verified, **body}

    def __str__(self) -> str:
        changes = [
            f"{change.path}: {change.rows_before} rows, {change.rows_after} stay"
            + (f", {change.redacted} mentions made unreadable" if change.redacted else "")
            for change in self.files
        ]
        rows = ", ".join(f"{count} of {table}" for table, count in self.removed.items() if count) or "none"
        dropped = [f"{count} {name.replace('_', ' ')}" for name, count in self.state.items() if count]
        state = ", ".join(dropped) or "nothing"
        verdict = "every file was read again: nothing of the person is left" if self.verified else "STILL FOUND:"
        also = [f"seen on devices that may be forgotten too: {', '.join(self.devices)}"] if self.devices else []
        return "\n".join(
            [
                *changes,
                f"rows removed: {rows}; dropped from the recovery store: {state}",
                f"{self.files_removed} old files and {self.manifests_removed} old manifests removed",
                verdict,
                *self.traces,
                *also,
            ]
        )


def forget_person(
    folders: Folders, person: str, *, store: Path | None = None, clock: Clock = read_system_clock
) -> Receipt:
    """Remove every row of a person, given as user or device id, from the warehouse and its recovery store.

    The job must be stopped: raises WarehouseLockedError while it writes. What was counted without a name stays
    counted (transitions, paths, ledger). Call it again if it was interrupted.
    """
    if not person.strip():
        raise UsageError("no person given", remedy="name a user or device id")
    require_warehouse(folders)
    store = store or folders.recovery
    with hold_writer_lock(folders, "journeys forget"):
        _, has_store = settle(folders, store)
        with hold_rewrite_lock(folders):
            remove_leftovers(folders)
            receipt = _Forgetting(folders, store if has_store else None, person).run(clock)
    name = f"{receipt.forgotten_at.replace(':', '').replace('-', '')[:15]}-{receipt.digest[:8]}.json"
    (folders.inner / "receipts").mkdir(exist_ok=True)
    write_atomically(folders.inner / "receipts" / name, json.dumps(receipt.to_json(), indent=1).encode())
    return receipt


class _Forgetting:
    def __init__(self, folders: Folders, store: Path | None, person: str) -> None:
        self.folders, self.store = folders, store
        self.manifest = read_manifest(folders)
        persons, devices = find_persons(self._list_ids(), person)
        self.target = Target(person, frozenset(persons))
        self.devices = sorted(devices - {person})
        self.dropped: Counter[str] = Counter()
        self.waiting: Counter[tuple[str, str]] = Counter()

    def _list_ids(self) -> Iterator[pl.DataFrame]:
        yield from read_ids(self.folders, self.manifest)
        for _, state in self._read_states():
            yield state.open.sessions
            for frames in state.buffer.values():
                yield from frames

    def _read_states(self) -> Iterator[tuple[int, GroupState]]:
        yield from read_states(self.store) if self.store is not None else ()

    def run(self, clock: Clock) -> Receipt:
        """Do it, in the order that the module's text gives."""
        # First of all: later, the tables can't tell any more who belongs to a device.
        emptied = redact_records(self.folders.inboxes, self.folders.archive, self.target.any_pattern())
        pass_point("forget_emptied")
        rewritten = rewrite_files(self.folders, self.manifest, self.target)
        pass_point("forget_written")
        notes: dict[str, Any] = {}
        if self.store is not None:
            edit_states(self.store, self._change_state, self._note_waiting)
            notes = read_notes(self.store)
        pass_point("forget_states")
        self._publish(rewritten, notes)
        pass_point("forget_published")
        self.dropped["records_of_inbox_and_archive"] += sum(emptied.values())
        before = len(list_manifests(self.folders))
        files_removed = clean_up(self.folders, keep=1)
        left = find_records(self.folders.inboxes, self.folders.archive, self.target.any_pattern())
        traces = [*find_traces(self.folders, self.target), *self._find_traces_in_states()]
        traces += [f"{path}: {count} records" for path, count in left.items()]
        return self._write_receipt(clock, rewritten, (before - 1, files_removed), traces)

    def _change_state(self, group: int, state: GroupState) -> GroupState | None:
        del group
        changed = replace(state, buffer={}, chains={})
        before = Counter(self.dropped)
        for partition, frames in state.buffer.items():
            changed.buffer[partition] = [self._drop_waiting(frame) for frame in frames]
        mine = state.open.sessions.select(self.target.owns()).to_series()
        sessions = state.open.name_ids().filter(mine)
        kept = state.open.keep((~mine).to_numpy())
        changed.open = replace(kept, sessions=pack(kept.sessions))
        self.dropped["open_sessions"] += sessions.len()
        for name, chains in state.chains.items():
            owners = [*self.target.persons, *sessions]
            gone = chains["scope_id"].is_in(owners)
            changed.chains[name] = pack(chains.filter(~gone))
            self.dropped["funnel_chains"] += int(gone.sum())
        return changed if self.dropped != before else None

    def _drop_waiting(self, frame: pl.DataFrame) -> pl.DataFrame:
        gone = mark_rows(frame, "events", self.target)
        origins = frame.filter(gone).group_by("source", "source_partition").len()
        self.waiting.update({(str(source), str(lane)): count for source, lane, count in origins.iter_rows()})
        kept, redacted = redact(frame.filter(~gone), self.target)
        self.dropped["waiting_events"] += int(gone.sum())
        self.dropped["mentions_in_waiting_events"] += redacted
        return pack(kept)

    def _note_waiting(self) -> dict[str, Any]:
        if not self.waiting:
            return {}
        return {f"forgot-{secrets.token_hex(8)}": {"run": self.manifest.run, "waiting": save_origins(self.waiting)}}

    def _publish(self, rewritten: Rewritten, notes: dict[str, Any]) -> None:
        known = {entry["token"] for entry in self.manifest.forgotten}
        entries = [
            {"token": name, "run": note["run"], "base": {}, "tail": {}, "waiting": note["waiting"]}
            for name, note in notes.items()
            if name.startswith("forgot-") and name not in known
        ]
        if rewritten.changes:
            base, tail = rewritten.base_removed.save(), rewritten.tail_removed.save()
            token = f"files-{secrets.token_hex(8)}"
            entries.append({"token": token, "run": self.manifest.run, "base": base, "tail": tail, "waiting": []})
        if not entries:
            return
        with hold_publish_lock(self.folders):
            forgotten = (*self.manifest.forgotten, *entries)
            changed = replace(self.manifest, files=rewritten.files, tail=rewritten.tail, forgotten=forgotten)
            self.manifest = publish(self.folders, changed)
            write_catalog(self.folders, self.manifest)

    def _find_traces_in_states(self) -> list[str]:
        traces = []
        for group, state in self._read_states():
            frames = [("open sessions", state.open.sessions)]
            frames += [(f"funnel {name}", chains) for name, chains in state.chains.items()]
            frames += [(f"waiting events of {lane}", frame) for lane, held in state.buffer.items() for frame in held]
            for name, frame in frames:
                traces += [f"state of key group {group}, {name}: {found}" for found in self._look(frame)]
        return traces

    def _look(self, frame: pl.DataFrame) -> list[str]:
        found = list(look_for(frame, self.target))
        if "scope_id" in frame.columns:
            count = int(frame["scope_id"].is_in(list(self.target.persons)).sum())
            found += [f"scope_id in {count} rows"] if count else []
        return found

    def _write_receipt(
        self, clock: Clock, rewritten: Rewritten, removed: tuple[int, int], traces: list[str]
    ) -> Receipt:
        salt = secrets.token_hex(16)
        rows: Counter[str] = Counter()
        for change in rewritten.changes:
            rows[change.table] += change.rows_before - change.rows_after
        return Receipt(
            salt,
            hmac.new(bytes.fromhex(salt), self.target.given.encode(), hashlib.sha256).hexdigest(),
            clock().isoformat(timespec="seconds"),
            self.manifest.version,
            len(self.target.persons),
            tuple(rewritten.changes),
            dict(rows),
            sum(change.redacted for change in rewritten.changes),
            dict(self.dropped),
            *removed,
            tuple(traces),
            tuple(self.devices),
        )


def is_receipt_of(receipt: dict[str, Any], person: str) -> bool:
    """Tell whether a stored receipt is that of a person."""
    digest = hmac.new(bytes.fromhex(receipt["salt"]), person.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest, str(receipt["digest"]))


def pack(frame: pl.DataFrame) -> pl.DataFrame:
    """Copy the texts of a frame; a filtered column can still hold the bytes of rows that were taken out."""
    texts = [name for name, dtype in frame.schema.items() if dtype in (pl.String, pl.List(pl.String))]
    oldest = pl.CompatLevel.oldest()
    copies = [pl.Series(name, pl.from_arrow(frame[name].to_arrow(compat_level=oldest))) for name in texts]
    return frame.with_columns(copies)
