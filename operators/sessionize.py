"""Sessions by inactivity gap and longest length, as a fold over ordered events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from config import SessionRules
from events.hashing import hash_strings, mix, to_hex
from events.schema import CODED, STRINGS, Schema
from operators.columns import I64, Mask, first_known, list_runs, mark_changes, read_us, to_mask, to_utc

OPEN_SESSIONS: Schema = {
    "person_hash": pl.UInt64,
    "person_id": pl.String,
    "session_id": pl.String,
    "started_us": pl.Int64,
    "last_us": pl.Int64,
    "events": pl.Int64,
    "device_id": pl.String,
    "user_id": pl.String,
    "channels": STRINGS,
    "exit_channel": pl.String,
    "entry_step": pl.String,
    "exit_step": pl.String,
    "steps": STRINGS,
    "path_cut": pl.Boolean,
}


@dataclass(frozen=True)
class Sessionized:
    """`events`: the input plus session_id, session_index, previous_step, previous_us (null at a session's start).

    `closed` and `open` have the columns of OPEN_SESSIONS, one row a session.
    """

    events: pl.DataFrame
    closed: pl.DataFrame
    open: pl.DataFrame


def start_sessions() -> pl.DataFrame:
    """Return the state of a stream that has seen no event."""
    return pl.DataFrame(schema=OPEN_SESSIONS)


def sessionize(
    events: pl.DataFrame, starts: I64, state: pl.DataFrame, rules: SessionRules, watermark: int
) -> Sessionized:
    """Fold ordered events into sessions and close those the watermark has passed.

    Input: `events` ordered by person and time, no null step or channel; `starts`: first row of each person;
    `state`: the open sessions, one a person. n -> n events; a session closes when a later one of the person
    begins or `watermark` > last event + gap. Semantics: docs/semantics.md, Sessions.
    """
    if events.height == 0:
        closed, still_open = close_sessions(state, rules, watermark)
        return Sessionized(events, closed, still_open)
    carried = match_state(events, starts, state)
    times = read_us(events["event_time"])
    runs = _cut_sessions(times, starts, carried, state, rules)
    numbered = _number_events(events, times, runs, state)
    sessions = _merge_carried(_summarise(numbered, times, runs), runs, state, rules)
    last_of_person = np.ones(len(runs.begin), dtype=np.bool_)
    last_of_person[:-1] = runs.person[1:] != runs.person[:-1]
    touched = np.zeros(state.height, dtype=np.bool_)
    touched[carried[carried >= 0]] = True
    # A person's open session ends here if the first event did not go on with it.
    goes_on = np.zeros(state.height, dtype=np.bool_)
    goes_on[runs.carried[runs.carried >= 0]] = True
    ended = [state.filter(pl.Series(touched & ~goes_on)), sessions.filter(pl.Series(~last_of_person))]
    going = pl.concat([state.filter(pl.Series(~touched)), sessions.filter(pl.Series(last_of_person))])
    closed, still_open = close_sessions(going, rules, watermark)
    return Sessionized(numbered, pl.concat([*ended, closed]), still_open)


def close_sessions(state: pl.DataFrame, rules: SessionRules, watermark: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide open sessions into those that no later event can join, and the rest."""
    over = (
        np.minimum(state["last_us"].to_numpy() + rules.gap, state["started_us"].to_numpy() + rules.max_session)
        < watermark
    )
    if not over.any():
        return state.clear(), state
    return state.filter(pl.Series(over)), state.filter(pl.Series(~over))


def match_state(events: pl.DataFrame, starts: I64, state: pl.DataFrame) -> I64:
    """Find each person's row in the state; one number a person, -1 where there is none."""
    if state.height == 0:
        return np.full(len(starts), -1, dtype=np.int64)
    persons = events.select("person_hash", "person_id")[starts]
    index = state.select("person_hash").with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
    found = persons.select("person_hash").join(index, on="person_hash", how="left", maintain_order="left")
    rows = found["row"].fill_null(-1).to_numpy()
    if len(rows) == len(starts):
        hit = rows >= 0
        if (persons["person_id"].filter(pl.Series(hit)) == state["person_id"].gather(rows[hit])).all():
            return rows
    # Two persons share a hash: match by the id as well.
    index = state.select("person_hash", "person_id").with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
    found = persons.join(index, on=["person_hash", "person_id"], how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy()


@dataclass(frozen=True)
class _Runs:
    """Stretches of rows of one session: first and last row, the person, and the state row that each goes on with (-1: new)."""

    begin: I64
    end: I64
    person: I64
    carried: I64
    of_row: I64


def _cut_sessions(times: I64, starts: I64, carried: I64, state: pl.DataFrame, rules: SessionRules) -> _Runs:
    n = len(times)
    person = np.zeros(n, dtype=np.int64)
    person[starts] = 1
    person = np.cumsum(person) - 1
    first = np.zeros(n, dtype=np.bool_)
    first[starts] = True
    begins = first.copy()
    begins[1:] |= np.diff(times) > rules.gap
    goes_on = np.full(n, -1, dtype=np.int64)
    if state.height:
        last, began = state["last_us"].to_numpy(), state["started_us"].to_numpy()
        known = carried >= 0
        at, rows = starts[known], carried[known]
        joins = times[at] - last[rows] <= rules.gap
        goes_on[at[joins]] = rows[joins]
    while True:
        begin = np.flatnonzero(begins)
        base = times[begin]
        if state.height:
            base = np.where(goes_on[begin] >= 0, began[goes_on[begin]], base)
        of_row = np.cumsum(begins) - 1
        beyond = times - base[of_row] > rules.max_session
        if not beyond.any():
            break
        # The first event past the longest session begins a new one; what follows is measured from there.
        rows = np.flatnonzero(beyond)
        cut = rows[np.concatenate([[True], of_row[rows][1:] != of_row[rows][:-1]])]
        begins[cut] = True
        goes_on[cut] = -1
    end = np.concatenate([begin[1:] - 1, [n - 1]])
    return _Runs(begin, end, person[begin], goes_on[begin], of_row)


def _number_events(events: pl.DataFrame, times: I64, runs: _Runs, state: pl.DataFrame) -> pl.DataFrame:
    new = runs.carried < 0
    ids = _make_ids(events, times, runs.begin)
    index = np.arange(len(times), dtype=np.int64) - runs.begin[runs.of_row]
    step = events["step"].cast(CODED)
    before = np.arange(-1, len(times) - 1)
    before[runs.begin] = 0
    previous_step = step.gather(before).set(_mask_rows(len(times), runs.begin[new]), None)
    previous_us = np.empty_like(times)
    previous_us[1:] = times[:-1]
    previous_us[runs.begin] = times[runs.begin]
    if not new.all():
        on, rows = ~new, runs.carried[~new]
        ids = ids.scatter(np.flatnonzero(on), state["session_id"].gather(rows))
        index += np.where(on, state["events"].to_numpy()[np.maximum(runs.carried, 0)], 0)[runs.of_row]
        previous_step = previous_step.scatter(runs.begin[on], state["exit_step"].gather(rows).cast(CODED))
        previous_us[runs.begin[on]] = state["last_us"].to_numpy()[rows]
    return events.with_columns(
        ids.gather(runs.of_row).alias("session_id"),
        pl.Series("session_index", index, dtype=pl.Int64).cast(pl.Int32),
        previous_step.alias("previous_step"),
        pl.Series("previous_us", previous_us),
    )


def _mask_rows(n: int, rows: I64) -> pl.Series:
    mask = np.zeros(n, dtype=np.bool_)
    mask[rows] = True
    return pl.Series(mask)


def _make_ids(events: pl.DataFrame, times: I64, begin: I64) -> pl.Series:
    person = events["person_hash"].to_numpy()[begin]
    first = hash_strings(events["event_id"].gather(begin))
    start = times[begin].view(np.uint64)
    return to_hex(mix(person, start, first, seed=1), mix(person, start, first, seed=2))


def _summarise(events: pl.DataFrame, times: I64, runs: _Runs) -> pl.DataFrame:
    begin, end = runs.begin, runs.end
    step, channel = events["step"].cast(CODED), events["channel"].cast(CODED)
    moves = to_mask(step.ne_missing(events["previous_step"]))
    switches = mark_changes(channel.to_physical().to_numpy())
    switches[begin] = True
    changes = _count_in(switches, begin)
    channels = list_runs(channel.filter(pl.Series(switches)).cast(pl.String), changes)
    if changes.max() > 2:
        channels = channels.list.unique(maintain_order=True)
    missing = pl.Series([None], dtype=pl.String).new_from_index(0, events.height)
    device = events["device_id"] if "device_id" in events.columns else missing
    user = events["user_id"] if "user_id" in events.columns else missing
    return pl.DataFrame(
        {
            "person_hash": events["person_hash"].gather(begin),
            "person_id": events["person_id"].gather(begin),
            "session_id": events["session_id"].gather(begin),
            "started_us": times[begin],
            "last_us": times[end],
            "events": end - begin + 1,
            "device_id": first_known(device, begin, end),
            "user_id": first_known(user, begin, end),
            "channels": channels,
            "exit_channel": channel.gather(end).cast(pl.String),
            "entry_step": step.gather(begin).cast(pl.String),
            "exit_step": step.gather(end).cast(pl.String),
            "steps": list_runs(step.filter(pl.Series(moves)).cast(pl.String), _count_in(moves, begin)),
            "path_cut": False,
        },
        schema=OPEN_SESSIONS,
    )


def _count_in(marks: Mask, begin: I64) -> I64:
    return np.add.reduceat(marks.astype(np.int64), begin)


def _merge_carried(sessions: pl.DataFrame, runs: _Runs, state: pl.DataFrame, rules: SessionRules) -> pl.DataFrame:
    on = runs.carried >= 0
    if on.any():
        before = state[runs.carried[on]]
        after = sessions.filter(pl.Series(on)).select(pl.all().name.prefix("new_"))
        channels = pl.concat_list("channels", "new_channels").list.unique(maintain_order=True)
        merged = before.hstack(after).with_columns(
            last_us="new_last_us",
            events=pl.col("events") + pl.col("new_events"),
            device_id=pl.coalesce("device_id", "new_device_id"),
            user_id=pl.coalesce("user_id", "new_user_id"),
            channels=channels,
            exit_channel="new_exit_channel",
            exit_step="new_exit_step",
            steps=pl.concat_list("steps", "new_steps"),
        )
        order = np.concatenate([np.flatnonzero(~on), np.flatnonzero(on)])
        together = pl.concat([sessions.filter(pl.Series(~on)), merged.select(OPEN_SESSIONS.keys())])
        sessions = together[np.argsort(order, kind="stable")]
    if int(sessions["steps"].list.len().max() or 0) > rules.max_path_steps:  # type: ignore[arg-type]
        sessions = sessions.with_columns(
            path_cut=pl.col("path_cut") | (pl.col("steps").list.len() > rules.max_path_steps),
            steps=pl.col("steps").list.head(rules.max_path_steps),
        )
    return sessions


def finish_sessions(closed: pl.DataFrame) -> pl.DataFrame:
    """Make `sessions` rows (with `dt`) of closed sessions; n -> n."""
    started, ended = to_utc(closed["started_us"].to_numpy()), to_utc(closed["last_us"].to_numpy())
    return closed.select(
        "session_id",
        "person_id",
        "device_id",
        "user_id",
        "channels",
        pl.col("channels").list.first().alias("entry_channel"),
        started.alias("started_at"),
        ended.alias("ended_at"),
        # NumPy divides; Polars multiplies by the inverse, which is off in the last bit.
        pl.Series("duration_s", (closed["last_us"].to_numpy() - closed["started_us"].to_numpy()) / 1e6),
        "events",
        "entry_step",
        "exit_step",
        "steps",
        "path_cut",
        started.dt.date().alias("dt"),
    )
