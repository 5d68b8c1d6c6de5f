"""Open sessions: one row each, their steps and channels in long tables beside; and what closes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from events.hashing import U64, mix, to_hex
from events.schema import CODED, Schema
from operators.columns import I64, Mask, find_begins, list_runs, mark_changes, pick, read_codes
from operators.paths import hash_paths

SESSIONS: Schema = {
    "person_hash": pl.UInt64,
    "person_id": pl.String,
    "first_hash": pl.UInt64,
    "started_us": pl.Int64,
    "last_us": pl.Int64,
    "events": pl.Int64,
    "moves": pl.Int64,
    "device_id": pl.String,
    "user_id": pl.String,
    "exit_channel": CODED,
    "exit_step": CODED,
}
CLOSED: Schema = {
    "session_id": pl.String,
    "person_id": pl.String,
    "device_id": pl.String,
    "user_id": pl.String,
    "channels": pl.List(pl.String),
    "entry_channel": CODED,
    "exit_channel": CODED,
    "started_us": pl.Int64,
    "last_us": pl.Int64,
    "events": pl.Int64,
    "entry_step": CODED,
    "exit_step": CODED,
    "steps": pl.List(pl.String),
    "path_cut": pl.Boolean,
    "path_high": pl.UInt64,
    "path_low": pl.UInt64,
}
ID_PARTS = ("person_hash", "started_us", "first_hash")
NOTES: Schema = {"session": pl.UInt32, "name": CODED}

Numbers = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class OpenSessions:
    """`sessions`: one row each (SESSIONS; `moves` counts changes of step, `first_hash` hashes the first event's id).

    `steps`, `channels`: rows (row number in `sessions`, name), in order of time within a session (NOTES).
    """

    sessions: pl.DataFrame
    steps: pl.DataFrame
    channels: pl.DataFrame

    @property
    def height(self) -> int:
        """Count the sessions."""
        return self.sessions.height

    def name_ids(self) -> pl.Series:
        """Return the session ids as text; n -> n."""
        return name_sessions({name: self.sessions[name].to_numpy() for name in ID_PARTS})

    def keep(self, kept: Mask) -> OpenSessions:
        """Return the sessions that are marked."""
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        return OpenSessions(
            self.sessions.filter(pl.Series(kept)), _move_notes(self.steps, place), _move_notes(self.channels, place)
        )


def name_sessions(numbers: Numbers) -> pl.Series:
    """Make session ids of the columns ID_PARTS: the hash of person, start and first event, as text; n -> n."""
    parts = [numbers[name].view(np.uint64) for name in ID_PARTS]
    return to_hex(mix(*parts, seed=1), mix(*parts, seed=2))


def start_sessions() -> OpenSessions:
    """Return the state of a stream that has seen no event."""
    return OpenSessions(pl.DataFrame(schema=SESSIONS), pl.DataFrame(schema=NOTES), pl.DataFrame(schema=NOTES))


def _move_notes(notes: pl.DataFrame, place: I64) -> pl.DataFrame:
    moved = place[notes["session"].to_numpy()]
    return notes.with_columns(pl.Series("session", moved)).filter(pl.Series(moved >= 0)).cast({"session": pl.UInt32})


@dataclass(frozen=True)
class Runs:
    """Stretches of rows of one session: first and last row, person, the state row that each goes on with (-1: new).

    `of_row`: the run of each row. `first`: the hash of the id of the session's first event.
    """

    begin: I64
    end: I64
    person: I64
    carried: I64
    of_row: I64
    first: U64


@dataclass(frozen=True)
class Notes:
    """Names noted in a batch: `row` of the event and `run` that it belongs to; rows ascend."""

    column: pl.Series
    row: I64
    run: I64


def merge_runs(events: pl.DataFrame, times: I64, runs: Runs, state: OpenSessions, notes: tuple[Notes, Notes]) -> Merged:
    """Lay the state's sessions and the batch's runs side by side; a session that goes on is its run.

    `notes`: the changes of step and of channel in the batch. State rows come first: 0 to m - 1, then the runs.
    """
    before, m, on = state.sessions, state.height, runs.carried >= 0
    steps, channels = notes

    def carry(name: str, otherwise: I64) -> I64:
        """Give each run the value of the session that it goes on with."""
        return np.where(on, before[name].to_numpy()[np.maximum(runs.carried, 0)], otherwise) if m else otherwise

    target = np.arange(m, dtype=np.int64)
    target[runs.carried[on]] = m + np.flatnonzero(on)
    nothing = np.zeros(runs.begin.size, dtype=np.int64)
    fresh = {
        "person_hash": events["person_hash"].to_numpy()[runs.begin],
        "first_hash": runs.first,
        "started_us": carry("started_us", times[runs.begin]),
        "last_us": times[runs.end],
        "events": carry("events", nothing) + runs.end - runs.begin + 1,
        "moves": carry("moves", nothing) + np.bincount(steps.run, minlength=runs.begin.size),
    }
    numbers = {name: np.concatenate([before[name].to_numpy(), values]) for name, values in fresh.items()}
    first, last = (np.concatenate([np.arange(m), m + rows]) for rows in (runs.begin, runs.end))
    texts = {
        "person_id": (_stack(before["person_id"], events["person_id"]), first),
        "device_id": _find_known("device_id", events, before, runs),
        "user_id": _find_known("user_id", events, before, runs),
        "exit_channel": (_stack(before["exit_channel"], channels.column), last),
        "exit_step": (_stack(before["exit_step"], steps.column), last),
    }
    logs = (_join_notes(state.steps, steps, target), _join_notes(state.channels, channels, target))
    return Merged(numbers, texts, logs)


def _stack(held: pl.Series, fresh: pl.Series) -> pl.Series:
    return pl.concat([held, fresh.alias(held.name)], rechunk=True) if held.len() else fresh


def _find_known(name: str, events: pl.DataFrame, before: pl.DataFrame, runs: Runs) -> tuple[pl.Series, I64]:
    """Point to each session's first known value: the state's, else the first in the run, else a null."""
    held, m = before[name], before.height
    if name not in events.columns:
        gap = np.full(runs.begin.size, m, dtype=np.int64)
        column = _stack(held, pl.Series(name, [None], dtype=pl.String))
    else:
        fresh = events[name]
        column, gap = _stack(held, fresh), m + _find_first_known(fresh, runs)
    known = held.is_not_null().to_numpy()[np.maximum(runs.carried, 0)] & (runs.carried >= 0) if m else False
    return column, np.concatenate([np.arange(m), np.where(known, runs.carried, gap)])


def _find_first_known(column: pl.Series, runs: Runs) -> I64:
    if column.null_count() in (0, column.len()):
        return runs.begin
    known = np.where(column.is_not_null().to_numpy(), np.arange(column.len()), column.len())
    found: I64 = np.minimum.accumulate(known[::-1])[::-1][runs.begin]
    return np.where(found <= runs.end, found, runs.begin)


@dataclass(frozen=True)
class _Log:
    """Notes of all sessions: `owner` among the merged sessions, and the `row` of `column` that holds the name."""

    owner: I64
    row: I64
    column: pl.Series

    def select(self, place: I64) -> tuple[I64, I64]:
        """Return (place of the owner, row) of the notes whose owner has a place (not -1), in order."""
        placed = place[self.owner]
        kept = np.flatnonzero(placed >= 0)
        return placed[kept], self.row[kept]


def _join_notes(held: pl.DataFrame, fresh: Notes, target: I64) -> _Log:
    owner = np.concatenate([target[held["session"].to_numpy()], target.size + fresh.run])
    row = np.concatenate([np.arange(held.height), held.height + fresh.row])
    return _Log(owner, row, _stack(held["name"], fresh.column))


@dataclass(frozen=True)
class Merged:
    """The sessions of state and batch: numbers, texts as (column, row in it), and logs of steps and of channels."""

    numbers: Numbers
    texts: dict[str, tuple[pl.Series, I64]]
    logs: tuple[_Log, _Log]

    def take_open(self, rows: I64, max_steps: int) -> OpenSessions:
        """Make the state of these sessions; names past `max_steps` and repeated channels are dropped."""
        columns = {name: pl.Series(name, values[rows]) for name, values in self.numbers.items()}
        columns |= {name: pick(column, at[rows]).alias(name) for name, (column, at) in self.texts.items()}
        frame = pl.DataFrame([columns[name] for name in SESSIONS])
        steps, channels = self._select(rows)
        owner, row = steps
        kept = _count_up(owner) < max_steps
        return OpenSessions(
            frame,
            self._note(self.logs[0], owner[kept], row[kept]),
            self._note(self.logs[1], *_drop_repeats(*channels, self.logs[1].column)),
        )

    def take_closed(self, rows: I64, max_steps: int) -> pl.DataFrame:
        """Make a frame (CLOSED) of these sessions; n -> n."""
        numbers = {name: values[rows] for name, values in self.numbers.items()}
        texts = {name: pick(column, at[rows]) for name, (column, at) in self.texts.items()}
        steps, channels = self._select(rows)
        owner, row = _drop_repeats(*channels, self.logs[1].column)
        visited, where = pick(self.logs[1].column, row), np.bincount(owner, minlength=rows.size)
        owner, row = steps
        kept = _count_up(owner) < max_steps
        path, lengths = pick(self.logs[0].column, row[kept]), np.bincount(owner[kept], minlength=rows.size)
        high, low = hash_paths(path, lengths)
        return pl.DataFrame(
            {
                "session_id": name_sessions(numbers),
                "person_id": texts["person_id"],
                "device_id": texts["device_id"],
                "user_id": texts["user_id"],
                "channels": list_runs(visited.cast(pl.String), where),
                "entry_channel": pick(visited, find_begins(where)),
                "exit_channel": texts["exit_channel"],
                "started_us": numbers["started_us"],
                "last_us": numbers["last_us"],
                "events": numbers["events"],
                "entry_step": pick(path, find_begins(lengths)),
                "exit_step": texts["exit_step"],
                "steps": list_runs(path.cast(pl.String), lengths),
                "path_cut": numbers["moves"] > max_steps,
                "path_high": high,
                "path_low": low,
            },
            schema=CLOSED,
        )

    def _select(self, rows: I64) -> tuple[tuple[I64, I64], tuple[I64, I64]]:
        place = np.full(self.numbers["last_us"].size, -1, dtype=np.int64)
        place[rows] = np.arange(rows.size)
        steps, channels = (_sort_notes(*log.select(place)) for log in self.logs)
        return steps, channels

    @staticmethod
    def _note(log: _Log, owner: I64, row: I64) -> pl.DataFrame:
        session = pl.Series("session", owner.astype(np.uint32))
        return pl.DataFrame([session, pick(log.column, row).alias("name")])


def _sort_notes(owner: I64, row: I64) -> tuple[I64, I64]:
    order = np.argsort(owner, kind="stable")
    return owner[order], row[order]


def _count_up(owner: I64) -> I64:
    """Number the notes of each owner from 0; owners are contiguous."""
    rows = np.arange(owner.size, dtype=np.int64)
    return rows - np.maximum.accumulate(np.where(mark_changes(owner), rows, 0))


def _drop_repeats(owner: I64, row: I64, column: pl.Series) -> tuple[I64, I64]:
    """Keep each owner's first note of a name; owners are contiguous."""
    several = ~mark_changes(owner)
    if not several.any():
        return owner, row
    several[:-1] |= several[1:]
    rows = np.flatnonzero(several)
    codes = read_codes(column)[row[rows]]
    first = np.unique(owner[rows] * (int(codes.max()) + 1) + codes, return_index=True)[1]
    kept = ~several
    kept[rows[first]] = True
    return owner[kept], row[kept]
